"""What the ladder is expected to let through, when nothing is known of the candidates yet."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from search.ladder.settings import LadderSettings

ASSUMPTION = (
    "of a family's candidates each is as likely as any other to be the best; at a rung all behind the best ceil(n / "
    "rung_eta) seen so far are cut (the noise band, which spares some, counts for nothing); of those that finish fold "
    "0 the best ceil(n / eta) of a family do all other folds (none is dropped as hopeless, none comes in by the blend)"
)


@dataclass(frozen=True)
class FamilyForecast:
    """What becomes of the candidates of one family, in expectation."""

    candidates: int
    at_rungs: tuple[float, ...]
    """Candidates that go on behind each rung of fold 0."""
    promoted: float
    """Candidates that do all folds."""
    fold_0: float
    """Fold runs' worth of training spent on fold 0: a run that is cut at a rung counts as that share of one."""
    n_folds: int

    @property
    def runs(self) -> float:
        """Fold runs' worth of training, all folds together."""
        return self.fold_0 + self.promoted * (self.n_folds - 1)

    @property
    def finished(self) -> float:
        """Fold runs that finish."""
        return (self.at_rungs[-1] if self.at_rungs else self.candidates) + self.promoted * (self.n_folds - 1)


def forecast(families: Iterable[str], ladder: LadderSettings, *, n_folds: int) -> dict[str, FamilyForecast]:
    """Return what the ladder lets through of each family, as `ASSUMPTION` says.

    Args:
        families: the family of each candidate.
        ladder: the study's settings.
        n_folds: of the split.
    """
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
    """Return how many of so many runs, in random order of arrival, pass a rung.

    The k-th has k - 1 peers; where these are fewer than `min_peers` it passes, else when it is among the best
    ceil(k / eta) of k, which has the probability ceil(k / eta) / k.
    """
    whole = math.floor(arrivals)
    shares = [1.0 if k <= min_peers else math.ceil(k / eta) / k for k in range(1, whole + 2)]
    return sum(shares[:whole]) + (arrivals - whole) * shares[whole]
