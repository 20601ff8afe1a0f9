"""Which weights a run directory keeps: those of the candidates that can still be in the blend."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.moments import best_nonnegative_weights, moments
from data_prep.oof import OofStore
from search.disk import candidates_with_weights, read_shares, remove_weights, write_shares
from search.standing import CandidateStatus, State

Keep = Literal["members", "all", "none"]


class WeightKeeper:
    """Removes weights as soon as they are of no use, and ranks the rest for the disk budget.

    The blend is that of the finished candidates whose weights are there, at the non-negative optimum of Pearson on
    their out-of-fold predictions: the best one that can be bundled. A candidate on its way keeps its weights; a stopped
    one loses them once some candidate has finished, since until then it may be taken back.
    """

    def __init__(self, run_dir: str, keep: Keep) -> None:
        self._run_dir = run_dir
        self._keep = keep
        self._store = OofStore(run_dir)
        self._known: dict[str, State] = {}
        self._shares: dict[str, float] = read_shares(run_dir)

    def settle(self, states: Callable[[], Mapping[str, CandidateStatus]]) -> list[str]:
        """Remove what is of no use any more; return the candidates whose weights went."""
        here = candidates_with_weights(self._run_dir)
        if not here:
            return []
        standing = {name: status.state for name, status in states().items()}
        known = {name: standing[name] for name in here if name in standing}
        if known == self._known:
            return []
        self._known = known
        finished = [name for name, state in known.items() if state == "finished"]
        shares = blend_shares(self._store, finished)
        if "finished" in standing.values():
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
    """Return the weight of each candidate, all folds finished, in their best non-negative blend; the sum is 1."""
    if not candidates:
        return {}
    parts = []
    for fold in store.folds(candidates[0]):
        tables = [store.read("oof", name, fold) for name in candidates]
        columns: NDArray[np.float64] = np.column_stack([table["prediction"].to_numpy() for table in tables])
        parts.append(moments(columns, tables[0]["score"].to_numpy()))
    best = best_nonnegative_weights(sum(parts[1:], start=parts[0]))
    return dict(zip(candidates, map(float, best), strict=True))
