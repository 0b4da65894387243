"""Slabs of one axis as numbers: windows, sweeps, and what each of them reads."""
