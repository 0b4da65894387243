"""Schedule -> seconds and bytes on a GPU."""
