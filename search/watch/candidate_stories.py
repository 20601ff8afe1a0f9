"""`explain`: the story of each candidate of a run directory, in a line.

What was scored and when comes from `curves.arrow`, and what a promotion rested on from playing that record through a
fresh ladder. What became of a candidate is what the search itself wrote into `status.json`, where its decisions stand
as they were made; where that file is older than the record (its driver was killed), the ladder's answer counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import join
from data_prep.store.oof_store import OofStore
from data_prep.store.yaml_documents import check_document
from models.candidate import Candidate
from search.ladder.decisions import CandidateStatus, FoldRun, is_dead
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.kept_study import kept_study
from search.run_dir.status_file import read_outcomes
from search.watch.leaderboard import minutes_by_candidate, read_trained

ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Story:
    """What one candidate scored, what was decided about it, and what it cost."""

    candidate: str
    label: str
    family: str
    folds: dict[int, tuple[str, ...]]
    """What each fold run showed, in order: metrics at rungs with their progress, the last one at its end."""
    promotion: str
    """Why it went on after fold 0; empty where it did not."""
    state: str
    reason: str
    minutes: float
    """Time spent training, in all folds."""

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
    """What a reader should know of the record."""

    def __rich__(self) -> RenderableType:
        """Return the lines that a console shows."""
        return Group(*(Text(str(line)) for line in (*self.notes, *self.stories)))

    @property
    def has_open_ends(self) -> bool:
        """Tell whether something is left to run."""
        return any(story.state not in ENDED for story in self.stories)


def explain(run_dir: str) -> Stories:
    """Tell the story of every candidate of a run directory.

    Raises:
        InputError: not a run directory, its prepared folder is gone, or its record is not what this version writes.
    """
    path = join(run_dir, "study.yaml")
    study = kept_study(run_dir)
    data = load_prepared(study["data"])
    ladder, notes = _known_settings(study.get("ladder", {}), path)
    settings = check_document(ladder, LadderSettings, where=f"{path}: ladder")
    candidates = read_trained(run_dir)
    played = _Played(OofStore(run_dir), data, candidates, settings.for_metric(data.task.measure))
    points = Curves(run_dir).points
    for point in points:
        played.take(point)
    return Stories(tuple(_stories(played, read_outcomes(run_dir), minutes_by_candidate(points))), notes)


def _known_settings(ladder: dict[str, Any], path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the ladder settings that this version has; a note names those that it has no more."""
    gone = [key for key in ladder if key not in LadderSettings.model_fields]
    known = {key: value for key, value in ladder.items() if key not in gone}
    if not gone:
        return known, ()
    named = ", ".join(f"{key}={ladder[key]}" for key in gone)
    return known, (
        f"{path}: ladder has settings of another version, left out here ({named}); what status.json tells was decided "
        "with them, what it does not tell is worked out without",
    )


@dataclass
class _Played:
    """The record, played through a fresh ladder."""

    store: OofStore
    data: Prepared
    candidates: dict[str, Candidate]
    settings: LadderSettings
    ladder: FoldLadder = field(init=False)
    folds: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    promotions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ladder = FoldLadder(self.settings, n_folds=self.data.manifest.n_folds)

    def take(self, point: CurvePoint) -> None:
        """Tell the ladder of a point; a fold run whose tables are gone has not ended for it."""
        run = FoldRun(point.candidate, self.candidates[point.candidate].family, point.fold)
        shown = self.folds.setdefault(point.candidate, {}).setdefault(point.fold, [])
        self.ladder.start(run)
        if run.fold > 0 and run.candidate not in self.promotions:
            self.promotions[run.candidate] = self.ladder.status_of(run.candidate).reason
        utility = self.data.task.measure.utility(point.metric)
        if point.progress < 1:
            decision = self.ladder.report(run, point.progress, utility)
        elif self.store.is_finished(run.candidate, run.fold):
            decision = self.ladder.finish(run, utility, *self._columns(run))
        elif is_dead(utility, self.settings.dead_below):
            decision = self.ladder.finish(run, utility, None, None)
        else:
            shown.append(f"{point.metric:.4f}, its tables are gone")
            return
        text = f"{point.metric:.4f}" if point.progress >= 1 else f"{point.progress:.0%} {point.metric:.4f}"
        shown.append(f"{text}, died and tried again" if decision.retry else text)

    def _columns(self, run: FoldRun) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]:
        table = self.store.read("oof", run.candidate, run.fold)
        rows = self.data.train.filter(pc.equal(self.data.train["fold"], run.fold))
        return table["prediction"].to_numpy(), table["score"].to_numpy(), rows["group"].to_numpy()


def _stories(played: _Played, outcomes: dict[str, CandidateStatus], minutes: dict[str, float]) -> Iterable[Story]:
    replayed = played.ladder.status()
    for name in [*replayed, *(name for name in played.candidates if name not in replayed)]:
        candidate, status = played.candidates[name], _told(outcomes.get(name), replayed.get(name))
        yield Story(
            candidate=name,
            label=candidate.label,
            family=candidate.family,
            folds={fold: tuple(shown) for fold, shown in played.folds.get(name, {}).items()},
            promotion=_promotion(outcomes.get(name), played.promotions.get(name, "")),
            state=status.state if name in replayed else "not begun",
            reason=status.reason,
            minutes=minutes.get(name, 0.0),
        )


def _promotion(recorded: CandidateStatus | None, rebuilt: str) -> str:
    """Return why a candidate went on: as decided, where the search wrote that down."""
    return recorded.promotion if recorded is not None and recorded.promotion else rebuilt


def _told(recorded: CandidateStatus | None, replayed: CandidateStatus | None) -> CandidateStatus:
    """Return what the search wrote, unless the record shows that it went further."""
    if recorded is not None and (recorded.state in ENDED or replayed is None or replayed.state not in ENDED):
        return recorded
    return replayed or CandidateStatus("running", "no fold run has reported yet")
