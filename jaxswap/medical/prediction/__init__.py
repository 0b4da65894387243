"""A trained network and cases -> labels."""
