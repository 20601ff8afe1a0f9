"""`ErrorsReport`: all the evidence about errors at once, as tables of pandas and for the console."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from blend.errors import TABLES
from blend.errors.contradictions import COLUMNS, contradictions
from blend.errors.disagreement import most_disputed
from blend.errors.error_rows import ErrorRows, given_names
from blend.errors.error_shape import calibration, confusion, error_histogram, worst_rows
from blend.errors.error_slices import FEW_ROWS, slices
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.wording import count

LONGEST_TEXT = 120
"""Characters of a text that a console shows."""
SHOWN_SLICES = 12
"""Of a column with more values, the slices with the greatest errors are shown; `--by` shows all."""
SHOWN_MEMBERS = 4
SHOWN_DISPUTED = 5
SHOWN_SETS = 8
BAR = 40
"""Signs of the longest bar of the histogram."""


@dataclass(frozen=True, eq=False)
class ErrorsReport:
    """What a blend, or the best candidate, gets wrong; each field is a table that its function describes."""

    rows: ErrorRows
    worst: pd.DataFrame
    slices: pd.DataFrame
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    histogram: pd.DataFrame
    disputed: pd.DataFrame
    contradictions: pd.DataFrame
    by: str | None = None
    """The column that rows and slices were asked for by."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in TABLES}

    @property
    def summary(self) -> str:
        """What was predicted how, and how well, in a line."""
        frame, metric = self.rows.frame, self.rows.metric
        value = metric(frame["score"], frame["prediction"])
        rmse, bias = float(np.sqrt(np.mean(frame["error"] ** 2))), float(frame["error"].mean())
        return (
            f"{self.rows.source}: {self.rows.kind} predictions of {count(len(frame) // metric.n_classes, 'row')}; "
            f"{metric.name} {value:.4f}, rmse {rmse:.4f}, bias {bias:+.4f} (error: prediction - score)"
        )


def errors_report(rows: ErrorRows, *, n: int = 20, by: str | None = None) -> ErrorsReport:
    """Gather the evidence: the `n` worst and most disputed rows, slices `by` a column (None: all worth it), the rest.

    Raises:
        InputError: no column `by`.
    """
    return ErrorsReport(
        rows=rows,
        worst=worst_rows(rows, n, by=by),
        slices=slices(rows, by),
        confusion=confusion(rows),
        calibration=calibration(rows),
        histogram=error_histogram(rows),
        disputed=most_disputed(rows, n),
        contradictions=contradictions(rows.data),
        by=by,
    )


