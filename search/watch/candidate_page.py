"""`explain_candidate`: one candidate in full: settings, every report with what was decided, what blends make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from data_prep.console import duration
from data_prep.errors import InputError
from data_prep.store.files import exists, join, list_names
from data_prep.store.sealed_records import read_record
from data_prep.store.yaml_documents import check_document
from data_prep.wording import count
from models.candidate import Candidate
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.run_dir.rebuild_ladder import LadderFeed, ReplayedPoint
from search.run_dir.run_dir import RunDir
from search.watch.candidate_stories import Story, known_settings, story_of

SHOWN_NAMES = 20


@dataclass(frozen=True)
class Report:
    """What a fold run reported, and what the ladder decided."""

    fold: int
    attempt: int
    """1 for the retry of a fold run that failed to learn."""
    progress: float
    epoch: float
    metric: float
    seconds: float
    """Since the fold run began."""
    decision: str


@dataclass(frozen=True)
class Membership:
    """What a blend makes of the candidate; all but `blend` and `weight` are None where it is no member."""

    blend: str
    weight: float
    low: float | None = None
    """5 % of the bootstrap draws of groups give it less weight."""
    high: float | None = None
    drop_cost: float | None = None
    """How much the nested metric loses without it; None also for the only member."""
    drop_cost_error: float | None = None
    """Standard error of `drop_cost`."""


@dataclass(frozen=True)
class CandidatePage:
    """One candidate in full; prints itself with rich."""

    story: Story
    metric: str
    settings: Mapping[str, Any]
    """All of its settings."""
    reports: tuple[Report, ...]
    """By fold, in order of arrival."""
    blends: tuple[Membership, ...]
    """One for each blend of the run directory."""
    notes: tuple[str, ...] = ()

    def __rich__(self) -> RenderableType:
        """Return the page that a console shows."""
        story = self.story
        name = f"{story.name}: " if story.name else ""
        lines = [
            *self.notes,
            f"{name}{story.label} {story.candidate}",
            f"state    {story.state}: {story.reason}",
            *([f"promoted {story.promotion.removeprefix('promoted: ')}"] if story.promotion else []),
            f"time     {story.minutes:.1f} minutes of training, over {count(len(story.folds), 'fold')}",
        ]
        return Group(*lines, self._settings_table(), self._reports_table(), *self._blend_lines())

    def _settings_table(self) -> Table:
        table = _table("settings that differ from their defaults", "setting", "value", "default")
        for key, value in self.settings.items():
            field = Candidate.model_fields.get(key)
            default = None if field is None or field.is_required() else field.default
            if value != default:
                table.add_row(key, str(value), "" if field is None else str(default))
        return table

    def _reports_table(self) -> Table:
        table = _table(f"reports ({self.metric})", "fold", "progress", "epoch", self.metric, "time")
        table.add_column("decision", overflow="fold", ratio=1)
        for report in self.reports:
            fold = f"{report.fold} (retry)" if report.attempt else str(report.fold)
            numbers = (f"{report.progress:.0%}", f"{report.epoch:.2g}", f"{report.metric:.4f}")
            table.add_row(fold, *numbers, duration(report.seconds), report.decision)
        return table

    def _blend_lines(self) -> list[str]:
        if not self.blends:
            return ["no blend has been fitted here yet"]
        return [_membership_line(member) for member in self.blends]


def explain_candidate(run_dir: str, candidate: str) -> CandidatePage:
    """Return one candidate of a run directory, given by its name in the study, its id or the start of that.

    The ladder's decisions are replayed from all curves.

    Raises:
        InputError: not a run directory, no such candidate, or its prepared folder is gone.
    """
    run = RunDir(run_dir)
    found = find_candidate(run, candidate)
    ladder_settings, notes = known_settings(run.study.get("ladder", {}), run.study_path)
    settings = check_document(ladder_settings, LadderSettings, where=f"{run.study_path}: ladder")
    ladder = FoldLadder(settings.for_metric(run.data.task.search_measure), n_folds=run.data.manifest.n_folds)
    feed = LadderFeed(ladder, run.store, run.data)
    replayed = [point for point in feed.replay(run.points, run.family) if point.run.candidate == found]
    return CandidatePage(
        story=story_of(run, found, replayed, ladder.status()),
        metric=run.metric.name,
        settings=run.settings(found),
        reports=tuple(sorted(map(_report, replayed), key=lambda report: report.fold)),
        blends=tuple(_memberships(run, found)),
        notes=notes,
    )


def find_candidate(run: RunDir, given: str) -> str:
    """Return the id of a candidate by its name in the study, its id or the start of that.

    Raises:
        InputError: none has it, or several ids start with it.
    """
    by_name = {name: found for name, found in (run.study.get("names") or {}).items() if found in run.candidates}
    if given in by_name:
        return str(by_name[given])
    found = [name for name in run.candidates if given and name.startswith(given)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{given}: {count(len(found), 'candidate')} begin with it: {_listed(found)}; give more of the id"
        )
    raise InputError(f"{given}: no such candidate in {run.path}; known: {_listed([*by_name, *run.candidates])}")


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "") or "none"


def _report(replayed: ReplayedPoint) -> Report:
    point, decision = replayed.point, replayed.decision
    return Report(
        fold=point.fold,
        attempt=replayed.attempt,
        progress=point.progress,
        epoch=point.epoch,
        metric=point.metric,
        seconds=point.seconds,
        decision="its tables are gone" if decision is None else decision.reason,
    )


def _memberships(run: RunDir, candidate: str) -> list[Membership]:
    found = []
    for blend in list_names(join(run.path, "blends")):
        if not exists(path := run.blend_path(blend)):
            continue
        record = read_record(path, dict, remedy="fit it again with --force")
        for one in record.get("blends", [record]):  # of several targets, one for each
            name = one["name"] if "blends" in record else blend
            found.append(_membership(name, one.get("members", []), candidate))
    return found


def _membership(blend: str, members: list[dict[str, Any]], candidate: str) -> Membership:
    member = next((one for one in members if one["candidate"] == candidate), None)
    if member is None:
        return Membership(blend, 0.0)
    spread, cost = member.get("resampled") or {}, member.get("drop_cost") or {}
    noise = (spread.get("low"), spread.get("high"), cost.get("difference"), cost.get("standard_error"))
    return Membership(blend, float(member["weight"]), *noise)


def _membership_line(member: Membership) -> str:
    if not member.weight:
        return f"blend {member.blend}: not a member"
    text = f"blend {member.blend}: weight {member.weight:.3f}"
    if member.low is not None and member.high is not None:
        text += f" (90 % of resamples {member.low:.2f} to {member.high:.2f})"
    if member.drop_cost is None:
        return f"{text}; its only member" if member.weight == 1.0 else text
    return f"{text}; without it the nested score loses {member.drop_cost:+.4f} ±{member.drop_cost_error:.4f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
