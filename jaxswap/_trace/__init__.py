"""Function and arguments -> program and graph."""
