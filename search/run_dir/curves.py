"""`Curves`: every report of a fold run at a rung, in order of arrival."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import pyarrow as pa

from data_prep.store.files import join
from data_prep.store.tables import CURVES_SCHEMA, DamagedTableError, read_table, write_table
from search.run_dir.append_log import COMPACT_AT, AppendLog


@dataclass(frozen=True)
class CurvePoint:
    """What a fold run reported at a rung; a row of `curves.arrow`."""

    candidate: str
    fold: int
    progress: float
    epoch: float
    metric: float
    """The task's metric; NaN if it could not be measured."""
    seconds: float


_row = attrgetter(*CURVES_SCHEMA.names)
"""Returns the values of a point in the order of the table's columns."""


class Curves(AppendLog[CurvePoint]):
    """The table `curves.arrow` of a run directory, with later points in `curves.journal`."""

    def __init__(self, run_dir: str, *, compact_at: int = COMPACT_AT) -> None:
        super().__init__(
            join(run_dir, "curves.arrow"),
            read=_read_points,
            write=_write_points,
            encode=_row,
            decode=lambda row: CurvePoint(*row),
            compact_at=compact_at,
        )


def curves_by_candidate(points: Iterable[CurvePoint]) -> dict[str, dict[int, list[CurvePoint]]]:
    """Return the points by candidate and fold, each in order of arrival."""
    curves: dict[str, dict[int, list[CurvePoint]]] = {}
    for point in points:
        curves.setdefault(point.candidate, {}).setdefault(point.fold, []).append(point)
    return curves


def minutes_by_candidate(points: Iterable[CurvePoint]) -> dict[str, float]:
    """Return the minutes that each candidate trained, over all folds."""
    return {
        candidate: sum(max(_seconds(point) for point in curve) for curve in folds.values()) / 60
        for candidate, folds in curves_by_candidate(points).items()
    }


def _seconds(point: CurvePoint) -> float:
    return 0.0 if math.isnan(point.seconds) else max(point.seconds, 0.0)


def _read_points(path: str) -> list[CurvePoint]:
    try:
        rows = read_table(path, schema=CURVES_SCHEMA).to_pylist()
    except DamagedTableError as error:
        raise DamagedTableError(
            f"{error}. Put back a copy. If you have none, remove it and curves.journal beside it: finished fold "
            f"runs are then known from their tables, and stopped ones are tried again"
        ) from error
    return [CurvePoint(**row) for row in rows]


def _write_points(points: Sequence[CurvePoint], path: str) -> None:
    columns = zip(*map(_row, points), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, CURVES_SCHEMA, strict=True)]
    write_table(pa.table(arrays, schema=CURVES_SCHEMA), path, schema=CURVES_SCHEMA)
