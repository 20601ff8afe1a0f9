"""`explain`: the story of each candidate of a run directory, in one line.

A new ladder that replays `curves.arrow` shows why a candidate was promoted. Its state is the one in `status.json`, as
decided at the time, unless that is older than the curves (the driver was killed): then the new ladder's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType

from data_prep.store.yaml_documents import check_document
from search.ladder.decisions import FINISHED, CandidateStatus
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.run_dir.rebuild_ladder import LadderFeed, ReplayedPoint
from search.run_dir.run_dir import RunDir

ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Story:
    """What one candidate scored, what was decided about it, and what it cost."""

    candidate: str
    label: str
    family: str
    folds: dict[int, tuple[str, ...]]
    """The reports of each fold run in order: the metric at each rung with its progress, and the one at the end."""
    promotion: str
    """Why it was promoted after fold 0; empty if it was not."""
    state: str
    reason: str
    minutes: float
    """Time spent training, over all folds."""

    def __str__(self) -> str:
        """Return the story as one line."""
        steps = [f"fold {fold}: {', '.join(shown)}" for fold, shown in sorted(self.folds.items())]
        if self.promotion and self.state != "running":
            steps.insert(1, self.promotion)
        steps.append(f"{self.state}: {self.reason}")
        return f"{self.label} {self.candidate[:6]} ({self.minutes:.1f} min): {' -> '.join(steps)}"


@dataclass(frozen=True)
class Stories:
    """All candidates, in the order in which they first reported; prints itself with rich."""

    stories: tuple[Story, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know about the record."""

    def __rich__(self) -> RenderableType:
        """Return the lines that a console shows."""
        return Group(*self.notes, *map(str, self.stories))

    @property
    def has_open_ends(self) -> bool:
        """Whether something is left to run."""
        return any(story.state not in ENDED for story in self.stories)


def explain(run_dir: str) -> Stories:
    """Return the story of every candidate of a run directory.

    Raises:
        InputError: not a run directory, its prepared folder is gone, or its record is not what this version writes.
    """
    run = RunDir(run_dir)
    ladder, notes = _known_settings(run.study.get("ladder", {}), run.study_path)
    settings = check_document(ladder, LadderSettings, where=f"{run.study_path}: ladder")
    return Stories(tuple(_stories(run, settings.for_metric(run.data.task.measure))), notes)


def _known_settings(ladder: dict[str, Any], path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the ladder settings that this version knows, and a note that names the others."""
    gone = [key for key in ladder if key not in LadderSettings.model_fields]
    known = {key: value for key, value in ladder.items() if key not in gone}
    if not gone:
        return known, ()
    named = ", ".join(f"{key}={ladder[key]}" for key in gone)
    return known, (
        f"{path}: ladder has settings of another version, ignored here ({named}). The decisions in status.json were "
        "made with them; decisions that are not there are worked out without them",
    )


def _shown(replayed: ReplayedPoint) -> str:
    """Return what a story says about one report."""
    point, decision = replayed.point, replayed.decision
    if decision is None:
        return f"{point.metric:.4f}, its tables are gone"
    text = f"{point.metric:.4f}" if point.progress >= FINISHED else f"{point.progress:.0%} {point.metric:.4f}"
    return f"{text}, failed to learn, tried again" if decision.retry else text


def _stories(run: RunDir, settings: LadderSettings) -> Iterator[Story]:
    """Replay the record through a new ladder; yield the story of each candidate."""
    ladder = FoldLadder(settings, n_folds=run.data.manifest.n_folds)
    folds: dict[str, dict[int, list[str]]] = {}
    for replayed in LadderFeed(ladder, run.store, run.data).replay(run.points, run.family):
        point = replayed.point
        folds.setdefault(point.candidate, {}).setdefault(point.fold, []).append(_shown(replayed))
    rebuilt = ladder.status()
    for name in [*rebuilt, *(name for name in run.candidates if name not in rebuilt)]:
        recorded = run.statuses.get(name)
        status = _latest_status(recorded, rebuilt.get(name))
        yield Story(
            candidate=name,
            label=run.label(name),
            family=run.family(name),
            folds={fold: tuple(shown) for fold, shown in folds.get(name, {}).items()},
            promotion=_promotion(recorded, rebuilt.get(name)),
            state=status.state if name in rebuilt else "not started",
            reason=status.reason,
            minutes=run.minutes.get(name, 0.0),
        )


def _promotion(recorded: CandidateStatus | None, rebuilt: CandidateStatus | None) -> str:
    """Return why a candidate was promoted: as decided at the time, if the search wrote that down."""
    return next((status.promotion for status in (recorded, rebuilt) if status and status.promotion), "")


def _latest_status(recorded: CandidateStatus | None, replayed: CandidateStatus | None) -> CandidateStatus:
    """Return what the search wrote, unless the record shows that it got further."""
    if recorded is not None and (recorded.state in ENDED or replayed is None or replayed.state not in ENDED):
        return recorded
    return replayed or CandidateStatus("running", "no fold run has reported yet")
