"""What `docs/ladder.md` promises, on searches of any shape and order of arrival."""

import math
import random
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scoring.moments import best_nonnegative_weights, moments, pearson_of
from ladder_play import (
    FIXED_BAND,
    N_FOLDS,
    QUIET,
    RUNGS,
    Surface,
    ladder_with,
    orders,
    play,
    run_of,
    states,
    surfaces,
)
from least_squares import residual_by_least_squares
from search.ladder.blend_gain import BlendEvidence, split_in_halves
from search.ladder.candidate_index import CandidateIndex
from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import BlendGain, FoldRun, StateName
from search.ladder.fold_ladder import FoldLadder
from search.ladder.fold_utilities import FoldUtilities
from search.ladder.settings import LadderSettings

# ---------------------------------------------------------------- a plain reference without any index


class PlainIndex(CandidateIndex):
    """Answers every question by looking at all candidates."""

    def __getattribute__(self, name: str) -> object:
        if name == "n_judged":
            return sum(c.is_judged for c in self)
        return sum(c.promoted for c in self) if name == "n_promoted" else super().__getattribute__(name)

    def in_state(self, state: StateName) -> list[CandidateState]:
        return [c for c in self if c.state == state]

    def survivors(self) -> list[int]:
        return [c.number for c in self if c.promoted and c.state in ("running", "finished")]

    def n_judged_in(self, family: str) -> int:
        return sum(c.family == family and c.is_judged for c in self)

    def ranking(self, family: str, first: int | None = None) -> list[CandidateState]:
        done = [c for c in self if c.family == family and 0 in c.utilities and c.state != "failed"]
        return sorted(done, key=lambda c: -c.utilities[0])[:first]

    def leader_on_fold_0(self, candidate: CandidateState) -> CandidateState | None:
        rivals = [c for family in self.families() for c in self.ranking(family) if c is not candidate]
        return max((c for c in rivals if c.state != "stopped"), key=lambda c: c.utilities[0], default=None)

    def rank(self, candidate: CandidateState) -> int:
        return self.ranking(candidate.family).index(candidate) + 1

    def seen_at(self, family: str, fold: int, rung: float) -> list[float]:
        return sorted(c.rungs[fold, rung] for c in self if c.family == family and (fold, rung) in c.rungs)


class PlainUtilities(FoldUtilities):
    def best_over(self, rows: Sequence[int], folds: Sequence[int]) -> int | None:
        complete = [row for row in rows if not np.isnan(self._values[row, list(folds)]).any()]
        return max(complete, key=lambda row: sum(self._values[row, fold] for fold in folds), default=None)

    def residual(self) -> tuple[float, int]:
        squares, freedom = residual_by_least_squares(self._values)
        return (squares, freedom) if freedom else (0.0, 0)


class PlainEvidence(BlendEvidence):
    """Keeps all rows and solves every blend from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[tuple[str, int], np.ndarray] = {}

    def add(self, candidate: str, fold: int, prediction: np.ndarray, *others: np.ndarray | None) -> None:
        super().add(candidate, fold, prediction, *others)
        self._rows[candidate, fold] = prediction

    def gain(self, candidate: str, members: Sequence[str], folds: Sequence[int]) -> BlendGain | None:
        blend = self.known(members, folds)
        if not blend or not self.known([candidate], folds):
            return None
        halves = [self._half([*blend, candidate], folds, half) for half in (0, 1)]
        rises = [self._rise_of(halves[1], halves[0]), self._rise_of(halves[0], halves[1])]
        return BlendGain((rises[0], rises[1]), len(blend))

    def _half(self, names: list[str], folds: Sequence[int], half: int):
        tables = []
        for fold in folds:
            score = self._folds[fold].target
            rows = split_in_halves(len(score), None)[half]
            tables.append(moments(np.column_stack([self._rows[name, fold][rows] for name in names]), score[rows]))
        return sum(tables[1:], start=tables[0])

    def _rise_of(self, fitted, scored) -> float:
        weights, others = best_nonnegative_weights(fitted), range(len(fitted.cross) - 1)
        if weights[-1] <= 1e-12:
            return 0.0
        before = pearson_of(scored.of(others), best_nonnegative_weights(fitted.of(others)))
        return float(np.nan_to_num(pearson_of(scored, weights))) - float(np.nan_to_num(before))


class PlainLadder(FoldLadder):
    def __init__(self, settings: LadderSettings, *, n_folds: int) -> None:
        super().__init__(settings, n_folds=n_folds)
        self._candidates, self._utilities, self._evidence = PlainIndex(), PlainUtilities(n_folds), PlainEvidence()


choices = st.fixed_dictionaries(
    {
        "eta": st.sampled_from([2, 3, 4]),
        "min_peers": st.sampled_from([1, 3]),
        "family_quota": st.sampled_from([0, 1, 2]),
        "min_gain": st.sampled_from([0.0002, 0.0005, 0.005]),
        "z": st.sampled_from([0, 1, 2]),
        "rungs": st.sampled_from([(), RUNGS]),
        "promote_early": st.booleans(),
    }
)


@QUIET
@given(surfaces, orders, choices, st.integers(1, 6))
def test_indexed_and_warm_started_it_decides_as_a_ladder_that_looks_at_everything(
    surface: Surface, seed: int, chosen: dict[str, object], workers: int
) -> None:
    settings = LadderSettings(**chosen)
    quick, plain = (
        play(surface, kind(settings, n_folds=N_FOLDS), order=random.Random(seed), workers=workers)
        for kind in (FoldLadder, PlainLadder)
    )
    assert quick.started == plain.started
    assert states(quick.ladder) == states(plain.ladder)
    assert [getattr(answer, "go", answer) for answer in quick.answers] == [
        getattr(answer, "go", answer) for answer in plain.answers
    ]


# ---------------------------------------------------------------- order of arrival


@pytest.mark.parametrize("utilities", [(0.80, 0.79, 0.75, 0.70, 0.60, 0.50), (0.80, 0.797, 0.796, 0.70, 0.40, 0.30)])
def test_in_every_order_those_within_noise_of_the_best_pass_a_rung_and_so_do_the_first(
    utilities: tuple[float, ...],
) -> None:
    for order in permutations(utilities):
        ladder = ladder_with(**FIXED_BAND)
        passed = [utility for utility in order if ladder.report(run_of(f"c{utility}"), 1 / 3, utility).go]
        assert {utility for utility in utilities if utility >= max(utilities) - 0.005} <= set(passed)
        assert set(order[:3]) <= set(passed)


@QUIET
@given(surfaces, orders, orders, st.integers(1, 6))
def test_order_of_arrival_never_costs_a_family_what_is_within_noise_of_its_best(
    surface: Surface, first: int, second: int, workers: int
) -> None:
    """The bound in docs/ladder.md: within the band of its family's best at every rung, a candidate ends fold 0."""
    surface.deaths = {}
    safe = {
        name
        for name in surface.names
        if all(
            surface.utility(name, 0, rung)
            >= max(surface.utility(other, 0, rung) for other in surface.names if shares(surface, name, other)) - 0.005
            for rung in RUNGS
        )
    }
    for seed in (first, second):
        random.Random(seed).shuffle(surface.names)
        story = play(surface, ladder_with(**FIXED_BAND), order=random.Random(seed), workers=workers)
        reasons = {name: status.reason for name, status in story.ladder.status().items()}
        assert not [name for name in safe if reasons[name].startswith("cut on fold 0")]


