import itertools
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.scoring.metrics import METRICS
from ladder_play import FIXED_BAND, N_FOLDS, QUIET, RUNGS, Surface, ladder_with, orders, play, run_of, states, surfaces
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings

# ---------------------------------------------------------------- single rules


def test_nobody_is_cut_before_enough_peers_were_seen() -> None:
    ladder = ladder_with(min_peers=3)
    for number, utility in enumerate((0.8, 0.7, 0.1 + 0.2)):
        assert ladder.report(run_of(f"c{number}"), 1 / 3, utility).go
    decision = ladder.report(run_of("late"), 1 / 3, 0.6)
    assert not decision.go
    assert "utility 0.6000 is more than 0.0050 below the 0.7000 of rank 2 of 4 in bert" in decision.reason
    assert ladder.status()["late"].state == "stopped"


@pytest.mark.parametrize(("utility", "go"), [(0.6951, True), (0.6949, False)])
def test_nobody_is_cut_inside_the_noise_band(utility: float, go: bool) -> None:
    ladder = ladder_with(noise=0.005)
    for number, seen in enumerate((0.8, 0.7, 0.3)):
        ladder.report(run_of(f"c{number}"), 1 / 3, seen)
    assert ladder.report(run_of("late"), 1 / 3, utility).go is go


def test_runs_are_compared_only_inside_family_fold_and_rung() -> None:
    ladder = ladder_with(rung_folds=(0, 1))
    for number in range(5):
        ladder.report(run_of(f"other{number}", family="electra"), 1 / 3, 0.9)
        ladder.report(run_of(f"c{number}"), 2 / 3, 0.9)
        ladder.report(run_of(f"d{number}", fold=1), 1 / 3, 0.9)
    decision = ladder.report(run_of("late"), 1 / 3, 0.3)
    assert decision.go
    assert "waiting for 3 more runs to compare with" in decision.reason


def test_later_folds_have_no_rung_cuts_by_default() -> None:
    ladder = ladder_with()
    for number in range(5):
        ladder.report(run_of(f"c{number}", fold=1), 1 / 3, 0.9)
    assert ladder.report(run_of("late", fold=1), 1 / 3, 0.3).go


def test_a_rung_reported_twice_counts_once_and_far_behind_a_rung_counts_nowhere() -> None:
    ladder = ladder_with()
    for _ in range(5):
        ladder.report(run_of("same"), 1 / 3, 0.9)
    for number in range(5):
        ladder.report(run_of(f"jumped{number}"), 0.5, 0.9)
    assert "waiting for 2 more runs" in ladder.report(run_of("late"), 0.34, 0.3).reason


def test_new_candidates_start_before_anybody_is_promoted() -> None:
    ladder = ladder_with(eta=3)
    for number in range(7):
        ladder.finish(run_of(f"c{number}"), 0.8 + number / 1000, None, None)
        assert ladder.next_run(new_available=True) is None
    assert "ranks 7 of 7 in bert; top 0 promoted" in ladder.status()["c0"].reason
    assert ladder.next_run(new_available=False) == run_of("c6", 1)


def test_early_promotion_waits_for_others_while_new_candidates_come_then_rounds_up() -> None:
    ladder = ladder_with(eta=3, promote_early=True)
    for name, utility in (("a", 0.797), ("b", 0.796)):
        ladder.finish(run_of(name), utility, None, None)
        assert ladder.next_run(new_available=True) is None
    assert states(ladder) == {"a": "waiting", "b": "waiting"}
    assert "ranks 2 of 2 in bert; top 0 promoted" in ladder.status()["b"].reason
    ladder.finish(run_of("c"), 0.8, None, None)
    assert ladder.next_run(new_available=True) == run_of("c", 1)
    ladder.finish(run_of("d"), 0.5, None, None)
    ladder.start(run_of("c", 1))
    assert ladder.next_run(new_available=False) == run_of("c", 2)
    assert "ranks 1 of 3 in bert; top 1 promoted" in ladder.status()["c"].reason
    for fold in (2, 3):
        ladder.start(run_of("c", fold))
    assert ladder.next_run(new_available=False) == run_of("a", 1), "4 judged: 2 go on at the end"


