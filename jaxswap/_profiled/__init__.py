"""What a profiler recorded on a GPU -> the lanes of a step."""
