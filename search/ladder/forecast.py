"""How many candidates are expected to pass each step of the ladder, when nothing is known about them yet."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from search.ladder.settings import LadderSettings

ASSUMPTION = (
    "within a family, every candidate is equally likely to be the best; a rung cuts all but the best ceil(n / "
    "rung_eta) seen so far (ignoring the noise band, which spares some); of those that finish fold 0, the best ceil(n "
    "/ eta) of a family run on all other folds (none is dropped as hopeless, none is promoted for its gain to the "
    "blend)"
)


@dataclass(frozen=True)
class FamilyForecast:
    """How the candidates of one family are expected to fare."""

    candidates: int
    at_rungs: tuple[float, ...]
    """Candidates that pass each rung of fold 0."""
    promoted: float
    """Candidates that run on all folds."""
    fold_0: float
    """Training on fold 0, in fold runs: a run that is cut at a rung counts as that share of one."""
    n_folds: int

    @property
    def runs(self) -> float:
        """Training on all folds, in fold runs."""
        return self.fold_0 + self.promoted * (self.n_folds - 1)

    @property
    def finished(self) -> float:
        """Fold runs that finish."""
        return (self.at_rungs[-1] if self.at_rungs else self.candidates) + self.promoted * (self.n_folds - 1)


def forecast(families: Iterable[str], ladder: LadderSettings, *, n_folds: int) -> dict[str, FamilyForecast]:
    """Return how many candidates of each family pass, under `ASSUMPTION`; `families` has one entry per candidate."""
    return {name: _forecast(number, ladder, n_folds) for name, number in Counter(families).items()}


def _forecast(candidates: int, ladder: LadderSettings, n_folds: int) -> FamilyForecast:
    if not ladder.enabled:
        every = tuple(float(candidates) for _ in ladder.rungs)
        return FamilyForecast(candidates, every, float(candidates), float(candidates), n_folds)
    going, spent, before, at_rungs = float(candidates), 0.0, 0.0, []
    for rung in ladder.rungs:
        spent += going * (rung - before)
        before = rung
        if 0 in ladder.rung_folds:
            going = passing(going, eta=ladder.rung_eta, min_peers=ladder.min_peers)
        at_rungs.append(going)
    spent += going * (1 - before)
    promoted = min(going, max(math.ceil(candidates / ladder.eta), ladder.family_quota))
    return FamilyForecast(candidates, tuple(at_rungs), promoted, spent, n_folds)


def passing(arrivals: float, *, eta: float, min_peers: int) -> float:
    """Return the expected number of runs, arriving in random order, that pass a rung.

    The k-th run has k - 1 peers. With fewer than `min_peers` it passes; otherwise it passes if it is among the best
    ceil(k / eta) of k, which has the probability ceil(k / eta) / k.
    """
    whole = math.floor(arrivals)
    shares = [1.0 if k <= min_peers else math.ceil(k / eta) / k for k in range(1, whole + 2)]
    return sum(shares[:whole]) + (arrivals - whole) * shares[whole]