def shares(surface: Surface, one: str, other: str) -> bool:
    return surface.family[one] == surface.family[other]


# ---------------------------------------------------------------- no idle worker, no deadlock, late promotion


class Watched(FoldLadder):
    """Checks that it starts nothing only when `docs/ladder.md` leaves nothing to start, and every promotion by rank."""

    idle = 0
    late = 0

    def next_run(self, *, new_available: bool) -> FoldRun | None:
        run = super().next_run(new_available=new_available)
        if run is None:
            self.idle += 1
            self._check_idle()
        elif self._candidates[run.candidate].state == "waiting":
            self._check_promotion(self._candidates[run.candidate])
        return run

    def _check_idle(self) -> None:
        members = self._members((0,))
        for candidate in self._candidates:
            assert candidate.ended or not candidate.to_repeat, "a run to repeat was not started"
            if candidate.promoted and candidate.state == "running":
                assert candidate.next_fold(self.n_folds) is None, "an open fold of a promoted one was not started"
            if candidate.state == "waiting" and not self._new_available:
                n_judged = sum(c.family == candidate.family and c.is_judged for c in self._candidates)
                places = max(self.settings.family_quota, math.ceil(n_judged / self.settings.eta))
                within = self._candidates.rank(candidate) <= places
                assert not within or self._shortfall(candidate), "one that its rank promotes was left waiting"
                gain = self._evidence.gain(candidate.name, members, (0,))
                enough = gain is not None and gain.mean >= self.settings.min_gain and min(gain.halves) > 0
                assert not enough, "one that the blend promotes was left waiting"

    def _check_promotion(self, candidate: CandidateState) -> None:
        ranking = self._candidates.ranking(candidate.family)
        better = [c for c in ranking[: ranking.index(candidate)] if c.state == "waiting"]
        by_blend = candidate.promotion.startswith("promoted: adds")
        assert by_blend or all(self._shortfall(c) for c in better), "a better one of the family was left waiting"
        self.late += candidate is not self._candidates[len(list(self._candidates)) - 1]


@QUIET
@given(surfaces, orders, choices, st.integers(1, 6))
def test_a_slot_is_idle_only_when_nothing_sensible_is_left(
    surface: Surface, seed: int, chosen: dict[str, object], workers: int
) -> None:
    story = play(
        surface, Watched(LadderSettings(**chosen), n_folds=N_FOLDS), order=random.Random(seed), workers=workers
    )
    assert story.ladder.idle > 0


def test_the_searches_watched_above_promote_candidates_long_after_their_fold_0() -> None:
    late = 0
    for seed in range(10):
        surface = Surface(seed=seed, n_candidates=14, n_families=2)
        late += play(surface, Watched(LadderSettings(), n_folds=N_FOLDS), order=random.Random(seed)).ladder.late
    assert late > 10


@QUIET
@given(surfaces, orders, st.integers(1, 6), st.booleans())
def test_a_family_that_dies_holds_nothing_up(surface: Surface, seed: int, workers: int, early: bool) -> None:
    dead = surface.family[surface.names[0]]
    surface.deaths = {(name, 0): 2 for name in surface.names if surface.family[name] == dead}
    story = play(surface, ladder_with(promote_early=early), order=random.Random(seed), workers=workers)
    final = states(story.ladder)
    assert {final[name] for name in surface.names if surface.family[name] == dead} == {"failed"}
    if surface.n_families > 1 and len(surface.names) > 1:
        assert "finished" in final.values()


@pytest.mark.parametrize("fold", range(N_FOLDS))
def test_a_search_in_which_everything_dies_ends(fold: int) -> None:
    surface = Surface(seed=1, deaths={(f"c{number}", fold): 2 for number in range(12)})
    story = play(surface, ladder_with(), order=random.Random(1))
    assert set(states(story.ladder).values()) <= {"failed", "stopped"}
    assert "failed" in states(story.ladder).values()
    assert not math.isnan(story.ladder.noise)
