"""Whole experiments: training, prediction and evaluation together."""
