"""`replay`: what other schedulers would have spent, kept and lost on a search that is over."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from search.replay.ladder_option import read_ladder_option
from search.replay.recording import read_recording
from search.replay.replay_search import SchedulerSummary
from search.replay.replay_search import replay as play_all


def replay(
    curves: Any,
    *,
    ladder: Mapping[str, Any] | str | Path | None = None,
    rows: str | Path | None = None,
    split: str | None = None,
    orders: int = 200,
    workers: int = 4,
    seed: int = 0,
    members: Sequence[str] = (),
) -> pd.DataFrame:
    """Replay recorded curves with the ladder and with other schedulers, as `blendfold replay` does.

    Args:
        curves: a `Run`, the path of a run directory, of a folder from `blendfold replay --keep`, or of a CSV of curves.
        ladder: settings of the ladder, or a YAML file with them; None: the defaults.
        rows: predictions for curves without any.
        split: the split to take from a CSV.
        orders: random orders of arrival.
        workers: fold runs at a time.
        seed: of the orders.
        members: candidates or families known to be good.

    Returns:
        For each scheduler (index `scheduler`) means over the orders: `cost` (share of the full grid's fold-epochs),
        `regret` of the best candidate, `completed` candidates, `families` of them, the metric of the `blend`, and one
        `NAME kept` for each member (share of the orders); NaN where the recording has no predictions.

    Raises:
        InputError: the recording or a setting does not fit.
    """
    given = ",".join(f"{key}={value}" for key, value in ladder.items()) if isinstance(ladder, Mapping) else ladder
    recording = read_recording(
        str(getattr(curves, "path", curves)), split=split, rows=None if rows is None else str(rows)
    )
    settings = read_ladder_option(None if given is None else str(given)).for_metric(recording.metric)
    found = play_all(
        recording,
        settings,
        members=list(members),
        n_orders=orders,
        n_workers=workers,
        seed=seed,
        progress=lambda _: None,
    )
    table = [_row(summary, found.members) for summary in found.summaries]
    return pd.DataFrame(table).set_index("scheduler")


def _row(found: SchedulerSummary, members: Sequence[str]) -> dict[str, Any]:
    means = {"cost": found.cost.mean, "regret": found.regret.mean}
    counts = {"completed": found.completed.mean, "families": found.families.mean}
    kept = {f"{name} kept": share for name, share in zip(members, found.members, strict=True)}
    return {
        "scheduler": found.name,
        **means,
        **counts,
        "blend": found.blend.score.mean if found.blend else float("nan"),
        **kept,
    }