def test_a_waiting_candidate_is_promoted_when_its_family_grows() -> None:
    ladder = ladder_with(eta=3, promote_early=True)
    for number in range(3):
        ladder.finish(run_of(f"good{number}"), 0.8 - number / 1000, None, None)
    for fold in range(1, N_FOLDS):
        ladder.start(run_of("good0", fold))
    assert ladder.next_run(new_available=True) is None
    for number in range(3):
        ladder.finish(run_of(f"bad{number}"), 0.5, None, None)
    assert ladder.next_run(new_available=True) == run_of("good1", 1)


def handed_out(ladder: FoldLadder) -> list[str]:
    """Return candidate and fold of everything that the ladder hands out before anything is reported."""
    handed = []
    while (run := ladder.next_run(new_available=False)) is not None:
        ladder.start(run)
        handed.append(f"{run.candidate}-{run.fold}")
    return handed


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, ["electra0", "albert0", "bert0"]),
        ({"kept_families": 2}, ["electra0", "albert0"]),
        ({"kept_families": 1, "family_quota": 2}, ["electra0", "electra1"]),
        ({"family_quota": 0}, ["electra0"]),
        ({"kept_families": 0}, ["electra0"]),
    ],
)
def test_the_best_families_keep_their_quota_however_far_behind(changes: dict[str, int], kept: list[str]) -> None:
    ladder = ladder_with(**changes)
    for family, best in (("minilm", 0.5), ("bert", 0.6), ("albert", 0.7), ("electra", 0.8)):
        for number in range(2):
            ladder.finish(run_of(f"{family}{number}", family=family), best - number / 20, None, None)
    assert handed_out(ladder) == [f"{name}-{fold}" for name in kept for fold in (1, 2, 3)]
    for name, status in ladder.status().items():
        assert status.state == ("running" if name in kept else "waiting")
    reason = ladder.status()["minilm0"].reason
    assert "ranks 1 of 2 in minilm; top " in reason
    assert "promoted; mean difference to electra0 on fold 0 -0.3000, at best -0.2900 with noise 0.0050" in reason


@pytest.mark.parametrize(("behind", "goes_on"), [(0.0099, True), (0.0101, False)])
def test_after_fold_0_a_candidate_goes_on_within_z_noise_of_the_leader(behind: float, goes_on: bool) -> None:
    ladder = ladder_with(z=2, noise=0.005, eta=2)
    ladder.finish(run_of("leader"), 0.8, None, None)
    ladder.finish(run_of("far"), 0.5, None, None)
    ladder.finish(run_of("close"), 0.8 - behind, None, None)
    assert ("close-1" in handed_out(ladder)) is goes_on


def test_those_not_kept_do_one_fold_each_before_anyone_does_a_second() -> None:
    ladder = ladder_with(eta=2)
    for name, utility in (("a", 0.8), ("b", 0.798), ("c", 0.797), ("d", 0.5), ("e", 0.5)):
        ladder.finish(run_of(name), utility, None, None)
    assert handed_out(ladder) == ["a-1", "a-2", "a-3", "b-1", "c-1", "b-2", "c-2", "b-3", "c-3"]


@pytest.mark.parametrize("how", ["at its next report", "at the end of its fold", "before its next fold"])
def test_a_promoted_candidate_is_dropped_when_a_better_one_finishes_fold_0(how: str) -> None:
    ladder = ladder_with()
    ladder.finish(run_of("first"), 0.7, None, None)
    for fold in (1, 2):
        ladder.start(run_of("first", fold))
    ladder.finish(run_of("better"), 0.8, None, None)
    assert ladder.status()["first"].state == "running"
    if how == "at its next report":
        assert not ladder.report(run_of("first", 1), 1 / 3, 0.9).go
    elif how == "at the end of its fold":
        assert ladder.finish(run_of("first", 1), 0.7, None, None).go, "what is finished is kept"
    assert handed_out(ladder) == ["better-1", "better-2", "better-3"]
    assert ladder.status()["first"].reason.startswith("dropped: mean difference to better on fold 0 -0.1000, at best")
    assert not ladder.report(run_of("first", 2), 2 / 3, 0.9).go


