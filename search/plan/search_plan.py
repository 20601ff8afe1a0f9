"""`plan_study`: estimates what a search will cost (time, money, memory, disk) before anything is rented."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_prep.prepared import Prepared, load_prepared
from models.backbones.family_memory import GIB
from models.candidate import Candidate, Precision
from models.cost.memory_and_flops import Memory, ModelSize, forward_operations, model_size, peak_memory, step_passes
from models.cost.token_counts import TokenCounter, TokenCounts
from search.cluster.machines import Machines, NodeType
from search.ladder.forecast import FamilyForecast, forecast
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.read_study import read_study
from search.study.sampler import Sampler
from search.study.study_file import Resources, Study
from search.worker.fold_run import scoring_points

TERA = 10**12
HOST_PROCESS_GIB = 3.0
"""Main memory of a fold run on a GPU: the interpreter with torch, CUDA and Ray, and the weights while they load."""
ROW_BYTES = 40
"""Bytes of a row of a prediction table, at most: id, fold, score, prediction."""
SHARES = (1 / 4, 1 / 3, 1 / 2, 1.0)
"""Shares of a GPU to suggest."""


@dataclass(frozen=True)
class FoldRunCost:
    """What one fold run of a candidate costs."""

    candidate: Candidate
    model: ModelSize
    counts: TokenCounts
    size: Resources
    """What the study assigns to it."""
    operations: float
    """Floating-point operations of the whole schedule, predictions included."""
    tokens: float
    """Padded tokens in training."""

    def memory(self, precision: Precision) -> Memory:
        """Return its peak memory in a precision."""
        return peak_memory(
            self.candidate,
            self.model,
            training=self.counts.largest,
            prediction=self.counts.largest_prediction,
            precision=precision,
        )

    @property
    def weight_bytes(self) -> float:
        """Size of its weights on disk: fp32, as if the whole vocabulary were used."""
        return 4.0 * self.model.parameters

    @property
    def checkpoint_bytes(self) -> float:
        """Size of its checkpoint while it runs: weights, AdamW's two moments, and a copy for `ema`."""
        return self.weight_bytes + (8 + 4 * (self.candidate.ema is not None)) * self.model.trained


@dataclass(frozen=True)
class Placement:
    """One family of a study on one node type."""

    precision: Precision
    size: Resources
    memory: float
    """Bytes of the largest candidate of the family."""
    share: float | None
    """The smallest of `SHARES` of a GPU that holds it; None: no GPU, or it needs more than one."""
    slots: int
    """Fold runs at a time on a node, with the resources of the study."""
    slot_hours: float
    """Hours that the average fold run of the family holds its slot."""
    misfit: str
    """Why it does not fit; empty if it does."""
    source: str
    """Source of its speed."""

    @property
    def node_hours(self) -> float:
        """Hours of a whole node that a fold run costs when all slots are in use; 0 if it fits no slot."""
        return self.slot_hours / self.slots if self.slots else 0.0

    @property
    def gpu_hours(self) -> float:
        """Hours of a whole GPU that a fold run costs."""
        return self.slot_hours * self.size.gpu if self.slots else 0.0


@dataclass(frozen=True)
class NodePlan:
    """The whole study on one node type."""

    node: NodeType
    placements: dict[str, Placement]
    full: float
    """Node hours of the full grid, for the families that get a slot; NaN if their speed is unknown."""
    expected: float
    """The same under the ladder."""
    full_gpu: float
    """GPU hours of the full grid."""
    expected_gpu: float
    """The same under the ladder."""

    @property
    def slots(self) -> int:
        """Fold runs at a time on all nodes of the type, at most: those of the family with the smallest share."""
        return self.node.most * max((place.slots for place in self.placements.values()), default=0)

    @property
    def wall_hours(self) -> float:
        """Hours if all nodes run: the work, shared; at least twice the longest fold run."""
        longest = max((place.slot_hours for place in self.placements.values() if place.slots), default=math.nan)
        return max(self.expected / self.node.most, 2 * longest)

    def dollars(self, node_hours: float) -> float | None:
        """Return the cost of a number of node hours; None if the price is unknown."""
        return None if self.node.dollars_per_hour is None else node_hours * self.node.dollars_per_hour


