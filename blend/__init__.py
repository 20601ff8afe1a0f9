"""Prediction tables in, a weighted blend and its evidence out."""
