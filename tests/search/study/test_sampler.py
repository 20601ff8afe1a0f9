"""The sampler: deterministic by seed, never twice the same, the same after an interruption."""

import itertools
import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from scipy.stats import wilcoxon

from search.ladder.decisions import FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.run_dir.drawn_candidates import DrawnCandidate
from search.study.read_space import read_space
from search.study.sampler import SAMPLERS, Sampler
from search.study.space import Space
from search.study.tpe_window import TpeWindow

SPACE: dict[str, Any] = {
    "backbone_lr": {"loguniform": [1.0e-5, 1.0e-3]},
    "epochs": {"int": [1, 4]},
    "loss": ["mse", "bce"],
    "head_dropout": {"uniform": [0.0, 0.3], "when": {"loss": "bce"}},
}
SMALL: dict[str, Any] = {"epochs": [1, 2], "loss": ["mse", "bce"]}


def utility(sample: DrawnCandidate) -> float:
    return -abs(sample.candidate.epochs - 3) - abs(sample.candidate.backbone_lr - 3e-4) * 1e3


def tell(sampler: Sampler, sample: DrawnCandidate) -> None:
    """Finish two of three candidates, stop every third at half of its schedule, and fail one."""
    if sample.number == 4:
        sampler.tell(sample.candidate.id, None)
    else:
        sampler.tell(sample.candidate.id, utility(sample), progress=0.5 if sample.number % 3 == 2 else 1.0)


def draw(sampler: Sampler, number: int, taken: set[str] | None = None) -> list[DrawnCandidate]:
    taken = set() if taken is None else taken
    found = []
    for _ in range(number):
        sample = sampler.ask(taken)
        if sample is None:
            break
        taken.add(sample.candidate.id)
        tell(sampler, sample)
        found.append(sample)
    return found


def new(kind: Any, space: Space, seed: int = 1, window: TpeWindow | None = None) -> Sampler:
    return Sampler(space, kind=kind, seed=seed, window=window)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_same_seed_same_candidates(kind: str) -> None:
    space = read_space(SPACE)
    assert draw(new(kind, space), 20) == draw(new(kind, space), 20)
    assert draw(new(kind, space), 20) != draw(new(kind, space, seed=2), 20)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("cut", [1, 5, 13, 19])
def test_interrupted_it_goes_on_with_the_same_candidates(kind: str, cut: int) -> None:
    space = read_space(SPACE)
    whole = draw(new(kind, space), 25)
    again = new(kind, space)
    for sample in whole[:cut]:
        again.restore(sample)
    for sample in whole[:cut]:
        tell(again, sample)
    assert draw(again, 25 - cut, {sample.candidate.id for sample in whole[:cut]}) == whole[cut:]


@pytest.mark.parametrize("kind", [*SAMPLERS, "grid"])
def test_known_candidates_are_not_drawn_and_an_exhausted_space_says_so(kind: str) -> None:
    space = read_space(SMALL)
    taken = {draw(new("grid", space), 1)[0].candidate.id}
    sampler = new(kind, space)
    found = [sample.candidate.id for sample in draw(sampler, 10, taken)]
    assert len(found) == len(set(found)) == 3
    assert sampler.ask(taken) is None


def test_grid_lists_everything_once_in_an_order_of_its_seed() -> None:
    space = read_space({**SMALL, "head": {"choice": ["cls", "mean"], "when": {"loss": "mse"}}})
    first, second = (
        [tuple(sample.settings.items()) for sample in draw(new("grid", space, seed), 99)] for seed in (1, 2)
    )
    assert len(first) == len(set(first)) == 6
    assert sorted(first) == sorted(second)
    assert first != second


# ---------------------------------------------------------------- stopped runs

SURFACE: dict[str, Any] = {
    "backbone_lr": {"loguniform": [1.0e-6, 1.0e-2]},
    "head_lr": {"loguniform": [1.0e-6, 1.0e-2]},
    "head_dropout": {"uniform": [0.0, 0.5]},
    "loss": ["mse", "bce"],
}
RUNGS = (1 / 3, 2 / 3)


