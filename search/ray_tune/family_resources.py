"""`MemoryNeeds`: what fold runs that ran out of memory need, kept for their family in the run directory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from data_prep.store.files import exists, join, read_bytes, write_json
from search.study.study_file import StudyResources

FILE = "memory.json"

Nodes = Callable[[], Sequence[tuple[float, float]]]
"""Returns the CPU cores and the GPUs of each node that is there."""


@dataclass(frozen=True)
class Need:
    """What a fold run is given."""

    cpu: float
    gpu: float
    micro_batches: int = 1
    """Parts, for want of memory, that its steps are computed in."""

    @property
    def text(self) -> str:
        """The need in words."""
        gpu = f", gpu={self.gpu:g}" if self.gpu else ""
        parts = f", {self.micro_batches} micro-batches" if self.micro_batches > 1 else ""
        return f"cpu={self.cpu:g}{gpu}{parts}"


class MemoryNeeds:
    """Gives a family that ran out of memory a larger share, so that fewer share its machine; then smaller parts.

    A share doubles up to a whole GPU and to the cores of the largest node that has room for it. When no node has more
    to give, the micro-batches are halved. What was learned holds for all candidates of the family and for later runs
    over the same directory; the study's own `resources` hold where they are more.

    Args:
        run_dir: the run directory.
        resources: what the study gives to fold runs.
        nodes: is asked what nodes there are.
    """

    def __init__(self, run_dir: str, resources: StudyResources, nodes: Nodes) -> None:
        self._path = join(run_dir, FILE)
        self._resources = resources
        self._nodes = nodes
        content = json.loads(read_bytes(self._path)) if exists(self._path) else {}
        self._known = {family: Need(**need) for family, need in content.items()}

    def of(self, family: str) -> Need:
        """Return what a fold run of the family is given."""
        asked, known = self._resources.of(family), self._known.get(family)
        if known is None:
            return Need(asked.cpu, asked.gpu)
        return Need(max(asked.cpu, known.cpu), max(asked.gpu, known.gpu), known.micro_batches)

    def can_grow(self, family: str) -> bool:
        """Tell whether some node has a larger share for a fold run of the family."""
        return self._larger(self.of(family)) is not None

    def sizes(self) -> list[Need]:
        """Return every size that a fold run may have."""
        usual = [Need(size.cpu, size.gpu) for size in self._resources.each()]
        return [*usual, *(self.of(family) for family in self._known)]

    def ran_out(self, family: str, given: Need) -> Need:
        """Take note that a fold run of the family ran out of memory with what it was given; return what it gets next.

        Where the family has been given more since then, that is to be tried first.
        """
        now = self.of(family)
        if now != given:
            return now
        now = self._larger(given) or Need(given.cpu, given.gpu, 2 * given.micro_batches)
        self._known[family] = now
        write_json({name: asdict(need) for name, need in self._known.items()}, self._path)
        return now

    def _larger(self, need: Need) -> Need | None:
        """Return the next larger share that some node has; of several nodes' the largest."""
        gpus = [need.gpu] if need.gpu >= 1 or need.gpu == 0 else [min(2 * need.gpu, 1.0), need.gpu]
        found = []
        for cores, gpu in self._nodes():
            for share in gpus:
                larger = Need(max(need.cpu, min(2 * need.cpu, cores)), share, need.micro_batches)
                if larger.cpu <= cores and larger.gpu <= gpu and larger != need:
                    found.append(larger)
        return max(found, key=lambda larger: (larger.gpu, larger.cpu), default=None)
