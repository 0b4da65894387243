"""Graph and limit -> the best draft that is found."""
