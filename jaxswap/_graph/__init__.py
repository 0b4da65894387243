"""A traced program as plain data."""
