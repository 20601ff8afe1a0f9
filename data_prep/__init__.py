"""CSV in, Arrow out: data, splits, and the prediction store that the other packages meet in."""
