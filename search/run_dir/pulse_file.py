"""`pulse.json`: what the driver of a search last wrote about itself; nothing is rebuilt from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_prep.store.files import exists, join
from data_prep.store.sealed_records import read_record, write_record
from search.ladder.decisions import BestBlend

PULSE_FILE = "pulse.json"
PULSE_SECONDS = 5.0
"""Time between two pulses."""


@dataclass(frozen=True)
class LiveRun:
    """A fold run on a worker."""

    candidate: str
    label: str
    fold: int
    attempt: int
    seconds: float
    """Since it started there."""
    progress: float
    """The last rung it reported in this run of the search; 0 before the first."""
    metric: float | None
    """At that rung; None before the first, and if it could not be measured."""


@dataclass(frozen=True)
class Leader:
    """The candidate with the best mean over its finished folds, among those with the most folds."""

    candidate: str
    label: str
    mean: float
    folds: int


@dataclass(frozen=True)
class Spent:
    """Hours of cores and GPUs that fold runs held, or will hold."""

    core_hours: float = 0.0
    gpu_hours: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.core_hours + other.core_hours, self.gpu_hours + other.gpu_hours)

    def __mul__(self, factor: float) -> "Spent":
        return Spent(self.core_hours * factor, self.gpu_hours * factor)


@dataclass(frozen=True)
class Trouble:
    """Something that went wrong."""

    at: float
    """Seconds since 1970."""
    what: str


@dataclass(frozen=True)
class Pulse:
    """The state of a search at one moment; the content of `pulse.json`."""

    metric: str
    n_folds: int
    at: float
    """The moment, in seconds since 1970, by the driver's clock."""
    begun: float
    """When the driver started, likewise."""
    ended: str
    """Empty while the driver works; then `done`, `interrupted`, or the error that ended it."""
    running: tuple[LiveRun, ...]
    to_come: int
    """Candidates that have not started."""
    counts: Mapping[str, int]
    """Fold runs of this run of the search: started, finished, stopped, dead (failed to learn), failed; candidates
    promoted; and fold runs done, those of earlier runs included."""
    rows_per_second: float | None
    """Training rows a second of the fold runs that have reported, scoring included, times how many run now."""
    seconds_left: float | None
    """At least; future promotions are not included. None until a fold run has ended."""
    spent: Spent
    """By all runs of the search together."""
    left: Spent | None
    """At least, as `seconds_left`."""
    best: Leader | None
    blend: BestBlend | None
    troubles: tuple[Trouble, ...]
    """The latest ones, oldest first."""
    moved: float | None = None
    """When a fold run last started, reported or ended, in seconds since 1970; earlier versions did not say."""
    seconds_left_most: float | None = None
    """With the promotions to expect."""
    left_most: Spent | None = None
    """Likewise."""
    runs_least: int | None = None
    """Fold runs that the search will have ended at least, those of earlier runs included."""
    runs_most: float | None = None
    """With the promotions to expect."""

    @property
    def ended_runs(self) -> int:
        """Fold runs that finished, those of earlier runs included, or were stopped or failed in this one."""
        counts = self.counts
        return counts.get("done", counts["finished"]) + counts["stopped"] + counts["failed"]


def describe_ends(counts: Mapping[str, int]) -> str:
    """Return how many fold runs ended in which way; the finished ones of earlier runs of the search count too."""
    words = {"started": "started", "stopped": "stopped", "dead": "failed to learn", "failed": "failed"}
    ends = ", ".join(f"{counts[name]} {word}" for name, word in words.items())
    return f"{counts.get('done', counts['finished'])} finished; in this run {ends}"


def write_pulse(pulse: Pulse, run_dir: str) -> None:
    """Write a pulse; it replaces the last one."""
    write_record(asdict(pulse), join(run_dir, PULSE_FILE))


def read_pulse(run_dir: str) -> Pulse | None:
    """Return the last pulse; None if none was ever written.

    Raises:
        InputError: the file is not what this version writes.
    """
    path = join(run_dir, PULSE_FILE)
    if not exists(path):
        return None
    remedy = "a running search rewrites it every few seconds; if none runs, remove it: nothing depends on it"
    return read_record(path, _pulse, remedy=remedy)


def _pulse(content: dict[str, Any]) -> Pulse:
    parts: dict[str, Any] = {
        "running": tuple(LiveRun(**entry) for entry in content["running"]),
        "spent": Spent(**content["spent"]),
        "left": content["left"] and Spent(**content["left"]),
        "left_most": content.get("left_most") and Spent(**content["left_most"]),
        "best": content["best"] and Leader(**content["best"]),
        "blend": content["blend"] and BestBlend(**content["blend"]),
        "troubles": tuple(Trouble(**entry) for entry in content["troubles"]),
    }
    return Pulse(**{**content, **parts})
