"""Whole experiments: training, prediction and evaluation in one."""
