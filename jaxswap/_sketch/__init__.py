"""Actions -> bytes and seconds of their draft, without the draft, and fast."""