def blend_rows(n_rows: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.normal(size=n_rows), generator.normal(size=n_rows), generator.normal(size=n_rows)


@pytest.mark.parametrize(("kind", "goes_on"), [("other errors", True), ("a copy", False), ("noise", False)])
def test_the_blend_promotes_what_is_different_and_nothing_else(kind: str, goes_on: bool) -> None:
    score, first, second = blend_rows()
    ladder = ladder_with(family_quota=1, eta=3)
    best = score + first
    other = {"other errors": score + 1.5 * second, "a copy": 2 * best + 1, "noise": second}[kind]
    ladder.finish(run_of("best"), 0.7, best, score)
    ladder.finish(run_of("worse"), 0.5, other, score)
    for fold in range(1, N_FOLDS):
        ladder.start(run_of("best", fold))
    run = ladder.next_run(new_available=False)
    assert run == (run_of("worse", 1) if goes_on else None)
    if run is None:
        assert "to the blend of 1" in ladder.status()["worse"].reason
        ladder.finish(run_of("best", 1), 0.7, best, score)
        assert ladder.status()["worse"].state == "waiting"
        return
    ladder.start(run)
    assert "promoted: adds +0.0" in ladder.status()["worse"].reason


def test_a_gain_seen_on_one_half_of_the_groups_only_is_noise() -> None:
    score, first, second = blend_rows()
    group = np.repeat(np.arange(20), 100)
    lucky = np.where(group % 2 == 0, score, second)
    ladder = ladder_with()
    ladder.finish(run_of("best"), 0.7, score + first, score, group)
    ladder.finish(run_of("lucky"), 0.5, lucky, score, group)
    for fold in range(1, N_FOLDS):
        ladder.start(run_of("best", fold))
    assert ladder.next_run(new_available=False) is None


def test_while_new_candidates_come_the_blend_promotes_no_more_than_one_in_eta() -> None:
    score, first, second = blend_rows()
    ladder = ladder_with(eta=3, promote_early=True)
    ladder.finish(run_of("best"), 0.7, score + first, score)
    ladder.finish(run_of("diverse"), 0.5, score + 1.5 * second, score)
    ladder.finish(run_of("third"), 0.4, first, score)
    for fold in range(1, N_FOLDS):
        assert ladder.next_run(new_available=True) == run_of("best", fold)
        ladder.start(run_of("best", fold))
    assert ladder.next_run(new_available=True) is None
    assert ladder.next_run(new_available=False) == run_of("diverse", 1)


def finish_folds(
    ladder: FoldLadder, name: str, utilities: list[float], prediction: list[np.ndarray] | None = None
) -> None:
    score = blend_rows()[0]
    for fold, utility in enumerate(utilities):
        row = prediction[fold] if prediction else None
        ladder.finish(run_of(name, fold), utility, row, score if prediction else None)


def test_a_hopeless_candidate_is_dropped_on_paired_differences() -> None:
    ladder = ladder_with(family_quota=1)
    finish_folds(ladder, "leader", [0.80, 0.70, 0.75, 0.78])
    finish_folds(ladder, "close", [0.797, 0.692])
    finish_folds(ladder, "hopeless", [0.77, 0.66])
    assert states(ladder) == {"leader": "finished", "close": "running", "hopeless": "stopped"}
    # Less candidate and fold means, folds 0 and 1 of leader, close and hopeless leave +-.0025, 0 and -+.0025; folds 2
    # and 3 of the leader fit themselves. Squares 4 x .0025^2 with 2 of freedom, doubled for a difference.
    noise = math.sqrt((4 * 0.005**2 + 2 * 4 * 0.0025**2) / 6)
    hope = -0.035 + 2 * noise / math.sqrt(2)
    assert f"mean difference to leader on folds 0, 1 -0.0350, at best {hope:+.4f} with noise {noise:.4f}" in (
        ladder.status()["hopeless"].reason
    )


def test_a_hopeless_candidate_stays_while_it_helps_the_blend() -> None:
    score, first, second = blend_rows()
    ladder = ladder_with()
    finish_folds(ladder, "leader", [0.8, 0.7, 0.75, 0.78], [score + first] * 4)
    finish_folds(ladder, "diverse", [0.7, 0.6], [score + 1.5 * second] * 2)
    finish_folds(ladder, "copy", [0.7, 0.6], [score + first] * 2)
    assert states(ladder) == {"leader": "finished", "diverse": "running", "copy": "stopped"}


@pytest.mark.parametrize("utility", [math.nan, 0.01, -0.3])
def test_a_dead_run_is_tried_once_more_and_then_fails(utility: float) -> None:
    ladder = ladder_with()
    run = run_of("a")
    ladder.start(run)
    first = ladder.report(run, 1 / 3, utility)
    assert (first.go, first.retry) == (False, True)
    assert ladder.next_run(new_available=True) == run
    assert ladder.attempt(run) == 1
    ladder.start(run)
    assert ladder.next_run(new_available=True) is None
    second = ladder.finish(run, utility, None, None)
    assert (second.go, second.retry) == (False, False)
    assert ladder.status()["a"].state == "failed"
    assert "for the second time" in ladder.status()["a"].reason


def test_without_a_floor_only_nan_is_dead() -> None:
    ladder = ladder_with(dead_below=None)
    assert ladder.report(run_of("a"), 1 / 3, -0.4).go
    assert ladder.report(run_of("a"), 2 / 3, math.nan).retry


@pytest.mark.parametrize(
    ("metric", "given", "floor"),
    [
        ("pearson", {}, 0.05),
        ("spearman", {}, 0.05),
        ("rmse", {}, None),
        ("rmse", {"dead_below": -0.4}, -0.4),
        ("rmse", {"dead_below": 0.05}, 0.05),
        ("pearson", {"dead_below": None}, None),
    ],
)
def test_the_floor_is_for_correlations_unless_a_study_gives_one(
    metric: str, given: dict[str, float], floor: float | None
) -> None:
    resolved = LadderSettings(**given).for_metric(METRICS[metric])
    assert resolved.dead_below == floor
    again = LadderSettings.model_validate(resolved.model_dump()).for_metric(METRICS[metric])
    assert again == resolved, "a resolved study keeps what it was resolved to"


def test_a_dead_run_is_no_peer() -> None:
    ladder = ladder_with(min_peers=1)
    ladder.report(run_of("a"), 1 / 3, 0.9)
    ladder.report(run_of("a"), 2 / 3, math.nan)
    assert ladder.report(run_of("b"), 1 / 3, 0.3).go


def test_a_lost_run_is_handed_out_again_with_the_same_attempt() -> None:
    ladder = ladder_with()
    ladder.start(run_of("a"))
    ladder.lost(run_of("a"))
    assert ladder.next_run(new_available=True) == run_of("a")
    assert ladder.attempt(run_of("a")) == 0


def test_the_best_stopped_candidate_is_taken_back_when_nothing_else_is_left() -> None:
    ladder = ladder_with(min_peers=1, eta=2)
    ladder.report(run_of("a"), 1 / 3, 0.9)
    ladder.report(run_of("b"), 1 / 3, 0.5)
    ladder.report(run_of("c"), 1 / 3, 0.4)
    ladder.fail(run_of("a"), "CUDA out of memory")
    assert states(ladder) == {"a": "failed", "b": "stopped", "c": "stopped"}
    assert ladder.next_run(new_available=True) is None
    assert ladder.next_run(new_available=False) == run_of("b")
    ladder.start(run_of("b"))
    assert ladder.report(run_of("b"), 2 / 3, 0.1).go
    for fold in range(N_FOLDS):
        ladder.finish(run_of("b", fold), 0.5, None, None)
    assert ladder.next_run(new_available=False) is None
    assert ladder.status()["b"].state == "finished"


def finish_after_rung(ladder: FoldLadder, name: str, at_rung: float, end: float, family: str = "bert") -> None:
    assert ladder.report(run_of(name, family=family), 2 / 3, at_rung).go
    ladder.finish(run_of(name, family=family), end, None, None)


def test_a_rung_leaves_as_much_room_as_runs_have_been_seen_to_differ_in_what_they_gain_after_it() -> None:
    gains = [0.02, 0.06, 0.04, 0.12]
    ladder = ladder_with(growth=0.01, prior_folds=4, z=2, min_peers=4)
    for number, gain in enumerate(gains):
        finish_after_rung(ladder, f"c{number}", 0.70, 0.70 + gain)
    squares = 4 * 0.01**2 + float(np.sum((np.array(gains) - np.mean(gains)) ** 2))
    band = 2 * math.sqrt(squares / (4 + 3))
    assert ladder.report(run_of("near"), 2 / 3, 0.70 - band + 1e-6).go
    decision = ladder.report(run_of("far"), 2 / 3, 0.70 - band - 1e-6)
    assert not decision.go
    assert f"is more than {band:.4f} below" in decision.reason


def test_families_may_gain_unlike_each_other_and_folds_and_rungs_are_apart() -> None:
    ladder = ladder_with(growth=0.0, prior_folds=4, z=2, min_peers=1, rung_folds=(0, 1))
    for family, gain in (("bert", 0.01), ("funnel", 0.3)):
        for number in range(3):
            finish_after_rung(ladder, f"{family}{number}", 0.6, 0.6 + gain, family)
    assert not ladder.report(run_of("late"), 2 / 3, 0.6 - ladder.noise - 1e-6).go, "each family gains alike"
    ladder = ladder_with(growth=0.0, prior_folds=4, z=2, min_peers=1, rung_folds=(0, 1))
    for number, gain in enumerate((0.0, 0.1, 0.2)):
        finish_after_rung(ladder, f"c{number}", 0.6, 0.6 + gain)
    assert ladder.report(run_of("same-fold"), 2 / 3, 0.5).go
    for other in (("other-rung", 0, 1 / 3), ("other-fold", 1, 2 / 3)):
        name, fold, rung = other
        assert ladder.report(run_of("first-" + name, fold), rung, 0.6).go
        assert not ladder.report(run_of(name, fold), rung, 0.5).go, "nothing is known of gains from there"


def test_a_kept_family_goes_on_only_where_the_blend_does_not_deny_it() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=400)
    good, noise = truth + generator.normal(size=400) * 0.5, generator.normal(size=400)
    for told, goes_on in ((False, True), (True, False)):
        ladder = ladder_with()
        for name, family, prediction, utility in (("a", "bert", good, 0.9), ("n", "funnel", noise, 0.1)):
            ladder.finish(run_of(name, family=family), utility, prediction if told else None, truth if told else None)
        started = set()
        while run := ladder.next_run(new_available=False):
            ladder.start(run)
            started.add(run.candidate)
        assert started == ({"a", "n"} if goes_on else {"a"})


