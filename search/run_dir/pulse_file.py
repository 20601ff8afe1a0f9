"""`pulse.json`: what the driver of a search last told of itself, for anyone who sees the run directory.

What was decided stands in `status.json`, what was scored in the curves; here stands what neither knows: what runs now,
how fast, what is best, what it took and will take. Nothing is rebuilt from it.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from data_prep.errors import InputError
from data_prep.store.files import exists, join, read_bytes, write_json
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
    """The last rung that it reported in this run of the search; 0 before the first."""
    metric: float | None
    """At that rung; None before the first, and where it could not be measured."""


@dataclass(frozen=True)
class Leader:
    """The candidate with the best mean over the folds it has done, among those with most folds."""

    candidate: str
    label: str
    mean: float
    folds: int


@dataclass(frozen=True)
class Spent:
    """What fold runs occupied, or will."""

    core_hours: float = 0.0
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class Trouble:
    """Something that went wrong."""

    at: float
    """Seconds since 1970."""
    what: str


@dataclass(frozen=True)
class Pulse:
    """How a search stood at a moment; the content of `pulse.json`."""

    metric: str
    n_folds: int
    at: float
    """The moment, in seconds since 1970, by the driver's clock."""
    begun: float
    """When the driver began, likewise."""
    ended: str
    """Empty while the driver works; then `done`, `interrupted`, or what it died of."""
    running: tuple[LiveRun, ...]
    to_come: int
    """Candidates that have not begun."""
    counts: Mapping[str, int]
    """Fold runs of this run of the search: started, finished, stopped, dead, failed; candidates promoted."""
    rows_per_second: float | None
    """Training rows a second of the fold runs that have reported, scoring included, times how many run now."""
    seconds_left: float | None
    """At least; promotions to come are not in. None until a fold run has ended."""
    spent: Spent
    """By all runs of the search together."""
    left: Spent | None
    """At least, as `seconds_left`."""
    best: Leader | None
    blend: BestBlend | None
    troubles: tuple[Trouble, ...]
    """The latest ones, oldest first."""


def write_pulse(pulse: Pulse, run_dir: str) -> None:
    """Keep a pulse; an earlier one is replaced whole."""
    write_json(asdict(pulse), join(run_dir, PULSE_FILE))


def read_pulse(run_dir: str) -> Pulse | None:
    """Return the last pulse; None where there never was one.

    Raises:
        InputError: the file is not what this version writes.
    """
    path = join(run_dir, PULSE_FILE)
    if not exists(path):
        return None
    try:
        content: dict[str, Any] = json.loads(read_bytes(path))
        parts: dict[str, Any] = {
            "running": tuple(LiveRun(**entry) for entry in content["running"]),
            "spent": Spent(**content["spent"]),
            "left": content["left"] and Spent(**content["left"]),
            "best": content["best"] and Leader(**content["best"]),
            "blend": content["blend"] and BestBlend(**content["blend"]),
            "troubles": tuple(Trouble(**entry) for entry in content["troubles"]),
        }
        return Pulse(**{**content, **parts})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not what this version of blendfold writes ({error}). A search writes it anew every few "
            "seconds; without one remove it, nothing depends on it"
        ) from error


class Heartbeat:
    """Writes a pulse every few seconds as long as its block lasts, and a last one at its end.

    It has a thread of its own, so that no decision waits for a file system. A pulse that cannot be written ends
    nothing: it is told once.

    Args:
        run_dir: where `pulse.json` lies.
        take: returns the pulse of this moment; it is given how the search ended, an empty text while it has not.
        note: takes what a person should know.
        seconds: between two pulses.
    """

    def __init__(
        self,
        run_dir: str,
        take: Callable[[str], Pulse],
        *,
        note: Callable[[str], None],
        seconds: float = PULSE_SECONDS,
    ) -> None:
        self._run_dir = run_dir
        self._take = take
        self._note = note
        self._seconds = seconds
        self._told = False
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._listener: Callable[[Pulse], None] | None = None
        self._thread = threading.Thread(target=self._beat_on, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._beat("")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._beat(_how_it_ended(error))

    @contextmanager
    def heard_by(self, listener: Callable[[Pulse], None]) -> Iterator[None]:
        """Tell somebody else of every pulse, too, as long as the block lasts; of one at its end in any case."""
        with self._one_at_a_time:
            self._listener = listener
        try:
            yield
        finally:
            self._beat("")
            with self._one_at_a_time:
                self._listener = None

    def _beat_on(self) -> None:
        while not self._over.wait(self._seconds):
            self._beat("")

    def _beat(self, ended: str) -> None:
        with self._one_at_a_time:
            pulse = self._take(ended)
            if self._listener is not None:
                self._listener(pulse)
            try:
                write_pulse(pulse, self._run_dir)
            except OSError as error:
                if not self._told:
                    self._note(f"{PULSE_FILE} cannot be written, so `search status` shows what was: {error}")
                self._told = True


def _how_it_ended(error: BaseException | None) -> str:
    if error is None:
        return "done"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = str(error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
