"""Networks that segment volumes, and their layers."""
