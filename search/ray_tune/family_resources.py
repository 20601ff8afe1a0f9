"""`FamilyResources`: what fold runs get after their family ran out of memory, kept in the run directory."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from data_prep.store.files import exists, join
from data_prep.store.sealed_records import read_record, write_record
from search.study.study_file import StudyResources
from search.worker.messages import FoldRunResources

FILE = "memory.json"


class FamilyResources:
    """Gives a family that ran out of memory a larger share of its machine; when there is none, smaller micro-batches.

    A share doubles up to a whole GPU and to the cores of the largest node that has room for it; then micro-batches are
    halved. This holds for the whole family and for later runs over the same directory; the study's `resources` hold
    where they are more. `nodes` returns the CPU cores and the GPUs of each node.
    """

    def __init__(
        self, run_dir: str, resources: StudyResources, nodes: Callable[[], Sequence[tuple[float, float]]]
    ) -> None:
        self._path = join(run_dir, FILE)
        self._resources = resources
        self._nodes = nodes
        remedy = "put back a copy, or remove it: families that run out of memory are then found again"
        self._known = read_record(self._path, _resources, remedy=remedy) if exists(self._path) else {}

    def of(self, family: str) -> FoldRunResources:
        """Return what a fold run of the family gets."""
        usual, known = self._resources.of(family), self._known.get(family)
        if known is None:
            return FoldRunResources(usual.cpu, usual.gpu)
        return FoldRunResources(max(usual.cpu, known.cpu), max(usual.gpu, known.gpu), known.micro_batches)

    def can_grow(self, family: str) -> bool:
        """Return whether some node has a larger share for a fold run of the family."""
        return self._larger(self.of(family)) is not None

    def sizes(self) -> list[FoldRunResources]:
        """Return every size that a fold run may have."""
        usual = [FoldRunResources(size.cpu, size.gpu) for size in self._resources.each()]
        return [*usual, *(self.of(family) for family in self._known)]

    def ran_out(self, family: str, given: FoldRunResources) -> FoldRunResources:
        """Record that a fold run of the family ran out of memory with what it had; return what the next one gets.

        Where the family has got more since then, that is tried first.
        """
        now = self.of(family)
        if now != given:
            return now
        now = self._larger(given) or FoldRunResources(given.cpu, given.gpu, 2 * given.micro_batches)
        self._known[family] = now
        write_record({name: asdict(known) for name, known in self._known.items()}, self._path)
        return now

    def _larger(self, given: FoldRunResources) -> FoldRunResources | None:
        """Return the next larger share that some node has, the largest where nodes differ; None: no node has more."""
        gpus = [given.gpu] if given.gpu >= 1 or given.gpu == 0 else [min(2 * given.gpu, 1.0), given.gpu]
        found = []
        for cores, gpu in self._nodes():
            for share in gpus:
                larger = FoldRunResources(max(given.cpu, min(2 * given.cpu, cores)), share, given.micro_batches)
                if larger.cpu <= cores and larger.gpu <= gpu and larger != given:
                    found.append(larger)
        return max(found, key=lambda larger: (larger.gpu, larger.cpu), default=None)


def _resources(content: dict[str, Any]) -> dict[str, FoldRunResources]:
    return {family: FoldRunResources(**known) for family, known in content.items()}
