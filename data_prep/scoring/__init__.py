"""Metrics, their noise, and the arithmetic of weighted predictions: arrays in, numbers out."""