def test_a_second_scoring_with_other_rows_is_refused() -> None:
    ladder = ladder_with()
    ladder.finish(run_of("a"), 0.5, np.arange(4.0), np.arange(4.0))
    with pytest.raises(ValueError, match="candidate b fold 0: rows or scores differ"):
        ladder.finish(run_of("b"), 0.5, np.arange(5.0), np.arange(5.0))


@pytest.mark.parametrize("rungs", [(0.0, 0.5), (0.5, 0.5), (0.6, 0.3), (0.5, 1.0)])
def test_rungs_must_ascend_inside_the_schedule(rungs: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="rungs must ascend strictly inside"):
        LadderSettings(rungs=rungs)


def test_the_example_in_the_documentation_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "ladder.md").read_text(encoding="utf-8")
    (code,), (printed,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "text"))
    exec(code, {})
    assert capsys.readouterr().out == printed


# ---------------------------------------------------------------- whole searches


@QUIET
@given(surfaces, orders, st.integers(1, 6), st.booleans())
def test_a_search_ends_with_every_candidate_settled_and_one_complete(
    surface: Surface, seed: int, workers: int, enabled: bool
) -> None:
    story = play(surface, ladder_with(enabled=enabled), order=random.Random(seed), workers=workers)
    final = states(story.ladder)
    assert set(final) == set(surface.names)
    assert set(final.values()) <= {"stopped", "failed", "finished"}
    mortal = {name for (name, _), times in surface.deaths.items() if times == 2}
    if set(surface.names) - mortal:
        assert "finished" in final.values()
    finished = [name for name, state in final.items() if state == "finished"]
    for name in finished:
        assert {run.fold for run in story.started if run.candidate == name} == set(range(N_FOLDS))
    retries = sum(min(times, 1) for times in surface.deaths.values())
    assert len(story.started) <= len(set(story.started)) + retries, "a run was repeated without having died"
    if not enabled:
        assert set(finished) >= set(surface.names) - mortal


