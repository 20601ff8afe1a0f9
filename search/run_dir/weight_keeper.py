"""`WeightKeeper`: removes weights that no blend can use; and checkpoints of fold runs that will not continue."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.moments import best_nonnegative_weights, moments
from data_prep.store.files import join, list_names, remove_folder
from data_prep.store.oof_store import OofStore
from search.ladder.decisions import CandidateStatus, StateName
from search.run_dir.disk_budget import CHECKPOINTS, candidates_with_weights, read_shares, remove_weights, write_shares
from search.run_dir.time_share import TimeShare

Keep = Literal["members", "all", "none"]
Statuses = Callable[[], Mapping[str, CandidateStatus]]

TIME_SHARE = 0.05
"""Share of a search's time that removing weights may take while it runs."""
CHECKPOINT = re.compile(r"fold-(\d+)(-retry)?")


class WeightKeeper:
    """Removes weights as soon as they are useless, and ranks the rest for the disk budget.

    It goes by the best non-negative blend of the finished candidates that have weights, as only that can be bundled. A
    running candidate keeps its weights. A stopped one, which may be revived, does until any candidate has finished.
    """

    def __init__(self, run_dir: str, keep: Keep, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_dir = run_dir
        self._time_share = TimeShare(TIME_SHARE, clock)
        self._keep = keep
        self._store = OofStore(run_dir)
        self._known: dict[str, StateName] = {}
        self._shares: dict[str, float] = read_shares(run_dir)

    def offer(self, states: Statuses) -> None:
        """Do what `settle` does, unless it is too early after the last time."""
        self._time_share.offer(lambda: self.settle(states))

    def settle(self, states: Statuses) -> list[str]:
        """Remove useless weights; return the candidates that lost theirs."""
        here = candidates_with_weights(self._run_dir)
        if not here:
            return []
        states_now = {name: status.state for name, status in states().items()}
        known = {name: states_now[name] for name in here if name in states_now}
        if known == self._known:
            return []
        self._known = known
        finished = [name for name, state in known.items() if state == "finished"]
        shares = blend_shares(self._store, finished)
        if "finished" in states_now.values():
            shares |= {name: 0.0 for name, state in known.items() if state == "stopped"}
        shares |= {name: 0.0 for name, state in known.items() if state == "failed"}
        gone = [name for name, share in shares.items() if share == 0.0] if self._keep == "members" else []
        for name in gone:
            remove_weights(self._run_dir, name)
            del shares[name], self._known[name]
        if shares != self._shares:
            self._shares = shares
            write_shares(self._run_dir, shares)
        return gone


def blend_shares(store: OofStore, candidates: Sequence[str]) -> dict[str, float]:
    """Return the weight of each candidate, all of them finished, in their best non-negative blend; the sum is 1."""
    if not candidates:
        return {}
    parts = []
    for fold in store.folds(candidates[0]):
        tables = [store.read("oof", name, fold) for name in candidates]
        columns: NDArray[np.float64] = np.column_stack([table["prediction"].to_numpy() for table in tables])
        parts.append(moments(columns, tables[0]["score"].to_numpy()))
    best = best_nonnegative_weights(sum(parts[1:], start=parts[0]))
    return dict(zip(candidates, map(float, best), strict=True))


def sweep_checkpoints(run_dir: str, statuses: Mapping[str, CandidateStatus]) -> None:
    """Remove the checkpoints of fold runs that will not continue, left by a killed driver; none may be running."""
    store, kept = OofStore(run_dir), join(run_dir, CHECKPOINTS)
    for candidate in list_names(kept):
        if (status := statuses.get(candidate)) is None:
            continue
        is_over = status.state not in ("running", "waiting")
        for folder in list_names(join(kept, candidate)):
            fold = CHECKPOINT.fullmatch(folder)
            if fold and (is_over or store.is_finished(candidate, int(fold[1]))):
                remove_folder(join(kept, candidate, folder))
