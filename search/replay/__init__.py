"""Recorded searches played again under other rules."""
