"""Graph and actions -> the order of operations and copies."""
