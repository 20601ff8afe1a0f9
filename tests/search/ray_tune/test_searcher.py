"""The searcher and the scheduler between Tune and the conductor, without a cluster."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search import Searcher

from data_prep.errors import InputError
from search.ray_tune.family_resources import FamilyResources
from search.ray_tune.lost_workers import MAX_WORKER_DEATHS
from search.ray_tune.scheduler import FoldScheduler, LoopCallback
from search.ray_tune.searcher import CLUSTER_SIZE_SECONDS, FoldSearcher
from search.study.study_file import StudyResources
from search.worker.messages import (
    Assignment,
    FailureReport,
    FoldRunOrder,
    FullDiskReport,
    MessageReport,
    Report,
    ScoreReport,
    UnfitNodeReport,
    order_from_dict,
    report_to_dict,
)
from stub_conductor import StubConductor, assignments

NODES = [(2.0, 1.0)]
SHORT = "Ray's memory monitor killed a worker because the machine ran short of memory"


def set_up(
    conductor: StubConductor, *, seams: dict[str, Any] | None = None, **resources: float
) -> tuple[FoldSearcher, FoldScheduler, list[Assignment]]:
    ended: list[Assignment] = []
    asked = StudyResources(**resources)  # type: ignore[arg-type]
    families = FamilyResources(tempfile.mkdtemp(), asked, lambda: NODES)
    given = {"cluster_size": lambda: {"CPU": 2.0, "GPU": 1.0}, **(seams or {})}
    searcher = FoldSearcher(conductor, asked, ended.append, families, **given)  # type: ignore[arg-type]
    return searcher, FoldScheduler(searcher), ended


def suggest(searcher: FoldSearcher, trial_id: str) -> FoldRunOrder:
    """Return the order that a trial gets."""
    config = searcher.suggest(trial_id)
    assert isinstance(config, dict)
    return order_from_dict(config)


def trial(name: str, status: str = "RUNNING") -> SimpleNamespace:
    return SimpleNamespace(trial_id=name, status=status, error_file=None)


def score(progress: float) -> Report:
    return ScoreReport(progress, epoch=1.0, metric=0.5, seconds=1.0)


def deliver(scheduler: FoldScheduler, trial_id: str, report: Report) -> str:
    """Let a fold run report, and return what Tune is to do with it."""
    return scheduler.on_trial_result(None, trial(trial_id), report_to_dict(report))


@pytest.mark.parametrize(
    ("resources", "slots"), [({"cpu": 1}, 2), ({"cpu": 2}, 1), ({"cpu": 0.5, "gpu": 0.5}, 2), ({"cpu": 0.5}, 4)]
)
def test_nothing_is_decided_before_there_is_room(resources: dict[str, float], slots: int) -> None:
    conductor = StubConductor(assignments(6))
    searcher, _, _ = set_up(conductor, **resources)
    suggested = [searcher.suggest(str(number)) for number in range(6)]
    assert [entry is not None for entry in suggested] == [True] * slots + [False] * (6 - slots)
    assert len(conductor.waiting) == 6 - slots
    searcher.on_trial_complete("0", {})
    assert searcher.suggest("later") is not None


def test_a_cluster_is_asked_for_its_size_once_for_many_decisions_and_again_later() -> None:
    now, sizes, asked = [100.0], [{"CPU": 2.0}, {"CPU": 3.0}], []

    def resources() -> dict[str, float]:
        asked.append(now[0])
        return sizes[min(len(asked), len(sizes)) - 1]

    seams = {"cluster_size": resources, "clock": lambda: now[0]}
    searcher, _, _ = set_up(StubConductor(assignments(6)), seams=seams)
    suggested = [searcher.suggest(str(number)) for number in range(50)]
    assert sum(entry is not None for entry in suggested) == 2
    assert len(asked) == 1
    now[0] += 2 * CLUSTER_SIZE_SECONDS
    assert searcher.suggest("on the new node") is not None
    assert searcher.suggest("no room") is None
    assert len(asked) == 2


def test_of_a_trial_that_ended_nothing_is_kept() -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1)))
    searcher.suggest("a")
    ended = Trial("trainable", trial_id="a", stub=True)
    scheduler.on_trial_add(None, ended)
    ended.update_last_result({"metric": 0.5, "seconds": 1.0, "done": False})
    assert ended.run_metadata.metric_n_steps
    scheduler.on_trial_complete(None, ended, {})
    searcher.on_trial_complete("a", {})
    assert not ended.run_metadata.metric_analysis
    assert not ended.run_metadata.metric_n_steps
    assert not searcher.live


@pytest.mark.parametrize("once", [True, False])
def test_a_message_is_shown_and_one_for_the_whole_search_only_once(once: bool) -> None:
    conductor = StubConductor(assignments(2))
    searcher, scheduler, _ = set_up(conductor)
    for name in ("a", "b"):
        searcher.suggest(name)
        assert (
            deliver(scheduler, name, MessageReport("bf16", once="precision" if once else "")) == TrialScheduler.CONTINUE
        )
    assert conductor.calls == [("note 0", "bf16"), ("note 1", "bf16")][: 1 if once else 2]


def test_the_search_is_finished_only_when_nothing_is_live() -> None:
    searcher, _, _ = set_up(StubConductor(assignments(1)))
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {})
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_fold_run_that_tune_dropped_silently_starts_again() -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1)))
    first = searcher.suggest("a")
    dropped = trial("a")
    scheduler.on_trial_add(None, dropped)
    assert searcher.suggest("b") is None
    dropped.status = "ERROR"
    assert searcher.suggest("c") == first


@pytest.mark.parametrize(
    ("progress", "go", "answer"), [(0.5, True, "CONTINUE"), (0.5, False, "STOP"), (1.0, True, "STOP")]
)
def test_decisions_reach_tune(progress: float, go: bool, answer: str) -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1), go=go))
    searcher.suggest("a")
    assert deliver(scheduler, "a", score(progress)) == getattr(TrialScheduler, answer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Traceback\n  ...\nRuntimeError: no disk\n\n", "RuntimeError: no disk"),
        (
            "1 worker(s) were killed due to the node running low on memory.\nRefer ...",
            SHORT,
        ),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_why_a_worker_died_is_reported_in_a_line(text: str | None, reason: str, tmp_path: Path) -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    searcher.suggest("a")
    dead = trial("a")
    if text is not None:
        dead.error_file = str(tmp_path / "error.txt")
        Path(dead.error_file).write_text(text)
    scheduler.on_trial_error(None, dead)
    searcher.on_trial_complete("a", error=True)
    ((what, sentence),) = conductor.calls
    assert what == "lose 0"
    assert f"({reason}); it" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "deaths"),
    [
        ("MemoryError: Unable to allocate 3 GiB", 1),
        ("1 worker(s) were killed due to the node running low on memory.", 1),
        ("RuntimeError: no disk", 0),
    ],
)
def test_only_a_worker_that_died_of_memory_has_the_next_start_with_a_larger_share(
    text: str, deaths: int, tmp_path: Path
) -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1)))
    first, dead = suggest(searcher, "a"), trial("a")
    dead.error_file = str(tmp_path / "error.txt")
    Path(dead.error_file).write_text(text)
    scheduler.on_trial_error(None, dead)
    searcher.on_trial_complete("a", error=True)
    second = suggest(searcher, "b")
    assert (first.resources.cpu, second.resources.cpu) == (1, 1 + deaths)
    assert first.threads == second.threads == 1


def test_a_full_disk_that_a_fold_run_reports_ends_the_search() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    searcher.suggest("a")
    with pytest.raises(OSError, match="No space") as full:
        deliver(scheduler, "a", FullDiskReport(28, "No space left on device", "/runs/oof"))
    assert (full.value.errno, full.value.filename) == (28, "/runs/oof")
    assert conductor.calls == []


def test_a_node_that_lacks_something_ends_the_search() -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1)))
    searcher.suggest("a")
    with pytest.raises(InputError, match="node b: no such folder\nEvery node needs this version"):
        deliver(scheduler, "a", UnfitNodeReport(("node b: no such folder",)))


def test_a_failure_is_reported_once_and_its_checkpoint_goes() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, ended = set_up(conductor)
    searcher.suggest("a")
    assert deliver(scheduler, "a", FailureReport("no such backbone")) == TrialScheduler.STOP
    searcher.on_trial_complete("a", {})
    assert conductor.calls == [("fail 0", "no such backbone")]
    assert len(ended) == 1


def test_a_fold_run_whose_worker_dies_starts_again_a_few_times_and_keeps_its_checkpoint() -> None:
    conductor = StubConductor(assignments(2), go=False)
    searcher, scheduler, ended = set_up(conductor, cpu=2)
    for death in range(MAX_WORKER_DEATHS + 1):
        order = suggest(searcher, f"try {death}")
        assert (order.assignment.fold, order.restarts) == (0, death)
        for _ in range(2):  # Tune reports some deaths twice
            scheduler.on_trial_error(None, trial(f"try {death}"))
            searcher.on_trial_complete(f"try {death}", error=True)
    assert [what for what, _ in conductor.calls] == ["lose 0"] * MAX_WORKER_DEATHS + ["fail 0"]
    assert conductor.calls[-1][1] == f"its worker died {MAX_WORKER_DEATHS + 1} times: unknown"
    assert ended == []
    after = suggest(searcher, "next")
    assert (after.assignment.fold, after.restarts) == (1, 0)


def memory_error(*killed: str) -> BaseException:
    """Return what Tune raises when Ray's memory monitor has killed these of its actors."""
    chosen = "\n".join(f"Selected to kill: (Actor({actor}): job ID=01000000, pid=7, ...)" for actor in killed)
    page = f"Ray killed workers based on the killing policy\nConsidered workers: [\n{chosen}\n(Actor(b0): pid=9)\n]\n"
    error = RuntimeError("Caught unexpected exception")
    error.__cause__ = OutOfMemoryError(page)
    return error


