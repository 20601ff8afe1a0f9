"""Predictions from a bundle."""
