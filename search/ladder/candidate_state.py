"""What the ladder knows of one candidate."""

from dataclasses import dataclass, field

from search.ladder.decisions import BlendGain, CandidateStatus, FoldRun, StateName

AT_FIRST = CandidateStatus("running", "every candidate starts on fold 0")


@dataclass(eq=False)
class CandidateState:
    """What the ladder knows of one candidate."""

    name: str
    family: str
    number: int = 0
    """Order of first sight."""
    status: CandidateStatus = AT_FIRST
    promoted: bool = False
    """Goes on to the later folds."""
    revived: bool = False
    """Was taken back because nothing else was left; never cut at a rung again."""
    promotion: str = ""
    """Why it goes on; while it waits, why the ladder would let it, when it last would."""
    gain: BlendGain | None = None
    """What it was last seen to add to the blend on fold 0."""
    metrics: dict[int, float] = field(default_factory=dict)
    """Utility of each finished fold."""
    rungs: dict[tuple[int, float], float] = field(default_factory=dict)
    """Utility at each (fold, rung) passed alive."""
    live: set[int] = field(default_factory=set)
    """Folds in the hands of a worker."""
    again: set[int] = field(default_factory=set)
    """Folds to be handed out again: died once, or lost with their worker."""
    deaths: dict[int, int] = field(default_factory=dict)

    @property
    def state(self) -> StateName:
        """Where it stands."""
        return self.status.state

    @property
    def reason(self) -> str:
        """Why it stands there."""
        return self.status.reason

    @property
    def ended(self) -> bool:
        """Whether nothing of it is to run any more."""
        return self.state in ("stopped", "failed", "finished")

    @property
    def is_going(self) -> bool:
        """Whether it goes on to the later folds, or has done them all."""
        return self.promoted and self.state in ("running", "finished")

    @property
    def is_ranked(self) -> bool:
        """Whether it takes part in its family's ranking by fold 0."""
        return 0 in self.metrics and self.state != "failed"

    @property
    def is_judged(self) -> bool:
        """Whether fold 0 has judged it: finished it, or was cut in it."""
        return self.state == "stopped" or self.is_ranked

    @property
    def folds(self) -> tuple[int, ...]:
        """The finished folds, ascending."""
        return tuple(sorted(self.metrics))

    def mean(self, folds: tuple[int, ...]) -> float:
        """Return the mean utility over some of its finished folds."""
        return sum(self.metrics[fold] for fold in folds) / len(folds)

    def run(self, fold: int) -> FoldRun:
        """Return its fold run."""
        return FoldRun(self.name, self.family, fold)

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Order of stopped candidates: fold 0 finished before cut in it, then the last rung passed, then its metric."""
        if 0 in self.metrics:
            return True, 1.0, self.metrics[0]
        passed = [(rung, value) for (fold, rung), value in self.rungs.items() if fold == 0]
        return False, *max(passed, default=(0.0, 0.0))