@QUIET
@given(surfaces, orders)
def test_the_best_of_every_family_survives_fold_0_and_the_best_families_are_promoted(
    surface: Surface, seed: int
) -> None:
    surface.deaths = {}
    surface.noise = dict.fromkeys(surface.noise, 0.0)
    assume(len({surface.utility(name, 0, 1.0) for name in surface.names}) == surface.n_candidates)
    story = play(surface, ladder_with(), order=random.Random(seed))
    finished_fold_0 = {call[1][0].candidate for call in story.events if call[0] == "finish"}
    ranked = sorted(surface.names, key=surface.quality.__getitem__, reverse=True)
    best = list({surface.family[name]: name for name in reversed(ranked)}.values())
    best.sort(key=surface.quality.__getitem__, reverse=True)
    assert finished_fold_0 >= set(best)
    for name in best[:3]:
        status = story.ladder.status()[name]
        assert status.state == "finished" or (
            surface.n_rows and status.reason.startswith(("dropped: mean difference", "not promoted: "))
        ), status


@QUIET
@given(surfaces, orders)
def test_replaying_gives_the_same_answers_also_when_pickled_on_the_way(surface: Surface, seed: int) -> None:
    story = play(surface, ladder_with(), order=random.Random(seed))
    pickled = play(surface, ladder_with(), order=random.Random(seed), pickled=True)
    again = ladder_with()
    answers = [getattr(again, call)(*values, **named) for call, values, named in story.events]
    assert answers == story.answers == pickled.answers
    assert again.status() == story.ladder.status() == pickled.ladder.status()


