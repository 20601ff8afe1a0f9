"""Writes a run directory as event files for TensorBoard."""

import hashlib
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.watch.tracked_run import TrackedCandidate, TrackedFold, TrackedRun, step_of

OURS = "events.out.tfevents.*.blendfold"


def write_event_files(run: TrackedRun, folder: Path) -> tuple[int, int]:
    """Bring a folder up to date with a run; return how many files were written, and how many were up to date.

    Each candidate has a folder with its settings and its mean score, and in it a folder for each fold with its curve.
    """
    written = [change for candidate in run.candidates for change in _write_candidate(run, candidate, folder)]
    return sum(written), len(written) - sum(written)


def _write_candidate(run: TrackedRun, candidate: TrackedCandidate, folder: Path) -> list[bool]:
    home = folder / candidate.name
    arrived = sum(fold.arrived for fold in candidate.folds)
    changes = [_write(home, arrived, f"{candidate}", lambda writer: _write_settings(writer, run, candidate))]
    for fold in candidate.folds:

        def fill(writer: Any, fold: TrackedFold = fold) -> None:
            _write_curve(writer, run, fold)

        changes.append(_write(home / f"fold-{fold.fold}", fold.arrived, f"{fold.points}", fill))
    return changes


def _write(folder: Path, arrived: int, content: str, fill: Callable[[Any], None]) -> bool:
    """Write the one event file of a folder unless it exists; its name is a digest of its content.

    TensorBoard moves on to files whose names sort later, so the number of points comes first in the name.
    """
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    target = folder / f"events.out.tfevents.{arrived:08d}.{digest}.blendfold"
    if target.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        with _writer_class()(temporary) as writer:
            fill(writer)
        (made,) = Path(temporary).iterdir()
        made.replace(target)
    for old in set(folder.glob(OURS)) - {target}:
        old.unlink()
    return True


def _writer_class() -> Any:
    """Return the writer of event files, imported without torch, which it would load for tensors that we never give."""
    without_torch = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - slow to import
    finally:
        if without_torch:
            del sys.modules["torch"]
    return SummaryWriter


def _write_curve(writer: Any, run: TrackedRun, fold: TrackedFold) -> None:
    for point in fold.points:
        for name, value in ((run.metric, point.metric), ("epoch", point.epoch)):
            writer.add_scalar(name, value, step_of(point), walltime=point.seconds)


def _write_settings(writer: Any, run: TrackedRun, candidate: TrackedCandidate) -> None:
    from tensorboardX.summary import hparams  # noqa: PLC0415 - slow to import

    mean, metric = candidate.mean, f"mean_{run.metric}"
    plain = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in candidate.settings.items()
    }
    for summary in hparams(plain, {metric: mean}):
        writer.file_writer.add_summary(summary)
    writer.add_text("state", f"{candidate.state}: {candidate.reason}")
    if not math.isnan(mean):
        writer.add_scalar(metric, mean, len(candidate.folds))
