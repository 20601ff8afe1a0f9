"""Prints a plan as tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from data_prep.wording import count
from models.backbones.family_memory import GIB
from models.candidate import Precision
from models.cost.token_counts import PIECE
from search.ladder.forecast import ASSUMPTION
from search.plan.search_plan import NodePlan, SearchPlan
from search.run_dir.disk_budget import GIGABYTE

LEFT = frozenset({"family", "node type", "what", "GPU", "precision", "machine"})


def plan_report(plan: SearchPlan) -> Group:
    """Return the plan: what is tried, what the ladder is expected to cut, each node type, disk, what does not fit."""
    parts: list[RenderableType] = [_summary(plan), _ladder_table(plan)]
    for node in plan.nodes:
        parts.append(_node_table(plan, node))
    parts += [_cost_table(plan), _disk_table(plan)]
    parts += [f"- {sentence}" for sentence in misfits(plan)]
    parts += ["Assumed:", *(f"- {sentence}" for sentence in assumptions(plan))]
    return Group(*parts)


def plan_document(plan: SearchPlan) -> dict[str, Any]:
    """Return the plan as plain values; `placements` has a row for each family on each node type."""
    return {
        "study": plan.study.name,
        "candidates": len(plan.runs),
        "n_folds": plan.n_folds,
        "full_grid": plan.full_grid,
        "expected_runs": plan.expected_runs,
        "families": plan.forecasts,
        "nodes": [
            {
                "node": found.node.name,
                "slots": found.slots,
                "full_node_hours": found.full,
                "expected_node_hours": found.expected,
                "wall_hours": found.wall_hours,
                "full_dollars": found.dollars(found.full),
                "expected_dollars": found.dollars(found.expected),
                "full_gpu_hours": found.full_gpu,
                "expected_gpu_hours": found.expected_gpu,
            }
            for found in plan.nodes
        ],
        "placements": [
            {"node": found.node.name, "family": name, **vars(place), "node_hours": place.node_hours}
            for found in plan.nodes
            for name, place in found.placements.items()
        ],
        "weights_bytes": plan.weights_on_disk,
        "tables_bytes": plan.tables_on_disk,
        "misfits": misfits(plan),
        "assumptions": assumptions(plan),
    }


def _summary(plan: SearchPlan) -> str:
    drawn = len(plan.runs) - plan.n_named
    random = f" and {drawn} random ones in place of those that the sampler will draw" if drawn else ""
    return (
        f"{plan.study.name}: {count(plan.n_named, 'named candidate')}{random}, {plan.n_folds} folds. The full grid has "
        f"{count(plan.full_grid, 'fold run')}; the ladder is expected to run {plan.expected_runs:.0f} "
        f"({plan.expected_runs / plan.full_grid:.0%}). These are estimates, not measurements."
    )


def _table(title: str, headings: Sequence[str], caption: str = "") -> Table:
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in LEFT else "right")
    return table


def _ladder_table(plan: SearchPlan) -> Table:
    rungs = [f"past {rung:.0%}" for rung in plan.study.ladder.rungs]
    headings = ["family", "candidates", *rungs, "all folds", "fold runs", "of the grid"]
    table = _table("Ladder: candidates expected to go on", headings)
    for name, family in plan.forecasts.items():
        grid = family.candidates * plan.n_folds
        numbers = [*family.at_rungs, family.promoted, family.runs]
        table.add_row(name, f"{family.candidates}", *(f"{n:.1f}" for n in numbers), f"{family.runs / grid:.0%}")
    return table


def _node_table(plan: SearchPlan, found: NodePlan) -> Table:
    node = found.node
    gpu = f", {node.gpu:g} x {node.accelerator or 'GPU of an unnamed type'}" if node.gpu else ""
    title = f"Fold runs on {node.name} ({node.machine}: {node.cpu:g} cores{gpu})"
    headings = ["family", "parameters", "texts x tokens", "precision", "memory", "study", "suggested", "slots", "hours"]
    caption = "memory, texts x tokens: the largest of the family; study: its resources; hours: average fold run"
    table = _table(title, headings, caption=caption)
    for name, place in found.placements.items():
        runs = plan.families[name]
        largest = max(runs, key=lambda run: run.memory(place.precision).total)
        texts, tokens = largest.counts.largest
        given = f"cpu {place.size.cpu:g}" + (f", gpu {place.size.gpu:g}" if place.size.gpu else "")
        suggested = "-" if not place.size.gpu else "more than one" if place.share is None else f"gpu {place.share:.2g}"
        table.add_row(
            name,
            f"{largest.model.parameters / 1e6:.0f} M",
            f"{texts} x {tokens}",
            place.precision,
            f"{place.memory / GIB:.1f} GiB",
            given,
            suggested if not place.size.gpu or node.accelerator in plan.machines.accelerators else "?",
            str(place.slots) if place.slots else "none",
            _hours(place.slot_hours),
        )
    return table


def _cost_table(plan: SearchPlan) -> Table:
    headings = [
        "node type",
        "nodes",
        "GPU hours",
        "of the full grid",
        "node hours",
        "price",
        "cost",
        "of the grid",
        "wall",
    ]
    table = _table("Time and money under the ladder, if everything runs on one node type", headings)
    for found in plan.nodes:
        price = found.node.dollars_per_hour
        table.add_row(
            found.node.name,
            f"up to {found.node.most}",
            _hours(found.expected_gpu) if found.node.gpu else "-",
            _hours(found.full_gpu) if found.node.gpu else "-",
            _hours(found.expected),
            "unknown" if price is None else f"${price:g}/h",
            _dollars(found.dollars(found.expected)),
            _dollars(found.dollars(found.full)),
            _hours(found.wall_hours),
        )
    return table


def _disk_table(plan: SearchPlan) -> Table:
    slots = max((found.slots for found in plan.nodes), default=0)
    table = _table("Disk, at most", ["what", "GB"])
    rows = {
        f"weights (keep_weights: {plan.study.keep_weights})": plan.weights_on_disk,
        f"checkpoints of {slots} running fold runs": plan.checkpoints_on_disk(slots),
        "prediction tables of the full grid": plan.tables_on_disk,
    }
    for what, n_bytes in rows.items():
        table.add_row(what, f"{n_bytes / GIGABYTE:.1f}")
    table.add_row("total", f"{sum(rows.values()) / GIGABYTE:.1f}")
    return table


def misfits(plan: SearchPlan) -> list[str]:
    """Return a sentence for everything that does not fit."""
    faults = [
        f"{name} on {found.node.name}: {place.misfit}"
        for found in plan.nodes
        for name, place in found.placements.items()
        if place.misfit
    ]
    nowhere = [
        f"{name}: fits no node type; the search would wait forever for a node"
        for name in plan.families
        if not any(found.placements[name].slots for found in plan.nodes)
    ]
    slots = max((found.slots for found in plan.nodes), default=0)
    counted, budget = plan.weights_on_disk + plan.checkpoints_on_disk(slots), plan.study.budget.disk_gb
    if budget is not None and counted > budget * GIGABYTE:
        faults.append(f"disk: {counted / GIGABYTE:.1f} GB of weights and checkpoints, budget.disk_gb is {budget:g}")
    quickest = min((found.wall_hours for found in plan.nodes), default=math.nan)
    if plan.study.budget.hours is not None and quickest > plan.study.budget.hours:
        faults.append(f"time: {quickest:.0f} hours with all nodes running, budget.hours is {plan.study.budget.hours:g}")
    return [f"Does not fit: {sentence}" for sentence in [*nowhere, *faults]] or ["Everything fits."]


def assumptions(plan: SearchPlan) -> list[str]:
    """Return the assumptions behind the figures, one sentence each."""
    machines, used = plan.machines, [found.node for found in plan.nodes]
    gpus = sorted({node.accelerator for node in used if node.gpu and node.accelerator in machines.accelerators})
    sentences = [
        f"Ladder: {ASSUMPTION}." if plan.study.ladder.enabled else "Ladder: off, every fold of every candidate runs.",
        f"Tokens: estimated from words in pieces of {PIECE} letters; texts, batches and padding are those of fold 0 "
        "in a search.",
        "Operations: 2 N per token (N weights of the layers) and 4 s h per attention; a step is three forward "
        "passes, more with an adversary or checkpointing (Kaplan et al. 2020, arXiv 2001.08361).",
        "Memory: weights and gradients 4 bytes a parameter, AdamW 8, autocast's copy 2, activations layer by layer as "
        "in Korthikanti et al. 2022 (arXiv 2205.05198), 1 GiB for the process: an upper estimate (docs/gpus.md).",
        f"Speed: {machines.utilisation:.0%} of the peak ({machines.utilisation_source}).",
        *(
            f"Peak of {name}: {_peaks(machines.accelerators[name].tflops)} ({machines.accelerators[name].source})."
            for name in gpus
        ),
    ]
    if any(not node.gpu or not plan.study.resources.gpu for node in used):
        sentences.append(f"Peak of a CPU core: {_peaks(machines.core.tflops)} ({machines.core.source}).")
    measured = {place.source for found in plan.nodes for place in found.placements.values()}
    sentences += sorted(source for source in measured if source.startswith(("measured", "unknown")))
    for node in [*([plan.head] if plan.head and plan.head not in used else []), *used]:
        spot = " It is a spot instance: the price is an upper limit unless it is the spot price." if node.spot else ""
        price = "price unknown" if node.dollars_per_hour is None else f"${node.dollars_per_hour:g} an hour"
        sentences.append(f"{node.name}: {price} ({node.source}).{spot}")
    if plan.head is not None and plan.head not in used:
        sentences.append(
            "The head node computes nothing; it runs for the whole wall time, which the costs above leave out."
        )
    sentences.append(
        "Money: assumes that every node is full of fold runs of one family and never idle; starting nodes, traffic and "
        "storage are not included."
    )
    if plan.endless:
        sentences.append("The budget sets no number of candidates; the estimate covers only the named ones.")
    return sentences


def _peaks(tflops: Mapping[Precision, float]) -> str:
    return ", ".join(f"{value:g} TFLOPS in {precision}" for precision, value in tflops.items())


def _hours(hours: float) -> str:
    if math.isnan(hours):
        return "?"
    return f"{hours * 60:.1f} min" if hours < 1 else f"{hours:.1f} h"


def _dollars(amount: float | None) -> str:
    return "?" if amount is None or math.isnan(amount) else f"${amount:,.2f}"
