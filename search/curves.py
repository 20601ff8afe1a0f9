"""`Curves`: every rung ever reported, in the order in which it arrived."""

from dataclasses import astuple, dataclass

import pyarrow as pa

from data_prep.tables import CURVES_SCHEMA, exists, join, read_table, write_table


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


class Curves:
    """The table `curves.arrow` of a run directory. The driver alone writes it, whole, at every new point."""

    def __init__(self, run_dir: str) -> None:
        self._path = join(run_dir, "curves.arrow")
        self.points: list[CurvePoint] = []
        if exists(self._path):
            rows = read_table(self._path, schema=CURVES_SCHEMA).to_pylist()
            self.points = [CurvePoint(**row) for row in rows]

    def append(self, point: CurvePoint) -> None:
        """Keep a point; it is on disk when this returns."""
        self.points.append(point)
        columns = zip(*(astuple(point) for point in self.points), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, CURVES_SCHEMA, strict=True)]
        write_table(pa.table(arrays, schema=CURVES_SCHEMA), self._path, schema=CURVES_SCHEMA)