@dataclass(frozen=True)
class SearchPlan:
    """What a search will cost."""

    study: Study
    n_folds: int
    n_named: int
    runs: tuple[FoldRunCost, ...]
    """One for each candidate: the named ones, then random ones in place of those that the sampler will draw."""
    families: dict[str, list[FoldRunCost]]
    """The same by family."""
    forecasts: dict[str, FamilyForecast]
    nodes: tuple[NodePlan, ...]
    head: NodeType | None
    machines: Machines
    endless: bool
    """The number of candidates is unknown: the sampler draws until the hours are used up."""

    @property
    def full_grid(self) -> int:
        """Fold runs of all candidates on all folds."""
        return len(self.runs) * self.n_folds

    @cached_property
    def expected_runs(self) -> float:
        """Training under the ladder, in fold runs."""
        return sum(family.runs for family in self.forecasts.values())

    @property
    def weights_on_disk(self) -> float:
        """Bytes of weights at the end, by `keep_weights`, of all that finish; with `members` it may be less."""
        if self.study.keep_weights == "none":
            return 0.0
        total = 0.0
        for name, runs in self.families.items():
            mean = sum(run.weight_bytes for run in runs) / len(runs)
            found = self.forecasts[name]
            total += mean * (found.finished if self.study.keep_weights == "all" else found.promoted * self.n_folds)
            total += 4.0 * runs[0].model.embeddings
        return total

    def checkpoints_on_disk(self, side_by_side: int) -> float:
        """Return the bytes of the checkpoints of a number of running fold runs, the largest ones."""
        sizes = sorted((run.checkpoint_bytes for run in self.runs), reverse=True)
        return sum((sizes * self.n_folds)[:side_by_side])

    @property
    def tables_on_disk(self) -> float:
        """Bytes of the prediction tables of the full grid."""
        return float(sum(run.counts.rows * ROW_BYTES * self.n_folds for run in self.runs))


def plan_study(
    source: str | Mapping[str, Any],
    *,
    nodes: Sequence[NodeType],
    machines: Machines,
    data: str | None = None,
    backbones: str | None = None,
) -> SearchPlan:
    """Estimate what a study (its file, or what one holds) will cost; this starts nothing and needs no weights.

    `data` is a prepared folder to use instead of the study's, `backbones` a folder in which to look for configs first.

    Raises:
        InputError: the study or its data do not fit, or the sizes of a backbone are unknown.
    """
    study = read_study(source, data=data)
    prepared = load_prepared(study.data)
    ladder = study.ladder.for_metric(prepared.task.search_measure)
    named = list(read_candidates(study.candidates, allow_twins=True).values())
    named = list({candidate.id: candidate for candidate in named}.values())
    drawn = _draw(study, named)
    counter = TokenCounter(prepared, rung_rows=study.rung_rows)
    runs = tuple(_cost(candidate, study, prepared, counter, backbones) for candidate in [*named, *drawn])
    n_folds = prepared.manifest.n_folds
    forecasts = forecast((run.candidate.family for run in runs), ladder, n_folds=n_folds)
    families: dict[str, list[FoldRunCost]] = {}
    for run in runs:
        families.setdefault(run.candidate.family, []).append(run)
    workers = [node for node in nodes if node.cpu > 0 and node.most > 0]
    return SearchPlan(
        study=study,
        n_folds=n_folds,
        n_named=len(named),
        runs=runs,
        families=families,
        forecasts=forecasts,
        nodes=tuple(_node_plan(node, families, forecasts, n_folds, machines) for node in workers),
        head=next((node for node in nodes if node.head), None),
        machines=machines,
        endless=bool(study.space) and study.budget.candidates is None and study.sampler != "grid",
    )


def _draw(study: Study, named: Sequence[Candidate]) -> list[Candidate]:
    """Return random candidates in place of those that the sampler will draw."""
    if not study.space:
        return []
    sampler = Sampler(read_space(study.space), kind="grid" if study.sampler == "grid" else "random", seed=study.seed)
    taken, drawn = {candidate.id for candidate in named}, list[Candidate]()
    limit = math.inf if study.budget.candidates is None else study.budget.candidates - len(study.candidates)
    while len(drawn) < limit and (sample := sampler.ask(taken)) is not None:
        taken.add(sample.candidate.id)
        drawn.append(sample.candidate)
    return drawn


def _cost(
    candidate: Candidate, study: Study, data: Prepared, counter: TokenCounter, backbones: str | None
) -> FoldRunCost:
    model, counts = model_size(candidate, data.task, backbones=backbones), counter.of(candidate)

    def forward(batches: Sequence[Sequence[int]]) -> float:
        return sum(forward_operations(model, texts=texts, tokens=tokens) for texts, tokens in batches)

    scored = scoring_points(study.ladder.rungs, candidate.epochs, score_epochs=study.score_epochs)
    training = forward(counts.epoch.tolist()) * candidate.epochs * step_passes(candidate)
    rungs = forward(counts.scored.tolist()) * (len(set(scored)) - 1)
    predictions = forward(counts.predicted.tolist())
    return FoldRunCost(
        candidate=candidate,
        model=model,
        counts=counts,
        size=study.resources.of(candidate.backbone),
        operations=training + (rungs + predictions) * counts.orders,
        tokens=float(counts.tokens * candidate.epochs),
    )


