"""What the ladder knows of one candidate."""

from dataclasses import dataclass, field

from search.ladder.decisions import BlendGain, CandidateStatus, FoldRun, StateName

_NEW = CandidateStatus("running", "every candidate starts on fold 0")


@dataclass(eq=False)
class CandidateState:
    """State of one candidate; only `CandidateIndex` changes what it is indexed by."""

    name: str
    family: str
    number: int = 0
    """Order of first report."""
    status: CandidateStatus = _NEW
    promoted: bool = False
    """Was promoted to the later folds, whatever happened since."""
    resumed: bool = False
    """Was stopped, and resumed because no other candidate was left; not cut or dropped again."""
    promotion: str = ""
    """Why it was promoted; while it waits, why it last could have been."""
    gain: BlendGain | None = None
    """What it added to the blend when that was last measured."""
    utilities: dict[int, float] = field(default_factory=dict)
    """Utility of each finished fold."""
    rungs: dict[tuple[int, float], float] = field(default_factory=dict)
    """Utility at each (fold, rung) passed by a run that learned."""
    live: set[int] = field(default_factory=set)
    """Folds that a worker has."""
    to_repeat: set[int] = field(default_factory=set)
    """Folds to start again: failed to learn once, or lost their worker."""
    failures: dict[int, int] = field(default_factory=dict)
    """How many times each fold failed to learn."""

    @property
    def state(self) -> StateName:
        """The state."""
        return self.status.state

    @property
    def reason(self) -> str:
        """The reason for the state."""
        return self.status.reason

    @property
    def ended(self) -> bool:
        """Whether nothing of it will run any more."""
        return self.state in ("stopped", "failed", "finished")

    @property
    def is_survivor(self) -> bool:
        """Whether it was promoted and neither dropped nor failed."""
        return self.promoted and self.state in ("running", "finished")

    @property
    def is_ranked(self) -> bool:
        """Whether it takes part in its family's ranking on fold 0."""
        return 0 in self.utilities and self.state != "failed"

    @property
    def is_judged(self) -> bool:
        """Whether fold 0 has judged it: it finished the fold or was cut on it."""
        return self.state == "stopped" or self.is_ranked

    @property
    def folds(self) -> tuple[int, ...]:
        """The finished folds, ascending."""
        return tuple(sorted(self.utilities))

    def run(self, fold: int) -> FoldRun:
        """Return its fold run."""
        return FoldRun(self.name, self.family, fold)

    def next_fold(self, n_folds: int) -> int | None:
        """Return the first fold that has not begun."""
        return next((fold for fold in range(n_folds) if fold not in self.utilities and fold not in self.live), None)
