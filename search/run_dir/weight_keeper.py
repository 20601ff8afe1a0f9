"""`WeightKeeper`: removes weights that no blend can use; and checkpoints of fold runs that will not continue."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.moments import Moments, best_nonnegative_weights, moments
from data_prep.store.files import join, list_names, remove_folder
from data_prep.store.oof_store import OofStore
from data_prep.targets.target_columns import numbers_of
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
    """Return the weight of each candidate, all of them finished, in their best non-negative blend; the sum is 1.

    Where several numbers are predicted for a row, it is the mean weight in the best blends of each.
    """
    if not candidates:
        return {}
    parts: list[list[Moments]] = []
    for fold in store.folds(candidates[0]):
        tables = [store.read("oof", name, fold) for name in candidates]
        targets = _columns(numbers_of(tables[0], "score"))
        predictions = np.stack([_columns(numbers_of(table, "prediction")) for table in tables], axis=-1)
        known = ~np.isnan(targets)
        parts.append([moments(predictions[rows, n], targets[rows, n]) for n, rows in enumerate(known.T)])
    best = [best_nonnegative_weights(sum(folds[1:], start=folds[0])) for folds in zip(*parts, strict=True)]
    return dict(zip(candidates, np.mean(best, axis=0).tolist(), strict=True))


def _columns(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [rows, numbers] for [rows] or [rows, numbers]."""
    return numbers.reshape(len(numbers), -1)


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