def quality(sample: DrawnCandidate) -> float:
    """The utility at the end; at best .85, at backbone_lr = 1e-4."""
    drawn = sample.candidate
    far = (math.log10(drawn.backbone_lr) + 4) ** 2 + 0.3 * (math.log10(drawn.head_lr) + 3) ** 2
    return 0.85 - 0.04 * far - 0.2 * abs(drawn.head_dropout - 0.1) - 0.02 * (drawn.loss == "bce")


def curve(sample: DrawnCandidate, progress: float) -> float:
    """The utility on the way: those with a high rate lead at first, whatever they reach, so curves cross."""
    slow = 0.06 - 0.02 * (math.log10(sample.candidate.backbone_lr) + 4)
    return quality(sample) - slow * (1 - progress)


def test_the_curves_of_the_surface_cross() -> None:
    drawn = draw(new("random", read_space(SURFACE)), 40)
    orders = [np.argsort([curve(sample, progress) for sample in drawn]) for progress in (1 / 3, 1.0)]
    assert not np.array_equal(*orders)


def best_found(kind: str, *, seed: int, budget: float) -> float:
    """Search with the ladder cutting on fold 0 until `budget` fold runs' worth of work is done."""
    sampler, ladder = new(kind, read_space(SURFACE), seed), FoldLadder(LadderSettings(eta=2), n_folds=5)
    taken: set[str] = set()
    found, spent = [0.0], 0.0
    while spent < budget:
        sample = sampler.ask(taken)
        assert sample is not None
        name = sample.candidate.id
        taken.add(name)
        run = FoldRun(name, "bert", 0)
        for before, progress in itertools.pairwise((0.0, *RUNGS, 1.0)):
            spent += progress - before
            metric = curve(sample, progress)
            if progress == 1:
                ladder.finish(run, metric, None, None)
                found.append(metric)
            elif ladder.report(run, progress, metric).go:
                continue
            sampler.tell(name, metric, progress=progress)
            break
    return max(found)


def test_tpe_beats_random_at_equal_budget_with_the_ladder_cutting() -> None:
    pairs = [[best_found(kind, seed=seed, budget=25) for kind in ("tpe", "random")] for seed in range(24)]
    tpe, chance = np.array(pairs).T
    assert wilcoxon(tpe, chance, alternative="greater").pvalue < 0.001
    assert np.mean(tpe) > np.mean(chance) + 0.005


@pytest.mark.parametrize(("progress", "lures"), [(1 / 3, False), (1.0, True)])
def test_a_cut_run_with_a_high_metric_does_not_outrank_finished_ones(progress: float, lures: bool) -> None:
    """Runs with a high rate show .9 when they are cut, finished ones .5: only were it final would that count."""
    sampler, taken = new("tpe", read_space({"backbone_lr": {"loguniform": [1.0e-6, 1.0e-2]}})), set()
    high = []
    for _ in range(60):
        sample = sampler.ask(taken)
        assert sample is not None
        taken.add(sample.candidate.id)
        high.append(sample.candidate.backbone_lr > 1e-4)
        if high[-1]:
            sampler.tell(sample.candidate.id, 0.9, progress=progress)
        else:
            sampler.tell(sample.candidate.id, 0.5 - 0.1 * abs(math.log10(sample.candidate.backbone_lr) + 5))
    assert np.mean(high[20:]) > 0.7 if lures else np.mean(high[20:]) < 0.2, np.mean(high[20:])


# ---------------------------------------------------------------- long searches


