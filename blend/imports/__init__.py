"""Predictions that others made."""
