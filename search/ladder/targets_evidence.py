"""`TargetsEvidence`: what a candidate adds to the blend of others, as the mean over the targets of a task."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from search.ladder.blend_gain import BlendEvidence
from search.ladder.decisions import BestBlend, BlendGain


class TargetsEvidence:
    """Evidence for each target, whose blends have weights of their own."""

    def __init__(self) -> None:
        self._targets: list[BlendEvidence] = [BlendEvidence()]

    def add(
        self,
        candidate: str,
        fold: int,
        prediction: NDArray[np.floating],
        target: NDArray[np.floating],
        group: NDArray[np.integer] | None,
    ) -> None:
        """Add predictions, [rows] or [rows, targets]; where a target is NaN, its row does not count for it.

        Raises:
            ValueError: as `BlendEvidence.add`, for each target.
        """
        columns = (prediction[:, None], target[:, None]) if target.ndim == 1 else (prediction, target)
        while len(self._targets) < columns[1].shape[1]:
            self._targets.append(BlendEvidence())
        for evidence, values, truth in zip(self._targets, *(array.T for array in columns), strict=True):
            known = ~np.isnan(truth)
            evidence.add(candidate, fold, values[known], truth[known], None if group is None else group[known])

    def known(self, candidates: Iterable[str], folds: Iterable[int]) -> tuple[str, ...]:
        """Return which of some candidates have predictions for all `folds`."""
        return self._targets[0].known(candidates, folds)

    def gain(self, candidate: str, members: Sequence[str], folds: Sequence[int]) -> BlendGain | None:
        """Return what `candidate` adds; None: no member, or no predictions of the candidate."""
        return self.gains([candidate], members, folds).get(candidate)

    def gains(self, candidates: Iterable[str], members: Sequence[str], folds: Sequence[int]) -> dict[str, BlendGain]:
        """Return what each of some candidates alone adds to the blend; those without predictions are left out."""
        names = list(candidates)
        first, *others = (evidence.gains(names, members, folds) for evidence in self._targets)
        return {name: _mean_gain([gain, *(gains[name] for gains in others)]) for name, gain in first.items()}

    def best_blend(self, candidates: Iterable[str], folds: Sequence[int]) -> BestBlend | None:
        """Return how good the blends of candidates known on all `folds` are; None: there is none."""
        names = list(candidates)
        found = [evidence.best_blend(names, folds) for evidence in self._targets]
        blends = [blend for blend in found if blend is not None]
        if not blends:
            return None
        return BestBlend(
            pearson=_mean([blend.pearson for blend in blends]),
            members=max(blend.members for blend in blends),
            candidates=blends[0].candidates,
        )


def _mean_gain(gains: Sequence[BlendGain]) -> BlendGain:
    first, second = ([gain.halves[half] for gain in gains] for half in (0, 1))
    return BlendGain((_mean(first), _mean(second)), gains[0].n_members)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
