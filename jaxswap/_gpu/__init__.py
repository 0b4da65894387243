"""What jaxswap knows of a GPU, its machine and its link to the host."""
