"""Estimates what a study will cost before it starts."""
