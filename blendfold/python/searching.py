"""Searches in Python: `search` runs a study, `plan` estimates what it will cost."""

import logging
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from blendfold.python.notebook_output import in_one_place
from blendfold.python.prepared_data import DataSource
from blendfold.python.run import Run
from data_prep.console import PLAIN_WIDTH, EscapingConsole, print_line
from data_prep.cpu_cores import cpu_cores
from data_prep.errors import InputError
from data_prep.store.files import base_name, join
from data_prep.wording import count
from search.cluster.machines import read_cluster, read_machines, this_machine
from search.plan.plan_report import plan_report
from search.plan.search_plan import SearchPlan, plan_study
from search.ray_tune.run_study import run_study

StudySource: TypeAlias = Mapping[str, Any] | str | Path
"""A study: its file, or what one holds."""


def search(
    study: StudySource,
    data: DataSource | None = None,
    *,
    runs: str | Path = "runs",
    address: str | None = None,
    backbones: str | Path | None = None,
    dashboard: bool = False,
    only: Collection[str] | None = None,
) -> Run:
    """Run a study, or continue it, as `blendfold run` does; finished work is never repeated.

    It shows what it starts, stops and finishes, and may be interrupted at any time: the same call continues.

    Args:
        study: the study file (YAML), or a dict with the same keys.
        data: prepared data to use instead of the study's.
        runs: folder or URI for run directories; this one gets the study's name.
        address: of a running Ray cluster, or `auto`; None: Ray starts on this machine, and ends with the search.
        backbones: folder with local copies of hub models.
        dashboard: whether to start the dashboard of a local Ray.
        only: names under `candidates:` to run now; None: all.

    Raises:
        InputError: study, data, run directory or cluster do not fit, or no fold run finished.
        KeyboardInterrupt: it was interrupted.

    Examples:
        >>> run = bf.search("first.yaml", "prepared/sample")
        >>> run.status()[["study", "candidates", "fold_runs_finished"]].tolist()
        ['first', 2, 8]
    """
    with _own_signals(), in_one_place():
        outcome = run_study(
            study if isinstance(study, Mapping) else str(study),
            runs=str(runs),
            data=None if data is None else _path(data),
            address=address,
            backbones=None if backbones is None else str(backbones),
            dashboard=dashboard,
            only=only,
        )
        if outcome.interrupted:
            finished = count(outcome.finished, "fold run")
            print_line(f"stopped with {finished} finished in {outcome.run_dir}; the same call continues")
            raise KeyboardInterrupt
        print_line(outcome.summary)
    if not outcome.finished:
        raise InputError(f"{outcome.run_dir}: no fold run finished; the reasons are above")
    return Run(join(runs, base_name(outcome.run_dir)))


@dataclass(frozen=True)
class Plan:
    """What a search will cost; prints as `blendfold plan` does."""

    found: SearchPlan

    @property
    def fold_runs(self) -> pd.DataFrame:
        """Tokens in training, operations, weights and checkpoint (bytes) of one fold run of each candidate."""
        rows = [
            {
                "candidate": run.candidate.id,
                "label": run.candidate.label,
                "tokens": run.tokens,
                "operations": run.operations,
                "weight_bytes": run.weight_bytes,
                "checkpoint_bytes": run.checkpoint_bytes,
            }
            for run in self.found.runs
        ]
        return pd.DataFrame(rows)

    @property
    def full_grid(self) -> int:
        """Fold runs of all candidates on all folds."""
        return self.found.full_grid

    @property
    def expected(self) -> float:
        """Training under the ladder, in fold runs."""
        return self.found.expected_runs

    def __str__(self) -> str:
        """Return what the command prints."""
        console = EscapingConsole(width=PLAIN_WIDTH)
        with console.capture() as printed:
            console.print(plan_report(self.found))
        return printed.get()

    __repr__ = __str__


def plan(
    study: StudySource,
    data: DataSource | None = None,
    *,
    cluster: str | Path | None = None,
    throughput: str | Path | None = None,
    backbones: str | Path | None = None,
) -> Plan:
    """Estimate what a study will cost (fold runs, hours, money, memory, disk); starts nothing.

    Args:
        study: the study file (YAML), or a dict with the same keys.
        data: prepared data to use instead of the study's.
        cluster: the cluster file for `ray up`; None: this machine.
        throughput: your own prices, peaks and speeds, a YAML file.
        backbones: folder with local copies of hub models or configs.

    Raises:
        InputError: the study or its data do not fit, or the sizes of a backbone are unknown.

    Examples:
        >>> bf.plan("first.yaml", "prepared/sample").full_grid
        8
        >>> candidates = {"mean": {"head": "mean"}, "cls": {"head": "cls"}, "max": {"head": "max"}}
        >>> bf.plan({"name": "heads", "candidates": candidates}, "prepared/sample").full_grid
        12
    """
    machines = read_machines(None if throughput is None else str(throughput))
    nodes = [this_machine(cpu_cores())] if cluster is None else read_cluster(str(cluster), machines)
    found = plan_study(
        study if isinstance(study, Mapping) else str(study),
        nodes=nodes,
        machines=machines,
        data=None if data is None else _path(data),
        backbones=None if backbones is None else str(backbones),
    )
    return Plan(found)


def _path(data: DataSource) -> str:
    return data if isinstance(data, str) else data.__fspath__()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Give back what a search sets for its whole process: handlers of signals, the level of Ray's log."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    level = logging.getLogger("ray").level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.getLogger("ray").setLevel(level)
