"""Where a blend or a candidate is wrong: evidence by row and by slice, as pandas tables."""