@pytest.mark.parametrize(("killed", "cores"), [((), 1), (("a0",), 2), (("a0", "b0"), 2), (("elsewhere",), 1)])
def test_only_the_actors_that_ray_names_ran_out_of_memory_and_once_for_their_family(
    killed: tuple[str, ...], cores: int, tmp_path: Path
) -> None:
    def searcher() -> FoldSearcher:
        families = FamilyResources(str(tmp_path), StudyResources(), lambda: [(4.0, 0.0)])
        conductor: Any = StubConductor(assignments(2))
        return FoldSearcher(conductor, StudyResources(), pytest.fail, families, cluster_size=lambda: {"CPU": 2.0})

    before = searcher()
    callback = LoopCallback(before)
    for name in ("a", "b"):
        before.suggest(name)
        actor = SimpleNamespace(_actor_id=bytes.fromhex(f"{name}0"))
        started = SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=actor))
        callback.on_trial_start(iteration=1, trials=[], trial=started)
    before.tune_died(memory_error(*killed))
    assert suggest(searcher(), "c").resources.cpu == cores


def test_the_state_of_candidates_is_published_when_a_turn_of_tunes_loop_is_over() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    callback = LoopCallback(searcher)
    callback.on_step_begin(iteration=1, trials=[])
    searcher.suggest("a")
    deliver(scheduler, "a", score(1.0))
    assert conductor.calls == [("observe 0", 1.0)]
    callback.on_step_end(iteration=1, trials=[])
    assert conductor.calls[-1] == ("publish", None)
