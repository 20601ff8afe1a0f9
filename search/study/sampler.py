"""`Sampler`: draws the next candidate from the space of a study, with Optuna."""

from collections.abc import Callable, Container
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from models.candidate import Candidate
from search.run_dir.drawn_candidates import DrawnCandidate
from search.study.space import Dimension, Scalar, Space
from search.study.tpe_window import TpeWindow

MAX_MISSES = 200
"""Draws in a row without a new candidate after which a space counts as exhausted."""

PROGRESS_STEPS = 1000


class Sampler:
    """Draws candidates from a space and learns from their results.

    A draw depends only on the seed, its number and the results so far: every draw has a random stream of its own. So an
    interrupted search restores its drawn candidates, tells their results again, and continues exactly as it would have.
    """

    def __init__(
        self, space: Space, *, kind: Literal["tpe", "random", "grid"], seed: int, window: TpeWindow | None = None
    ) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._drawn = 0
        self._trials: dict[str, optuna.Trial] = {}
        self._grid = _shuffled_grid(space, seed) if kind == "grid" else []
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._shared_dimensions = _dimensions_of_all(space)
        self._study = optuna.create_study(
            direction="maximize", sampler=RandomSampler(seed=seed), storage=window or TpeWindow()
        )

    def ask(self, taken: Container[str]) -> DrawnCandidate | None:
        """Draw a candidate whose id is not in `taken`; None when the space has nothing new left."""
        for _ in range(MAX_MISSES if self._kind != "grid" else len(self._grid)):
            number = self._drawn
            if self._kind == "grid" and number >= len(self._grid):
                return None
            self._drawn += 1
            trial, settings = self._draw(number)
            candidate = _candidate(settings)
            if candidate is not None and candidate.id not in taken:
                self._trials[candidate.id] = trial
                return DrawnCandidate(number, settings, candidate)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def restore(self, drawn: DrawnCandidate) -> None:
        """Restore a candidate drawn before the search was interrupted; they must come in the order of their draws."""
        self._drawn = max(self._drawn, drawn.number + 1)
        self._study.enqueue_trial(drawn.settings)
        trial = self._study.ask()
        if self._kind != "grid":
            self._space.settings(lambda dimension: dimension.domain.suggest(trial, dimension.name))
        self._trials[drawn.candidate.id] = trial

    def tell(self, candidate: str, utility: float | None, *, progress: float = 1.0) -> None:
        """Learn the utility of a candidate on fold 0, where all candidates compare; None: it failed.

        Only the first result counts, and none of a candidate that was not drawn here. One that was stopped, at a
        `progress` below 1, ranks below every candidate that got further, and by utility among those that got as far.
        """
        trial = self._trials.pop(candidate, None)
        if trial is None:
            return
        if utility is None:
            self._study.tell(trial, state=TrialState.FAIL)
        elif progress < 1.0:
            trial.report(utility, step=round(progress * PROGRESS_STEPS))
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, utility)

    def _draw(self, number: int) -> tuple[optuna.Trial, dict[str, Scalar]]:
        if self._kind == "grid":
            return self._study.ask(), self._grid[number]
        self._study.sampler = SAMPLERS[self._kind](_seed_of_draw(self._seed, number), self._shared_dimensions)
        trial = self._study.ask()

        def choose(dimension: Dimension) -> Scalar:
            return dimension.domain.suggest(trial, dimension.name)

        return trial, self._space.settings(choose)


def _seed_of_draw(seed: int, number: int) -> int:
    """Return a different seed for each draw."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _shuffled_grid(space: Space, seed: int) -> list[dict[str, Scalar]]:
    """Return every combination in random order, so that a budget smaller than the grid sees all of its sides."""
    combinations = list(space.combinations(lambda domain: domain.grid() or ()))
    order = np.random.default_rng(seed).permutation(len(combinations))
    return [combinations[position] for position in order]


def _candidate(settings: dict[str, Scalar]) -> Candidate | None:
    """Return the candidate, or None where the settings contradict each other."""
    try:
        return Candidate.model_validate(settings)
    except ValidationError:
        return None


class _Distributions:
    """Takes the place of a trial: answers with the distribution instead of a value."""

    def suggest_categorical(self, _name: str, choices: list[Scalar]) -> CategoricalDistribution:
        return CategoricalDistribution(choices)

    def suggest_float(self, _name: str, low: float, high: float, *, log: bool) -> FloatDistribution:
        return FloatDistribution(low, high, log=log)

    def suggest_int(self, _name: str, low: int, high: int) -> IntDistribution:
        return IntDistribution(low, high)


def _dimensions_of_all(space: Space) -> dict[str, BaseDistribution]:
    """Return the dimensions that every candidate has and that have more than one value."""
    unconditional = [dimension for dimension in space.dimensions if not dimension.when]
    trial: Any = _Distributions()
    found: dict[str, Any] = {each.name: each.domain.suggest(trial, each.name) for each in unconditional}
    return {name: what for name, what in sorted(found.items()) if isinstance(what, BaseDistribution)}


class _TreeParzenSampler(TPESampler):
    """Optuna's TPE, given the dimensions that every candidate has, instead of looking through all trials for them."""

    def __init__(self, seed: int, shared_dimensions: dict[str, BaseDistribution]) -> None:
        super().__init__(seed=seed)
        self._shared_dimensions = shared_dimensions

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return the dimensions that are drawn jointly; the conditional ones are drawn one by one."""
        return self._shared_dimensions


def _random(seed: int, _shared_dimensions: dict[str, BaseDistribution]) -> BaseSampler:
    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int, dict[str, BaseDistribution]], BaseSampler]] = {
    "tpe": _TreeParzenSampler,
    "random": _random,
}
