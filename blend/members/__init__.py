"""Predictions of candidates, loaded and aligned."""
