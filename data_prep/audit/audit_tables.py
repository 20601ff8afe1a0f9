"""An audit as tables for the console."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from data_prep.audit.audit_report import AuditReport, Repeats
from data_prep.console import new_table
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.target_counts import targets_table
from data_prep.wording import count

LEFT: dict[str, Any] = {"title_justify": "left", "caption_justify": "left"}


def audit_tables(report: AuditReport) -> Iterator[Table]:
    """Yield the tables of a report in reading order."""
    yield _folds(report)
    if report.targets:
        yield targets_table(report.targets, **LEFT)
    yield _columns(report)
    yield _repeated(report)
    yield _leakage(report)


def _folds(report: AuditReport) -> Table:
    levels = list(report.folds[0].score_counts)
    names = f", {report.group_names:,} names" if report.group_names is not None else ""
    title = (
        f"{'Rows with each score' if levels else 'Rows of each fold'} ({count(report.linked_groups, 'group')}{names})"
    )
    means = [] if report.targets else ["mean"]
    table = new_table(title, "fold", "rows", "groups", *levels, *means, **LEFT)
    for one in report.folds:
        name = "holdout" if one.fold == HOLDOUT_FOLD else str(one.fold)
        counts = (f"{one.score_counts[level]:,}" for level in levels)
        mean = [] if one.score_mean is None else [f"{one.score_mean:.4f}"]
        table.add_row(name, f"{one.rows:,}", f"{one.groups:,}", *counts, *mean)
    table.add_section()
    table.add_row("test", f"{report.rows['test']:,}")
    return table


def _columns(report: AuditReport) -> Table:
    columns = ("column", "train", "test", "in both", "in several folds", "rows with those")
    table = new_table("Different texts", *columns, **LEFT)
    for one in report.columns:
        numbers = (one.train, one.test, one.in_both, one.in_several_folds, one.rows_in_several_folds)
        table.add_row(one.column, *(f"{number:,}" for number in numbers))
    return table


def _repeated(report: AuditReport) -> Table:
    columns = ("what", "sets", "rows", "scores differ", "across folds")
    table = new_table("Rows with the same texts", *columns, **LEFT)
    kinds: dict[str, Repeats | None] = {
        "equal in every text": report.repeated_rows,
        "same pair, several contexts": report.repeated_pairs,
        "equal but for case, plural, order": report.near_duplicates,
        "groups equal but for case, form, ends": report.equal_names,
    }
    for name, found in kinds.items():
        if found is not None:
            numbers = (found.sets, found.rows, found.differing_scores, found.across_folds)
            table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def _leakage(report: AuditReport) -> Table:
    found = report.leakage
    rows = f"{found.scored_rows:,} rows scored from {found.pool_rows:,}, the same under every scheme"
    title = "Leakage: how a nearest-neighbour model scores under each split scheme"
    caption = f"inflation over {found.reference}; {rows}"
    table = new_table(title, "scheme", "metric", "inflation", "standard error", caption=caption, **LEFT)
    for one in found.schemes:
        table.add_row(one.scheme, f"{one.metric:.4f}", f"{one.inflation:+.4f}", f"{one.standard_error:.4f}")
    return table
