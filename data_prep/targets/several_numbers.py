"""`SeveralNumbers`: a row has several targets, each a number, some of which may be missing."""

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.metrics import Metric
from data_prep.targets.target_kind import Floats32, TargetKind


class SeveralNumbers(TargetKind):
    """As many numbers for each row as there are columns; the metric is the mean over them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the columns."""
        return self.columns

    @property
    def missing_allowed(self) -> bool:
        """A row needs one of its targets."""
        return True

    def _suited(self, metric: Metric) -> Metric:
        if fault := metric.target_fault(self.levels, (self.least, self.greatest)):
            raise ValueError(fault)
        return metric.for_levels(self.levels)

    def read_rows(self, cells: Floats32) -> tuple[Floats32, NDArray[np.intp], str]:
        """Return the cells; a row without any target is at fault."""
        return cells, np.flatnonzero(np.isnan(cells).all(axis=1)), "a row needs at least one target"

    def idle(self, targets: Floats32) -> list[str]:
        """Return the names of columns with less than two different numbers."""
        known = [column[~np.isnan(column)] for column in targets.T]
        return [name for name, column in zip(self.columns, known, strict=True) if len(np.unique(column)) < 2]

    def one_number(self, targets: Floats32) -> Floats32:
        """Return the mean of each row's targets [rows, numbers] that are there, each scaled to mean 0, deviation 1."""
        spread = np.nanstd(targets, axis=0)
        scaled = (targets - np.nanmean(targets, axis=0)) / np.where(spread > 0, spread, 1)
        return np.asarray(np.nanmean(scaled, axis=1), dtype=np.float32)

    def submitted(
        self,
        prediction: NDArray[np.float64],
        metric: str,  # noqa: ARG002
    ) -> dict[str, NDArray[np.float64] | list[str]]:
        """Return a column for each target."""
        return dict(zip(self.columns, prediction.T, strict=True))
