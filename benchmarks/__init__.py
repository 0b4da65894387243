"""Measurements: one script for each question, one line of JSON for each answer."""