def records(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of one of the tables as mappings; the index of a confusion is a column."""
    named = table.rename(columns=lambda level: f"predicted {level:g}") if table.columns.name else table
    plain = named.reset_index() if table.index.name else named
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def console_tables(report: ErrorsReport, only: str | None = None) -> Iterator[Table | str]:
    """Yield the evidence as a console shows it, in reading order; `only` names one table, which is shown whole."""
    yield report.summary
    for name in TABLES:
        if only in (None, name) and len(report.tables[name]):
            yield from _SHOWN[name](report, only == name)
        elif name in (only, "contradictions"):
            yield f"{name}: nothing to show"


def _table(title: str, *columns: str, n_text: int = 0, caption: str | None = None) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.caption_justify = "left"
    for place, name in enumerate(columns):
        is_text = place < n_text
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    return table


def _worst(report: ErrorsReport, whole: bool) -> Iterator[Table]:  # noqa: ARG001 - as long as it was asked for
    yield _rows_table(report.rows, report.worst, f"worst rows{f', one of each {report.by}' if report.by else ''}")


def _disputed(report: ErrorsReport, whole: bool) -> Iterator[Table]:
    shown = report.disputed if whole else report.disputed.head(SHOWN_DISPUTED)
    yield _rows_table(report.rows, shown, "where members disagree most")


def _rows_table(rows: ErrorRows, frame: pd.DataFrame, title: str) -> Table:
    members = list(rows.members)[:SHOWN_MEMBERS] if len(rows.members) > 1 else []
    caption = None
    if members:
        left_out = len(rows.members) - len(members)
        named = ", ".join(_member_name(rows, name) for name in members)
        caption = f"members: {named}{f'; {left_out} more are in --csv' if left_out else ''}"
    table = _table(title, "score", "predicted", "error", *(["members"] if members else []), caption=caption)
    table.add_column(f"{', '.join(rows.texts)} (id)", overflow="fold")
    for row in frame.to_dict("records"):
        of_members = [" ".join("   -" if np.isnan(row[name]) else f"{row[name]:.2f}" for name in members)]
        texts = " / ".join(_short(str(row[name])) for name in rows.texts)
        numbers = [f"{row['score']:g}", f"{row['prediction']:.2f}", f"{row['error']:+.2f}"]
        table.add_row(*numbers, *(of_members if members else []), f"{texts} ({row['id']})")
    return table


def _member_name(rows: ErrorRows, candidate: str) -> str:
    """Return a short name: that in the study, with which its label begins, or the start of its id."""
    name, _, label = rows.members[candidate].partition(" ")
    return name if label else candidate[:6]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _slices(report: ErrorsReport, whole: bool) -> Iterator[Table]:
    for column, part in report.slices.groupby("column", sort=False):
        yield _slice_table(part, str(column), report.rows.metric.name, whole=whole or report.by is not None)


def _slice_table(part: pd.DataFrame, column: str, metric: str, *, whole: bool) -> Table:
    captions = []
    if len(part) > SHOWN_SLICES and not whole:
        captions.append(f"the {SHOWN_SLICES} with the greatest rmse of {len(part)}; --by {column} shows all")
        part = part.sort_values("rmse", ascending=False, kind="stable").head(SHOWN_SLICES)
    if part["few"].any():
        captions.append(f"* fewer than {FEW_ROWS} rows")
    title, headings = f"by {column} (±: standard error, over groups)", ("rows", metric, "bias", "rmse")
    table = _table(title, column, *headings, n_text=1, caption="; ".join(captions) or None)
    for row in part.to_dict("records"):
        n = f"{row['n']:,}{'*' if row['few'] else ' '}"
        metric = _with_noise(f"{row['metric']:.4f}", row["metric_error"]) if row["metric"] == row["metric"] else ""
        bias = _with_noise(f"{row['bias']:+.3f}", row["bias_error"])
        table.add_row(_short(str(row["value"])), n, metric, bias, f"{row['rmse']:.3f}")
    return table


def _with_noise(value: str, error: float) -> str:
    digits = len(value.rsplit(".", 1)[-1])
    return value if np.isnan(error) else f"{value} ±{error:.{digits}f}"


def _confusion(report: ErrorsReport, whole: bool) -> Iterator[Table]:  # noqa: ARG001
    counts = report.confusion
    table = _table("rows by score and nearest predicted level", "score", *(f"{level:g}" for level in counts.columns))
    for level, row in zip(counts.index, counts.to_numpy(), strict=True):
        table.add_row(f"{level:g}", *(f"{n:,}" for n in row))
    yield table


def _calibration(report: ErrorsReport, whole: bool) -> Iterator[Table]:  # noqa: ARG001
    headings = ("rows", "predicted", "mean prediction", "mean score", "±")
    table = _table("calibration: tenths of the rows by their prediction", "tenth", *headings)
    for row in report.calibration.to_dict("records"):
        table.add_row(
            str(row["decile"]),
            f"{row['n']:,}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['mean_prediction']:.3f}",
            f"{row['mean_score']:.3f}",
            f"{row['standard_error']:.3f}",
        )
    yield table


def _histogram(report: ErrorsReport, whole: bool) -> Iterator[Table]:
    table = _table("errors", "from", "to", "rows", "")
    table.columns[-1].justify = "left"
    pair = np.arange(len(report.histogram)) // (1 if whole else 2)
    shown = report.histogram.groupby(pair).agg({"low": "min", "high": "max", "n": "sum"})
    for low, high, n in shown.itertuples(index=False):
        bar = "█" * round(BAR * n / max(shown["n"].max(), 1))
        table.add_row(f"{low:+.2f}", f"{high:+.2f}", f"{n:,}", bar)
    yield table


def _contradictions(report: ErrorsReport, whole: bool) -> Iterator[Table]:
    found = report.contradictions
    texts = given_names(report.rows.task.text_columns, COLUMNS)
    n_sets = int(found["set"].max())
    shown = n_sets if whole else min(SHOWN_SETS, n_sets)
    caption = f"the first {shown} sets; --table contradictions shows all" if shown < n_sets else None
    title = f"nearly the same texts, other scores: {count(len(found), 'row')} in {count(n_sets, 'set')}"
    table = _table(title, "set", "score", "fold", caption=caption)
    table.add_column("kind", no_wrap=True)
    table.add_column(f"{', '.join(texts)} (id)", overflow="fold")
    for row in found[found["set"] <= shown].to_dict("records"):
        fold = "holdout" if row["fold"] == HOLDOUT_FOLD else str(row["fold"])
        cells = " / ".join(_short(str(row[name])) for name in texts)
        table.add_row(str(row["set"]), f"{row['score']:g}", fold, str(row["kind"]), f"{cells} ({row['id']})")
    yield table


_SHOWN: dict[str, Callable[[ErrorsReport, bool], Iterator[Table]]] = {
    "worst": _worst,
    "slices": _slices,
    "confusion": _confusion,
    "calibration": _calibration,
    "histogram": _histogram,
    "disputed": _disputed,
    "contradictions": _contradictions,
}
"""How a table is shown, by name; whole, or what matters most."""
