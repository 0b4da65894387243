"""Program and schedule -> a function that JAX can run."""
