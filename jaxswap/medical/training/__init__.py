"""Settings and prepared cases -> a trained network."""