def _node_plan(
    node: NodeType,
    families: Mapping[str, Sequence[FoldRunCost]],
    forecasts: Mapping[str, FamilyForecast],
    n_folds: int,
    machines: Machines,
) -> NodePlan:
    placements = {name: _place(members, node, machines) for name, members in families.items()}
    numbers = {name: len(members) * n_folds for name, members in families.items()}
    return NodePlan(
        node=node,
        placements=placements,
        full=sum(placements[name].node_hours * number for name, number in numbers.items()),
        expected=sum(placements[name].node_hours * forecasts[name].runs for name in families),
        full_gpu=sum(placements[name].gpu_hours * number for name, number in numbers.items()),
        expected_gpu=sum(placements[name].gpu_hours * forecasts[name].runs for name in families),
    )


def precision_on(candidate: Candidate, node: NodeType, machines: Machines) -> Precision:
    """Return the precision of a candidate on a node type: as `devices.choose_precision` would choose there."""
    if candidate.precision != "auto":
        return candidate.precision
    if not node.gpu or node.accelerator not in machines.accelerators:
        return "fp32"
    known = machines.accelerators[node.accelerator].tflops
    return "bf16" if "bf16" in known else "fp16" if "fp16" in known else "fp32"


def _place(runs: Sequence[FoldRunCost], node: NodeType, machines: Machines) -> Placement:
    size = runs[0].size
    precision = precision_on(runs[0].candidate, node, machines)
    memories = [run.memory(precision_on(run.candidate, node, machines)).total for run in runs]
    accelerator = machines.accelerators.get(node.accelerator or "")
    held = accelerator.memory_gib * GIB if accelerator and size.gpu else None
    least = next((share for share in SHARES if held and max(memories) <= share * held), None)
    slots = count_slots(size, node)
    timed = [_hours(run, size, node, machines) for run in runs]
    return Placement(
        precision=precision,
        size=size,
        memory=max(memories),
        share=least,
        slots=slots,
        slot_hours=sum(hours for hours, _ in timed) / len(timed),
        misfit=_misfit(size, node, held=held, memory=max(memories), slots=slots),
        source=timed[0][1],
    )


def count_slots(size: Resources, node: NodeType) -> int:
    """Return how many fold runs of a size run on a node at a time; a fraction of a GPU never spans two."""
    if size.cpu > node.cpu or size.gpu > node.gpu:
        return 0
    by_cpu = math.floor(node.cpu / size.cpu + 1e-9)
    if not size.gpu:
        return by_cpu
    by_gpu = math.floor(1 / size.gpu + 1e-9) * int(node.gpu) if size.gpu < 1 else math.floor(node.gpu / size.gpu)
    return min(by_cpu, by_gpu)


def _misfit(size: Resources, node: NodeType, *, held: float | None, memory: float, slots: int) -> str:
    if not slots:
        return f"requires cpu={size.cpu:g}, gpu={size.gpu:g}; {node.name} has cpu={node.cpu:g}, gpu={node.gpu:g}"
    if held is not None and memory > held * min(size.gpu, 1):
        room = held * min(size.gpu, 1) / GIB
        return f"needs {memory / GIB:.1f} GiB of a GPU; gpu={size.gpu:g} of {node.accelerator} is {room:.1f} GiB"
    host = memory if not size.gpu else HOST_PROCESS_GIB * GIB
    if node.memory_gib is not None and host * slots > node.memory_gib * GIB:
        needed = host * slots / GIB
        return f"{slots} at a time need {needed:.1f} GiB of main memory, {node.name} has {node.memory_gib:g}"
    return ""


def _hours(run: FoldRunCost, size: Resources, node: NodeType, machines: Machines) -> tuple[float, str]:
    """Return the hours that a fold run holds its slot, and the source of its speed."""
    kind = (node.accelerator or "unknown") if size.gpu else "core"
    part = size.gpu if size.gpu else size.cpu
    measured = machines.measured(run.candidate.backbone, kind)
    if measured is not None:
        trained = run.tokens * step_passes(run.candidate) / 3
        return trained / (measured.tokens_per_second * part) / 3600, f"measured: {measured.source}"
    processor = machines.accelerators.get(kind) if size.gpu else machines.core
    if processor is None:
        return math.nan, f"unknown: describe {kind} under `accelerators:` of a file for `--throughput`"
    precision = precision_on(run.candidate, node, machines)
    peak = processor.tflops.get(precision, processor.tflops.get("fp32", min(processor.tflops.values())))
    return run.operations / (peak * TERA * machines.utilisation * part) / 3600, "from peak and utilisation"
