"""The commands for medical volumes; each imports what it needs once it runs."""
