"""What a fold run reports at its rungs, each report delivered once."""

from collections.abc import Callable
from dataclasses import dataclass

from models.training.checkpoint import CheckpointFolder


@dataclass(frozen=True)
class RungReport:
    """What a fold run reports at a rung."""

    progress: float
    """The rung: share of the schedule done, in (0, 1]."""
    epoch: float
    """Epochs trained."""
    metric: float
    """The task's metric on the validation rows measured; NaN where it is undefined, where all predictions are the same,
    and where the training loss has diverged since the last rung (see `models.training.divergence`)."""
    seconds: float
    """Time spent on this fold run, resumed parts included."""
    rows: int
    """Validation rows measured: a sample on early rungs with `rung_rows`, at 1.0 the whole fold."""
    micro_batches: int = 1
    """Parts that a step is computed in because memory ran out, times the candidate's `accumulation`."""
    fault: str = ""
    """Why the metric is NaN, where it is."""


Report = Callable[[RungReport], bool]
"""Takes a report; False stops the fold run."""


def never_stop(report: RungReport) -> bool:  # noqa: ARG001 - a `Report`
    """Continue, whatever the report says."""
    return True


class RungReports:
    """The reports of a fold run so far. How many were delivered stays in `folder`, so none is delivered twice."""

    def __init__(self, report: Report, folder: CheckpointFolder | None) -> None:
        self.made: list[RungReport] = []
        self._report, self._folder = report, folder
        self._delivered = folder.delivered if folder else 0

    def deliver(self, *, before_each: Callable[[], None]) -> bool:
        """Deliver the reports that were not delivered yet; False when one of them stops the run."""
        while self._delivered < len(self.made):
            before_each()
            proceed = self._report(self.made[self._delivered])
            self._delivered += 1
            if self._folder:
                self._folder.delivered = self._delivered
            if not proceed:
                return False
        return True