def test_up_to_the_bound_draws_are_those_of_tpe_over_all_trials() -> None:
    """The reference is Optuna's own study, with its own storage, asked with the same seeds."""
    space, seed = read_space(SURFACE), 3
    ours, taken = new("tpe", space, seed), set()
    study = optuna.create_study(direction="maximize")
    running: list[tuple[DrawnCandidate, optuna.Trial]] = []
    for number in range(60):
        sample = ours.ask(taken)
        assert sample is not None
        taken.add(sample.candidate.id)
        study.sampler = TPESampler(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        trial = study.ask()
        assert sample.settings == space.settings(lambda d, trial=trial: d.domain.suggest(trial, d.name)), number
        running.append((sample, trial))
        if len(running) > 4:
            done, trial = running.pop(number % 3)
            value = quality(done)
            if number % 4 == 0:
                ours.tell(done.candidate.id, value, progress=0.5)
                trial.report(value, step=500)
                study.tell(trial, state=TrialState.PRUNED)
            else:
                ours.tell(done.candidate.id, value)
                study.tell(trial, value)


def test_beyond_the_bound_the_best_the_latest_and_running_trials_are_in_view() -> None:
    study = optuna.create_study(direction="maximize", storage=TpeWindow(n_best=4, n_latest=6))
    told = np.random.default_rng(0).permutation(40)
    trials = [study.ask() for _ in range(43)]
    for number in told:
        if number % 3 == 0:
            trials[number].report(float(number % 7), step=400 + 100 * int(number % 2))
            study.tell(trials[number], state=TrialState.PRUNED)
        elif number % 10 == 1:
            study.tell(trials[number], state=TrialState.FAIL)
        else:
            study.tell(trials[number], float((number * 7) % 13))
    known = [n for n in range(40) if n % 3 and n % 10 != 1]
    best = sorted(known, key=lambda n: (-((n * 7) % 13), n))[:4]
    others = sorted(set(known) - set(best) | set(range(0, 40, 3)))[-6:]
    assert [trial.number for trial in study.get_trials()] == sorted([*best, *others, 40, 41, 42])
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    assert {trial.number for trial in study.get_trials(states=ended)} == {*best, *others}


def test_where_all_were_stopped_those_that_got_furthest_are_the_best() -> None:
    study = optuna.create_study(direction="maximize", storage=TpeWindow(n_best=2, n_latest=1))
    for step, value in [(400, 0.9), (600, 0.1), (600, 0.2), (400, 0.8), (400, 0.7)]:
        trial = study.ask()
        trial.report(value, step=step)
        study.tell(trial, state=TrialState.PRUNED)
    assert [trial.number for trial in study.get_trials()] == [1, 2, 4]


@pytest.mark.parametrize("cut", [70, 95])
def test_interrupted_beyond_the_bound_it_continues_with_the_same_candidates(cut: int) -> None:
    """With conditions, too: which dimensions are drawn jointly must not depend on what is in view."""
    space = read_space(SPACE)
    whole = draw(new("tpe", space, window=TpeWindow(5, 15)), 100)
    again = new("tpe", space, window=TpeWindow(5, 15))
    for sample in whole[:cut]:
        again.restore(sample)
    for sample in reversed(whole[:cut]):
        tell(again, sample)
    assert draw(again, 100 - cut, {sample.candidate.id for sample in whole[:cut]}) == whole[cut:]


def test_a_draw_looks_at_no_more_trials_the_longer_a_search_is() -> None:
    looked: list[int] = []

    class Counted(TpeWindow):
        def get_all_trials(self, *arguments: Any, **keywords: Any) -> Any:
            found = super().get_all_trials(*arguments, **keywords)
            looked.append(len(found))
            return found

    draw(new("tpe", read_space(SURFACE), window=Counted(5, 15)), 120)
    assert max(looked) == 5 + 15 + 1


def test_a_failed_candidate_teaches_as_little_as_one_that_was_never_tried() -> None:
    failing, passing = (new("tpe", read_space(SURFACE)) for _ in range(2))
    taken: set[str] = set()
    assert draw(failing, 20, taken) == draw(passing, 20), "more than what TPE draws at random to begin with"
    for _ in range(5):
        sample = failing.ask(taken)
        assert sample is not None
        taken.add(sample.candidate.id)
        failing.tell(sample.candidate.id, None)
    after = failing.ask(taken)
    assert after is not None
    assert after.number == 25
    assert passing.ask(taken) == after, "which draws the same five, and passes them over"


def test_tpe_learns() -> None:
    space = read_space(SPACE)
    late = {
        kind: sum(sum(map(utility, draw(new(kind, space, seed), 40)[20:])) for seed in range(5)) for kind in SAMPLERS
    }
    assert late["tpe"] > late["random"]
