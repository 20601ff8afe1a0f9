"""`Curves`: every rung ever reported, in the order in which it arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pyarrow as pa

from data_prep.store.files import join
from data_prep.store.tables import CURVES_SCHEMA, DamagedTableError, read_table, write_table
from search.run_dir.append_log import Record


@dataclass(frozen=True)
class CurvePoint:
    """What a fold run reported at a rung; a row of `curves.arrow`."""

    candidate: str
    fold: int
    progress: float
    epoch: float
    metric: float
    """As the task measures it; NaN where it could not be measured."""
    seconds: float


_row = attrgetter(*CURVES_SCHEMA.names)
"""Returns the values of a point in the order of the table's columns."""


class Curves:
    """The table `curves.arrow` of a run directory, with the points since it was written in `curves.journal`."""

    def __init__(self, run_dir: str) -> None:
        self._record = Record(
            join(run_dir, "curves.arrow"), read=_read_points, write=_write_points, encode=_row, decode=_point
        )

    @property
    def points(self) -> list[CurvePoint]:
        """All points, in order of arrival."""
        return self._record.entries

    def append(self, point: CurvePoint) -> None:
        """Keep a point; it is on disk when this returns."""
        self._record.append(point)

    def fold(self) -> None:
        """Bring all points into `curves.arrow`."""
        self._record.fold()


def _read_points(path: str) -> list[CurvePoint]:
    try:
        rows = read_table(path, schema=CURVES_SCHEMA).to_pylist()
    except DamagedTableError as error:
        raise DamagedTableError(
            f"{error}. Put back a copy; without one, remove it and curves.journal beside it: what is finished is then "
            f"known by its tables, and what had been stopped is tried again"
        ) from error
    return [CurvePoint(**row) for row in rows]


def _write_points(points: Sequence[CurvePoint], path: str) -> None:
    columns = zip(*map(_row, points), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, CURVES_SCHEMA, strict=True)]
    write_table(pa.table(arrays, schema=CURVES_SCHEMA), path, schema=CURVES_SCHEMA)


def _point(row: Sequence[Any]) -> CurvePoint:
    return CurvePoint(*row)
