"""Prediction tables in; a weighted blend, its evidence and a submission out."""
