"""Where a blend or a candidate is wrong: evidence by row and by slice, as pandas tables."""

TABLES = ("worst", "slices", "confusion", "calibration", "histogram", "disputed", "contradictions")
"""The tables of a report, in reading order; known here without pandas."""
