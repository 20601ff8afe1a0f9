"""The adapter between Tune and the conductor, without a cluster."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search import Searcher

from search.driver.conductor import Assignment
from search.ray_tune import searcher as adapter
from search.ray_tune.family_resources import MemoryNeeds
from search.ray_tune.searcher import TRIES, FoldScheduler, FoldSearcher
from search.study.study_file import StudyResources
from stub_conductor import StubConductor, assignments

NODES = [(2.0, 1.0)]
SHORT = "Ray's memory monitor killed a worker, for the machine ran short of memory"


def set_up(conductor: StubConductor, **resources: float) -> tuple[FoldSearcher, FoldScheduler, list[Assignment]]:
    closed: list[Assignment] = []
    asked = StudyResources(**resources)  # type: ignore[arg-type]
    needs = MemoryNeeds(tempfile.mkdtemp(), asked, lambda: NODES)
    searcher = FoldSearcher(conductor, asked, closed.append, needs)  # type: ignore[arg-type]
    return searcher, FoldScheduler(searcher), closed


def trial(name: str, status: str = "RUNNING") -> SimpleNamespace:
    return SimpleNamespace(trial_id=name, status=status, error_file=None)


def report(progress: float, failure: str = "") -> dict[str, Any]:
    return {"progress": progress, "epoch": 1.0, "metric": 0.5, "seconds": 1.0, "failure": failure}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})


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


def test_a_cluster_is_asked_for_its_size_once_for_many_decisions_and_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, sizes, asked = [100.0], [{"CPU": 2.0}, {"CPU": 3.0}], []

    def resources() -> dict[str, float]:
        asked.append(now[0])
        return sizes[min(len(asked), len(sizes)) - 1]

    monkeypatch.setattr(ray, "cluster_resources", resources)
    monkeypatch.setattr(adapter.time, "monotonic", lambda: now[0])
    searcher, _, _ = set_up(StubConductor(assignments(6)))
    suggested = [searcher.suggest(str(number)) for number in range(50)]
    assert sum(entry is not None for entry in suggested) == 2
    assert len(asked) == 1
    now[0] += 2 * adapter.ROOM_SECONDS
    assert searcher.suggest("on the new node") is not None
    assert searcher.suggest("no room") is None
    assert len(asked) == 2


def test_of_a_trial_that_ended_nothing_is_kept() -> None:
    searcher, scheduler, _ = set_up(StubConductor(assignments(1)))
    searcher.suggest("a")
    ended = Trial("trainable", stub=True)
    scheduler.on_trial_add(None, ended)
    searcher.trials["a"] = ended
    ended.update_last_result({"metric": 0.5, "seconds": 1.0, "done": False})
    assert ended.run_metadata.metric_n_steps
    scheduler.on_trial_complete(None, ended, {})
    searcher.on_trial_complete("a", {})
    assert not ended.run_metadata.metric_analysis
    assert not ended.run_metadata.metric_n_steps
    assert not searcher.live
    assert "a" not in searcher.trials


def test_a_node_that_was_taken_is_no_death_of_the_fold_run() -> None:
    conductor = StubConductor(assignments(1))
    searcher, _, _ = set_up(conductor)
    for number in range(3 * TRIES):
        assert isinstance(searcher.suggest(str(number)), dict)
        searcher.errors[str(number)] = "Worker exits with an exit code 1. The process receives a SIGTERM."
        searcher.on_trial_complete(str(number), error=True)
    assert [what for what, _ in conductor.told] == ["lose 0"] * (3 * TRIES)
    assert "its node was taken" in conductor.told[-1][1]


def test_what_is_to_be_known_once_is_told_once() -> None:
    conductor = StubConductor(assignments(2))
    conductor.note = lambda _, text: conductor.told.append(("note", text))  # type: ignore[attr-defined]
    searcher, scheduler, _ = set_up(conductor)
    for name in ("a", "b"):
        searcher.suggest(name)
        assert scheduler.on_trial_result(None, trial(name), {"once": "bf16"}) == TrialScheduler.CONTINUE
    assert conductor.told == [("note", "bf16")]


def test_the_search_is_finished_only_when_nothing_is_live() -> None:
    searcher, _, _ = set_up(StubConductor(assignments(1)))
    assert isinstance(searcher.suggest("a"), dict)
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {})
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_fold_run_that_tune_dropped_without_a_word_is_handed_out_again() -> None:
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
    assert scheduler.on_trial_result(None, trial("a"), report(progress)) == getattr(TrialScheduler, answer)


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
def test_why_a_worker_died_is_told_in_a_line(text: str | None, reason: str, tmp_path: Path) -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    searcher.suggest("a")
    dead = trial("a")
    if text is not None:
        dead.error_file = str(tmp_path / "error.txt")
        Path(dead.error_file).write_text(text)
    scheduler.on_trial_error(None, dead)
    searcher.on_trial_complete("a", error=True)
    ((what, told),) = conductor.told
    assert what == "lose 0"
    assert f"({reason}); it" in told
    assert "\n" not in told


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
    first, dead = searcher.suggest("a"), trial("a")
    dead.error_file = str(tmp_path / "error.txt")
    Path(dead.error_file).write_text(text)
    scheduler.on_trial_error(None, dead)
    searcher.on_trial_complete("a", error=True)
    second = searcher.suggest("b")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["cpu"], second["cpu"]) == (1, 1 + deaths)
    assert first["threads"] == second["threads"] == 1


def test_a_full_disk_that_a_fold_run_tells_of_ends_the_search() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    searcher.suggest("a")
    with pytest.raises(OSError, match="No space") as full:
        scheduler.on_trial_result(None, trial("a"), {"full_disk": (28, "No space left on device", "/runs/oof")})
    assert (full.value.errno, full.value.filename) == (28, "/runs/oof")
    assert conductor.told == []


def test_a_failure_is_told_once_and_its_checkpoint_goes() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, closed = set_up(conductor)
    searcher.suggest("a")
    assert scheduler.on_trial_result(None, trial("a"), report(0.0, "no such backbone")) == TrialScheduler.STOP
    searcher.on_trial_complete("a", {})
    assert conductor.told == [("fail 0", "no such backbone")]
    assert len(closed) == 1


def test_a_fold_run_whose_worker_dies_is_handed_out_again_a_few_times_and_keeps_its_checkpoint() -> None:
    conductor = StubConductor(assignments(2), go=False)
    searcher, scheduler, closed = set_up(conductor, cpu=2)
    for death in range(TRIES + 1):
        suggested = searcher.suggest(f"try {death}")
        assert isinstance(suggested, dict)
        assert (suggested["fold"], suggested["deaths"]) == (0, death)
        for _ in range(2):  # Tune tells some deaths twice
            scheduler.on_trial_error(None, trial(f"try {death}"))
            searcher.on_trial_complete(f"try {death}", error=True)
    assert [what for what, _ in conductor.told] == ["lose 0"] * TRIES + ["fail 0"]
    assert conductor.told[-1][1] == f"its worker died {TRIES + 1} times: unknown"
    assert closed == []
    after = searcher.suggest("next")
    assert isinstance(after, dict)
    assert (after["fold"], after["deaths"]) == (1, 0)


def memory_error(*killed: str) -> BaseException:
    """Return what Tune raises when Ray's memory monitor has killed these of its actors."""
    chosen = "\n".join(f"Selected to kill: (Actor({actor}): job ID=01000000, pid=7, ...)" for actor in killed)
    page = f"Ray killed workers based on the killing policy\nConsidered workers: [\n{chosen}\n(Actor(b0): pid=9)\n]\n"
    error = RuntimeError("Caught unexpected exception")
    error.__cause__ = OutOfMemoryError(page)
    return error


