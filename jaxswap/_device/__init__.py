"""What is asked of the GPU that is there, or is imitated."""
