"""A conductor that hands out a given list of fold runs and keeps what it hears."""

from dataclasses import dataclass, field
from typing import Any

from models.candidate import Candidate
from search.driver.conductor import Assignment
from search.ladder.decisions import Decision
from search.run_dir.curves import CurvePoint


@dataclass
class StubConductor:
    """Hands out a list of fold runs and notes what it is told."""

    waiting: list[Assignment]
    go: bool = True
    told: list[tuple[str, Any]] = field(default_factory=list)

    def next_assignment(self) -> Assignment | None:
        return self.waiting.pop(0) if self.waiting else None

    def observe(self, assignment: Assignment, point: CurvePoint) -> Decision:
        self.told.append((f"observe {assignment.fold}", point.progress))
        return Decision(self.go, "as told")

    def fail(self, assignment: Assignment, reason: str) -> None:
        self.told.append((f"fail {assignment.fold}", reason))

    def publish(self) -> None:
        self.told.append(("publish", None))

    def lose(self, assignment: Assignment, reason: str) -> None:
        self.told.append((f"lose {assignment.fold}", reason))
        self.waiting.insert(0, assignment)


def assignments(number: int) -> list[Assignment]:
    return [Assignment(Candidate(), fold, 0) for fold in range(number)]
