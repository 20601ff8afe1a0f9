"""`OneNumber`: a row's target is one number, of any size or one of few levels."""

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.metrics import Metric
from data_prep.targets.target_kind import Floats32, TargetKind


class OneNumber(TargetKind):
    """One number for each row."""

    @property
    def names(self) -> tuple[str, ...]:
        """None: it needs no name."""
        return ()

    def _suited(self, metric: Metric) -> Metric:
        if fault := metric.target_fault(self.levels, (self.least, self.greatest)):
            raise ValueError(fault)
        return metric.for_levels(self.levels)

    def one_number(self, targets: Floats32) -> Floats32:
        """Return the targets [rows] themselves."""
        return targets

    def submitted(
        self,
        prediction: NDArray[np.float64],
        metric: str,  # noqa: ARG002
    ) -> dict[str, NDArray[np.float64] | list[str]]:
        """Return the predictions [rows] under the name of the target."""
        return {self.columns[0]: prediction}
