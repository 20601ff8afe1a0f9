"""`saved_time`: what early stopping saved against the full grid: every candidate on every fold to the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.ladder.decisions import FINISHED
from search.run_dir.curves import CurvePoint
from search.run_dir.run_dir import RunDir

OPEN = ("running", "queued", "waiting")


@dataclass(frozen=True)
class SavedTime:
    """Minutes of training, over all candidates that have reported."""

    full: float
    """What every candidate on every fold would have taken, each as fast as its own fold runs were."""
    trained: float
    cut: float
    """Saved by stopping fold runs at a rung."""
    not_promoted: float
    """Saved by folds that were never started, of candidates that were stopped."""
    open: float
    """May still come: folds of candidates that are not decided yet."""

    @property
    def saved(self) -> float:
        """What was saved for certain."""
        return self.cut + self.not_promoted

    @property
    def share(self) -> float:
        """The share of the full grid that was saved."""
        return self.saved / self.full if self.full else 0.0


def saved_time(run: RunDir) -> SavedTime:
    """Return what was trained and what was left out."""
    full = trained = cut = skipped = still_open = 0.0
    for candidate, curves in run.curves.items():
        whole = _whole_minutes(curves)
        status = run.statuses.get(candidate)
        spent = [_minutes(curve) for curve in curves.values()]
        is_open = (status is None or status.state in OPEN) and run.has_driver
        left_of_cut = sum(max(whole - _minutes(curve), 0.0) for curve in curves.values() if not _is_whole(curve))
        left_out = whole * max(run.n_folds - len(curves), 0)
        trained += sum(spent)
        full += sum(spent) + left_of_cut + left_out
        if is_open:
            still_open += left_of_cut + left_out
        else:
            cut, skipped = cut + left_of_cut, skipped + left_out
    return SavedTime(full, trained, cut, skipped, still_open)


def _is_whole(curve: Sequence[CurvePoint]) -> bool:
    return any(point.progress >= FINISHED for point in curve)


def _minutes(curve: Sequence[CurvePoint]) -> float:
    return max((max(point.seconds, 0.0) for point in curve if point.seconds == point.seconds), default=0.0) / 60


def _whole_minutes(curves: Mapping[int, Sequence[CurvePoint]]) -> float:
    """Return the minutes of one whole fold run: the mean of those that ended, else at the speed of those that began."""
    ended = [_minutes(curve) for curve in curves.values() if _is_whole(curve)]
    if ended:
        return sum(ended) / len(ended)
    begun = [_minutes(curve) / max(point.progress for point in curve) for curve in curves.values()]
    return sum(begun) / len(begun) if begun else 0.0
