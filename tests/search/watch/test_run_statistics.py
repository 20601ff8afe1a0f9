"""What one run of the search has seen, and what it says of it."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from data_prep.scoring.metrics import METRICS
from models.candidate import Candidate
from search.ladder.decisions import BestBlend, Decision
from search.ladder.forecast import forecast
from search.ladder.settings import LadderSettings
from search.run_dir.curves import CurvePoint
from search.run_dir.pulse_file import Leader, LiveRun, Spent, describe_ends
from search.study.study_file import Resources, StudyResources
from search.watch.run_statistics import RunStatistics
from search.worker.messages import Assignment

GO, STOP, RETRY = Decision(True, ""), Decision(False, "weak"), Decision(False, "dead", retry=True)
SMALL = Candidate(epochs=2)
LARGE = Candidate(backbone="large", epochs=4)


@dataclass
class Clock:
    """A search whose time passes when it is told to."""

    seconds: float = 0.0
    statistics: RunStatistics = field(init=False)

    def __post_init__(self) -> None:
        self.statistics = RunStatistics(
            metric=METRICS["rmse"],
            n_folds=3,
            resources=StudyResources(cpu=2, backbones={"large": Resources(cpu=4, gpu=1)}),
            training_rows=[100, 110, 120],
            clock=lambda: self.seconds,
            today=lambda: 1e9 + self.seconds,
        )

    def start(self, candidate: Candidate, fold: int, attempt: int = 0) -> Assignment:
        assignment = Assignment(candidate, fold, attempt)
        self.statistics.started(assignment)
        return assignment

    def report(self, run: Assignment, progress: float, metric: float, took: float, decision: Decision = GO) -> None:
        """Let `took` seconds pass, all of them spent by the run."""
        self.seconds += took
        slot = self.statistics.slots[run.label]
        point = CurvePoint(run.candidate.id, run.fold, progress, progress, metric, slot.seconds + took)
        self.statistics.reported(run, point, decision)


def test_a_pulse_says_what_runs_how_fast_and_at_what_cost() -> None:
    clock = Clock()
    clock.statistics.to_come = lambda: 3
    clock.statistics.spent_before(7200, Resources(cpu=2, gpu=0.5))
    assert clock.statistics.pulse("").rows_per_second is None
    assert clock.statistics.pulse("").seconds_left is None
    small, large = clock.start(SMALL, 0), clock.start(LARGE, 0)
    clock.report(small, 0.5, 0.4, took=10)  # 100 rows
    clock.report(small, 1.0, 0.3, took=10)  # 100 more
    clock.report(large, 0.25, 0.5, took=20)  # 100
    pulse = clock.statistics.pulse("")
    assert pulse.running == (LiveRun(LARGE.id, LARGE.label, 0, 0, 40.0, 0.25, 0.5),)
    assert pulse.rows_per_second == pytest.approx(300 / 40)
    assert (pulse.at, pulse.begun, pulse.moved) == (1e9 + 40, 1e9, 1e9 + 40)
    clock.seconds += 60
    idle = clock.statistics.pulse("")
    assert (idle.at, idle.moved) == (1e9 + 100, 1e9 + 40), "a thread that lives is no work that moves"
    clock.seconds -= 60
    assert pulse.best == Leader(SMALL.id, SMALL.label, 0.3, 1)
    assert pulse.seconds_left == pytest.approx((3 + 0.5) * 20), (
        "fold runs to come and half of one, each as the one done"
    )
    cores, gpus = 20 * 2 + 40 * 4, 40
    assert pulse.spent.core_hours == pytest.approx(4 + cores / 3600)
    assert pulse.spent.gpu_hours == pytest.approx(1 + gpus / 3600)
    assert pulse.left == Spent(pytest.approx(70 * 2 / 3600), 0.0)


@pytest.mark.parametrize("n_seen", [1, 4, 12])
def test_the_time_left_counts_the_promotions_to_expect(n_seen: int) -> None:
    """Of 12 candidates of one family the ladder promotes ceil(12 / 3); every fold run takes 10 seconds."""
    clock = Clock()
    candidates = [Candidate(seed=seed) for seed in range(12)]
    for candidate in candidates[:n_seen]:
        clock.report(clock.start(candidate, 0), 1.0, 0.5, took=10)
    clock.statistics.to_come = lambda: 12 - n_seen
    least, most = clock.statistics.seconds_left() or (0.0, 0.0)
    first = (12 - n_seen) * 10
    assert (least, most) == (pytest.approx(first), pytest.approx(first + n_promoted(n_seen) * 2 * 10))


def n_promoted(n_seen: int) -> float:
    """Return what the forecast for the candidates seen, scaled to 12, promises."""
    ladder = LadderSettings()
    return forecast(["bert"] * n_seen, ladder, n_folds=3)["bert"].promoted * 12 / n_seen


def test_the_folds_of_a_promoted_candidate_are_time_left_until_it_ends() -> None:
    clock = Clock()
    promoted, other = Candidate(seed=1), Candidate(seed=2)
    for candidate in (promoted, other):
        clock.report(clock.start(candidate, 0), 1.0, 0.5, took=10)
    second = clock.start(promoted, 1)
    left = clock.statistics.seconds_left()
    assert left is not None
    assert left[0] == pytest.approx(5 + 10), "half of fold 1, and fold 2"
    clock.report(second, 0.5, 0.5, took=5, decision=STOP)
    left = clock.statistics.seconds_left()
    assert left is not None
    assert left[0] == 0


def test_every_end_is_counted_once() -> None:
    clock = Clock()
    ends = {"finished": GO, "stopped": STOP, "dead": RETRY}
    for fold, decision in enumerate(ends.values()):
        clock.report(clock.start(SMALL, fold), 1.0, 0.5, took=1, decision=decision)
    clock.statistics.failed(clock.start(SMALL, 2, attempt=1), "no such loss")
    clock.statistics.lost(clock.start(LARGE, 0), "lost its worker (killed)")
    clock.start(LARGE, 0)
    clock.statistics.restarted("Ray Tune died")
    pulse = clock.statistics.pulse("done")
    expected = {"started": 6, "finished": 1, "stopped": 1, "dead": 1, "failed": 1, "promoted": 1, "done": 1}
    assert dict(pulse.counts) == expected
    assert pulse.running == ()
    assert pulse.ended == "done"
    said = [trouble.what for trouble in pulse.troubles]
    assert ["no such loss" in said[0], "lost its worker" in said[1], said[2]] == [True, True, "Ray Tune died"]


def test_what_an_earlier_run_finished_is_ranked_but_not_counted() -> None:
    clock = Clock()
    for fold in (0, 1):
        clock.statistics.recalled(LARGE, fold, 0.2)
    clock.start(LARGE, 2)
    pulse = clock.statistics.pulse("")
    assert pulse.best == Leader(LARGE.id, LARGE.label, 0.2, 2)
    assert (pulse.counts["finished"], pulse.counts["promoted"], pulse.counts["done"]) == (0, 0, 2)
    assert describe_ends(pulse.counts).startswith("2 finished; in this run 1 started, 0 stopped")


def test_the_best_blend_is_fitted_when_a_pulse_is_taken_and_others_have_finished() -> None:
    class FakeLadder:
        names: tuple[str, ...] = ()
        fitted: ClassVar[list[tuple[str, ...]]] = []

        def finished(self) -> tuple[str, ...]:
            return self.names

        def best_blend(self, candidates: tuple[str, ...]) -> BestBlend:
            self.fitted.append(candidates)
            return BestBlend(0.5, 1, len(candidates))

    statistics, ladder = Clock().statistics, FakeLadder()
    assert statistics.pulse("").blend is None
    for names in ((), ("a",), ("a",), ("a", "b")):
        ladder.names = names
        statistics.blends.look(ladder)
        blend = statistics.pulse("").blend
    assert ladder.fitted == [("a",), ("a", "b")]
    assert blend == BestBlend(0.5, 1, 2)
