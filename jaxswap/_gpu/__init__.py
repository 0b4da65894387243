"""GPUs, their machines and their links to the host, as numbers."""