@QUIET
@given(surfaces, orders, st.lists(st.integers(-8, 8), min_size=N_FOLDS * 3, max_size=N_FOLDS * 3))
def test_how_hard_a_fold_is_at_any_progress_changes_no_decision(surface: Surface, seed: int, shifts: list[int]) -> None:
    plain = play(surface, ladder_with(dead_below=None), order=random.Random(seed))
    points = itertools.product(range(N_FOLDS), (*RUNGS, 1.0))
    surface.shift = {point: shift / 8 for point, shift in zip(points, shifts, strict=True)}
    shifted = play(surface, ladder_with(dead_below=None), order=random.Random(seed))
    assert shifted.started == plain.started
    assert states(shifted.ladder) == states(plain.ladder)


@QUIET
@given(surfaces, orders)
def test_other_folds_and_rungs_have_no_say_in_a_rung_decision(surface: Surface, seed: int) -> None:
    surface.deaths = {}
    story = play(surface, ladder_with(**FIXED_BAND), order=random.Random(seed))
    rungs = [
        (e[1], a) for e, a in zip(story.events, story.answers, strict=True) if e[0] == "report" and e[1][0].fold == 0
    ]
    for rung in RUNGS:
        alone = ladder_with(**FIXED_BAND)
        for values, answer in rungs:
            if values[1] == rung:
                assert alone.report(*values) == answer


@pytest.mark.parametrize("seed", range(5))
def test_the_rungs_and_the_quota_save_most_of_the_work(seed: int) -> None:
    surface = Surface(seed=seed, n_candidates=30, n_families=3)
    story = play(surface, ladder_with(), order=random.Random(seed))
    finished = [name for name, state in states(story.ladder).items() if state == "finished"]
    assert len(story.started) < 0.6 * 30 * N_FOLDS
    assert len({surface.family[name] for name in finished}) == 3
    best = max(surface.names, key=surface.quality.__getitem__)
    assert max(surface.quality[name] for name in finished) > surface.quality[best] - 0.01
