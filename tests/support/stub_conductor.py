"""A conductor that hands out a given list of fold runs and records the calls that it gets."""

from dataclasses import dataclass, field
from typing import Any

from models.candidate import Candidate
from search.ladder.decisions import Decision
from search.run_dir.curves import CurvePoint
from search.worker.messages import Assignment


@dataclass
class StubConductor:
    """Hands out a list of fold runs and records the calls that it gets."""

    waiting: list[Assignment]
    go: bool = True
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def next_assignment(self) -> Assignment | None:
        return self.waiting.pop(0) if self.waiting else None

    def observe(self, assignment: Assignment, point: CurvePoint) -> Decision:
        self.calls.append((f"observe {assignment.fold}", point.progress))
        return Decision(self.go, "decided")

    def fail(self, assignment: Assignment, reason: str) -> None:
        self.calls.append((f"fail {assignment.fold}", reason))

    def note(self, assignment: Assignment, text: str) -> None:
        self.calls.append((f"note {assignment.fold}", text))

    def publish(self) -> None:
        self.calls.append(("publish", None))

    def lose(self, assignment: Assignment, reason: str) -> None:
        self.calls.append((f"lose {assignment.fold}", reason))
        self.waiting.insert(0, assignment)


def assignments(number: int) -> list[Assignment]:
    return [Assignment(Candidate(), fold, 0) for fold in range(number)]
