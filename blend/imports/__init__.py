"""Predictions that others made, taken over as candidates."""
