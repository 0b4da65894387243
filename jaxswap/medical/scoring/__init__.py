"""Predictions and references -> metrics, tables and pictures."""
