"""`explain`: the story of each candidate of a run directory, in one line.

States and promotions are those in `status.json`, as decided at the time. Where that is missing or older than the curves
(the driver was killed), a new ladder replays all of `curves.arrow`; otherwise only the reports of what is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType

from data_prep.store.yaml_documents import check_document
from data_prep.wording import count
from search.ladder.decisions import FINISHED, CandidateStatus
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.run_dir.rebuild_ladder import LadderFeed, ReplayedPoint
from search.run_dir.run_dir import RunDir
from search.watch.settings_apart import SettingsApart

ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Story:
    """What one candidate scored, what was decided about it, and what it cost."""

    candidate: str
    name: str
    """In the study; empty for one that the sampler drew."""
    label: str
    family: str
    settings: str
    """Those in which it differs from what most of the candidates shown have."""
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
        apart = f" [{self.settings}]" if self.settings else ""
        title = f"{self.name or self.label} {self.candidate[:6]}"
        return f"{title}{apart} ({self.minutes:.1f} min): {' -> '.join(steps)}"


@dataclass(frozen=True)
class Stories:
    """The latest candidates, in the order in which they first reported; prints itself with rich."""

    stories: tuple[Story, ...]
    n_candidates: int
    has_open_ends: bool
    """Whether something is left to run, also of candidates that are not shown."""
    notes: tuple[str, ...] = ()
    """What a reader should know about the record."""

    def __rich__(self) -> RenderableType:
        """Return the lines that a console shows."""
        more = self.n_candidates - len(self.stories)
        earlier = [f"{count(more, 'earlier candidate')}; show them with --all"] if more else []
        return Group(*self.notes, *earlier, *map(str, self.stories))


def explain(run_dir: str, *, most: int | None = None) -> Stories:
    """Return the story of every candidate of a run directory, or of the `most` that reported first last.

    Raises:
        InputError: not a run directory, its prepared folder is gone, or its record is not what this version writes.
    """
    run = RunDir(run_dir)
    ladder, notes = known_settings(run.study.get("ladder", {}), run.study_path)
    settings = check_document(ladder, LadderSettings, where=f"{run.study_path}: ladder")
    names = [*run.curves, *(name for name in run.candidates if name not in run.curves)]
    shown = names[-most:] if most else names
    stories, statuses = _stories(run, settings.for_metric(run.data.task.search_measure), shown)
    open_ends = any(name not in statuses or statuses[name].state not in ENDED for name in names)
    return Stories(tuple(stories), len(names), open_ends, notes)


def known_settings(ladder: dict[str, Any], path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
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


def _stories(
    run: RunDir, settings: LadderSettings, shown: Sequence[str]
) -> tuple[list[Story], dict[str, CandidateStatus]]:
    """Return the stories of some candidates, and the status of all that have reported."""
    ladder = FoldLadder(settings, n_folds=run.data.manifest.n_folds)
    in_full = _must_replay(run, settings, shown)
    points = run.points if in_full else [point for point in run.points if point.candidate in set(shown)]
    replayed: dict[str, list[ReplayedPoint]] = {name: [] for name in shown}
    for point in LadderFeed(ladder, run.store, run.data).replay(points, run.family):
        if point.run.candidate in replayed:
            replayed[point.run.candidate].append(point)
    rebuilt = ladder.status() if in_full else {}
    apart = SettingsApart.of(run, shown)
    statuses = {name: _latest_status(run.statuses.get(name), rebuilt.get(name)) for name in run.curves}
    return [story_of(run, name, replayed[name], rebuilt, apart.text(name)) for name in shown], statuses


def story_of(
    run: RunDir,
    name: str,
    replayed: Sequence[ReplayedPoint],
    rebuilt: Mapping[str, CandidateStatus],
    settings: str = "",
) -> Story:
    """Return the story of a candidate from its replayed reports and the states of a rebuilt ladder, if there is one."""
    folds: dict[int, list[str]] = {}
    for point in replayed:
        folds.setdefault(point.run.fold, []).append(_shown(point))
    recorded, status = run.statuses.get(name), None
    if name in run.curves:
        status = _latest_status(recorded, rebuilt.get(name))
    return Story(
        candidate=name,
        name=run.names.get(name, ""),
        label=run.label(name),
        family=run.family(name),
        settings=settings,
        folds={fold: tuple(texts) for fold, texts in folds.items()},
        promotion=_promotion(recorded, rebuilt.get(name)),
        state=status.state if status else "not started",
        reason=status.reason if status else "no fold run has reported yet",
        minutes=run.minutes.get(name, 0.0),
    )


def _must_replay(run: RunDir, settings: LadderSettings, shown: Sequence[str]) -> bool:
    """Return whether `status.json` does not tell all that is shown: it is missing, too old, or of an older version."""
    if run.curves.keys() - run.statuses.keys() or not (run.has_driver or run.status_is_current):
        return True
    past_fold_0 = [name for name in shown if len(run.curves.get(name, ())) > 1]
    return settings.enabled and any(not run.statuses[name].promotion for name in past_fold_0)


def _promotion(recorded: CandidateStatus | None, rebuilt: CandidateStatus | None) -> str:
    """Return why a candidate was promoted: as decided at the time, if the search wrote that down."""
    return next((status.promotion for status in (recorded, rebuilt) if status and status.promotion), "")


def _latest_status(recorded: CandidateStatus | None, replayed: CandidateStatus | None) -> CandidateStatus:
    """Return what the search wrote, unless the record shows that it got further."""
    if recorded is not None and (recorded.state in ENDED or replayed is None or replayed.state not in ENDED):
        return recorded
    return replayed or CandidateStatus("running", "no fold run has reported yet")
