"""Heads and tumours drawn from recipes."""