@pytest.mark.parametrize(("killed", "cores"), [((), 1), (("a0",), 2), (("a0", "b0"), 2), (("elsewhere",), 1)])
def test_of_memory_only_those_died_whom_ray_names_and_once_for_their_family(
    killed: tuple[str, ...], cores: int, tmp_path: Path
) -> None:
    def searcher() -> FoldSearcher:
        needs = MemoryNeeds(str(tmp_path), StudyResources(), lambda: [(4.0, 0.0)])
        return FoldSearcher(StubConductor(assignments(2)), StudyResources(), lambda _: None, needs)  # type: ignore[arg-type]

    before = searcher()
    watch = adapter.LoopWatch(before)
    for name in ("a", "b"):
        before.suggest(name)
        actor = SimpleNamespace(_actor_id=bytes.fromhex(f"{name}0"))
        started = SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=actor))
        watch.on_trial_start(1, [], started)
    before.tune_died(memory_error(*killed))
    after = searcher().suggest("c")
    assert isinstance(after, dict)
    assert after["cpu"] == cores


def test_where_candidates_stand_is_published_when_a_turn_of_tunes_loop_is_over() -> None:
    conductor = StubConductor(assignments(1))
    searcher, scheduler, _ = set_up(conductor)
    watch = adapter.LoopWatch(searcher)
    watch.on_step_begin(1, [])
    searcher.suggest("a")
    scheduler.on_trial_result(None, SimpleNamespace(trial_id="a"), report(1.0))
    assert conductor.told == [("observe 0", 1.0)]
    watch.on_step_end(1, [])
    assert conductor.told[-1] == ("publish", None)
