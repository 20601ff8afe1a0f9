"""Predictions of candidates, loaded from run directories and aligned by row."""
