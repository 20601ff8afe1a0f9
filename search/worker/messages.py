"""What the driver and its workers say to each other, as values; `to_dict` and `from_dict` convert them for Ray Tune."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from data_prep.store.files import base_name, join
from models.candidate import Candidate
from search.ladder.decisions import FoldRun
from search.run_dir.disk_budget import CHECKPOINTS
from search.worker.node_check import Requirements

RETRY_RATE = 0.5
"""The retry of a fold run that failed to learn has its learning rates times this."""
RETRY_SEED = 1_000_003
"""And its seed plus this."""


@dataclass(frozen=True)
class Assignment:
    """One candidate on one fold: the driver proposes it, a worker trains it, the run directory records it."""

    candidate: Candidate
    fold: int
    attempt: int = 0
    """1 for the retry of a fold run that failed to learn, else 0."""

    @property
    def run(self) -> FoldRun:
        """The fold run as the ladder knows it."""
        return FoldRun(self.candidate.id, self.candidate.family, self.fold)

    @property
    def label(self) -> str:
        """A short name a person recognizes."""
        return f"{self.candidate.label}-f{self.fold}-{self.candidate.id[:6]}"

    def checkpoint_folder(self, run_dir: str) -> str:
        """Return where the fold run keeps its state until it ends."""
        folder = f"fold-{self.fold}" + ("-retry" if self.attempt else "")
        return join(run_dir, CHECKPOINTS, self.candidate.id, folder)

    @property
    def candidate_to_train(self) -> Candidate:
        """The candidate; a retry trains it with another seed and lower learning rates."""
        if not self.attempt:
            return self.candidate
        changes = {
            "seed": self.candidate.seed + RETRY_SEED,
            "backbone_lr": self.candidate.backbone_lr * RETRY_RATE,
            "head_lr": self.candidate.head_lr * RETRY_RATE,
        }
        return self.candidate.model_copy(update=changes)


@dataclass(frozen=True)
class FoldRunResources:
    """What one fold run gets."""

    cpu: float
    gpu: float
    micro_batches: int = 1
    """Parts that each step is computed in; more than 1 after the family ran out of memory."""

    @property
    def text(self) -> str:
        """The resources in words."""
        gpu = f", gpu={self.gpu:g}" if self.gpu else ""
        parts = f", {self.micro_batches} micro-batches" if self.micro_batches > 1 else ""
        return f"cpu={self.cpu:g}{gpu}{parts}"


# From the driver to a worker


@dataclass(frozen=True)
class FoldRunSettings:
    """What every fold run of a study shares."""

    run_dir: str
    data: str
    split_hash: str
    rungs: tuple[float, ...]
    rung_rows: int | None
    dead_below: float | None
    checkpoint_seconds: float
    backbones: str | None
    home: str
    """Working directory of the driver: relative paths in candidates start there."""
    score_epochs: bool = False
    keep_weights: bool = False
    """Whether the weights of each finished fold run are written."""
    disk_gb: float | None = None
    requirements: Requirements | None = None
    """What every node must have; a worker checks it before its first fold run. None: no check."""

    @property
    def study(self) -> str:
        """Name of the study, which is also the name of its run directory."""
        return base_name(self.run_dir)


@dataclass(frozen=True)
class FoldRunOrder:
    """Everything a worker must know about a fold run that differs from one to the next; a Tune trial's config."""

    assignment: Assignment
    resources: FoldRunResources
    threads: int
    """CPU threads: as many as the study says, whatever share of a machine the fold run gets."""
    can_grow: bool = False
    """Running out of memory raises `MemoryError`, so that a larger share is tried before smaller micro-batches."""
    restarts: int = 0
    """Times that this fold run has lost its worker or its node."""

    @property
    def device(self) -> str:
        """The device as torch names it, or `auto`."""
        return "auto" if self.resources.gpu else "cpu"

    @property
    def trial_name(self) -> str:
        """The name of the Tune trial."""
        retry, again = "-retry" if self.assignment.attempt else "", f"-again{self.restarts}" if self.restarts else ""
        return f"{self.assignment.label}{retry}{again}"


# From a worker to the driver


@dataclass(frozen=True)
class ScoreReport:
    """What a fold run scored at a rung, or at its end (progress 1)."""

    progress: float
    epoch: float
    metric: float
    seconds: float


@dataclass(frozen=True)
class FailureReport:
    """The fold run cannot be done; the same inputs would fail again."""

    reason: str


@dataclass(frozen=True)
class MessageReport:
    """Something a person should know."""

    text: str
    once: str = ""
    """Of the messages with the same name here, a search shows the first; empty: it shows each."""


@dataclass(frozen=True)
class FullDiskReport:
    """No other fold run could be kept either; the arguments of an `OSError`."""

    errno: int | None
    what: str | None
    path: str | None


@dataclass(frozen=True)
class UnfitNodeReport:
    """The node lacks what every fold run needs."""

    faults: tuple[str, ...]


Report = ScoreReport | FailureReport | MessageReport | FullDiskReport | UnfitNodeReport
SendReport = Callable[[Report], None]
"""Passes a report to the driver; raises to end the fold run."""

REPORTS: dict[str, type[Report]] = {
    "score": ScoreReport,
    "failure": FailureReport,
    "message": MessageReport,
    "full_disk": FullDiskReport,
    "unfit_node": UnfitNodeReport,
}


# As Ray Tune carries them


def order_to_dict(order: FoldRunOrder) -> dict[str, Any]:
    """Return an order as the config of a Tune trial."""
    candidate = order.assignment.candidate.model_dump(mode="json", exclude_defaults=True)
    assignment = {"candidate": candidate, "fold": order.assignment.fold, "attempt": order.assignment.attempt}
    return {**vars(order), "assignment": assignment, "resources": asdict(order.resources)}


def order_from_dict(config: dict[str, Any]) -> FoldRunOrder:
    """Return the order that a Tune trial's config holds."""
    candidate = Candidate.model_validate(config["assignment"]["candidate"])
    assignment = Assignment(**{**config["assignment"], "candidate": candidate})
    return FoldRunOrder(**{**config, "assignment": assignment, "resources": FoldRunResources(**config["resources"])})


def report_to_dict(report: Report) -> dict[str, Any]:
    """Return a report as a Tune result."""
    kind = next(name for name, report_type in REPORTS.items() if isinstance(report, report_type))
    return {"report": kind, **vars(report)}


def report_from_dict(result: dict[str, Any]) -> Report:
    """Return the report that a Tune result holds, among entries of Tune's own."""
    report_type = REPORTS[result["report"]]
    return report_type(**{field.name: result[field.name] for field in fields(report_type)})
