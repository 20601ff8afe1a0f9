"""Where the members disagree: rows that they see most differently, each on its own scale."""

import numpy as np
import pandas as pd

from blend.errors.error_rows import ErrorRows


def disagreement(rows: ErrorRows) -> pd.Series:
    """Return the standard deviation across members [rows] of their predictions, each standardized over its rows.

    A member that predicts the same for all rows does not count; NaN where fewer than two members predict a row.
    """
    columns = rows.frame[list(rows.members)]
    spread = columns.std(ddof=0)
    used = columns.loc[:, spread > 0.0]
    standard = (used - used.mean()) / spread[spread > 0.0]
    found = standard.std(axis=1, ddof=0).where(standard.notna().sum(axis=1) >= 2, np.nan)
    return pd.Series(found, index=rows.frame.index, name="disagreement", dtype=np.float64)


def most_disputed(rows: ErrorRows, n: int = 20) -> pd.DataFrame:
    """Return the `n` rows on which members disagree most, with all columns of `rows.frame` and `disagreement`."""
    found = rows.frame.assign(disagreement=disagreement(rows)).dropna(subset=["disagreement"])
    return found.sort_values("disagreement", ascending=False, kind="stable").head(n)
