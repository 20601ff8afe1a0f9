"""What happens when Tune itself dies: the search goes on from the record, or gives up with a reason."""

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.exceptions import OutOfMemoryError

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from scripted_search import CutOffError, ScriptedWorker, conductor, record, study
from search.driver.conductor import Conductor
from search.ray_tune.ray_errors import NoRayError
from search.ray_tune.run_study import Outcome, run_study
from search.ray_tune.run_tune import RunTune, Search
from search.ray_tune.supervisor import MAX_DEATHS_WITHOUT_PROGRESS

Fault = Callable[[], BaseException]


class FakeTune:
    """Takes the place of Tune: works until it dies after so many effects on the run directory, each time anew."""

    def __init__(self, data: Prepared, lives: list[int | None], fault: Fault) -> None:
        self.data, self.lives, self.fault = data, iter(lives), fault
        self.sessions = 0

    def __call__(self, search: Search, conductor: Conductor, _: object) -> None:
        self.sessions += 1
        life = next(self.lives, -1)
        if life == -1:
            pytest.fail("it was to give up")
        if life == 0:
            raise self.fault()
        try:
            ScriptedWorker(self.data, Path(search.run_dir), effects=None if life is None else life - 1).run(conductor)
        except CutOffError:
            raise self.fault() from None


@pytest.fixture
def search(tmp_path: Path, prepared_tiny: Prepared) -> Callable[..., tuple[FakeTune, Callable[..., Outcome], Path]]:
    def no_ray(*_: object, **__: object) -> nullcontext[None]:
        return nullcontext()

    def prepare(lives: list[int | None], fault: Fault) -> tuple[FakeTune, Callable[..., Outcome], Path]:
        tune = FakeTune(prepared_tiny, lives, fault)
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study(prepared_tiny).model_dump(mode="json"), sort_keys=False))
        runs = str(tmp_path / "runs")

        def run(tune: RunTune = tune) -> Outcome:
            return run_study(path, runs=runs, open_session=no_ray, tune=tune)

        return tune, run, tmp_path / "runs" / "first"

    return prepare


def out_of_memory() -> BaseException:
    """Return what Tune raises when Ray's memory monitor has killed a worker."""
    cause = OutOfMemoryError("a worker was killed\n" + "and much advice " * 200)
    error = RuntimeError(f"Caught unexpected exception: {cause}")
    error.__cause__ = cause
    return error


def tables(run_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in sorted(run_dir.rglob("fold-*.arrow"))}


@pytest.mark.parametrize("lives", [[3, None], [0, 0, 7, 1, 0, 0, 12, None], [1] * 12 + [None]])
def test_tune_may_die_as_long_as_something_gets_done(
    lives: list[int | None], search: Callable[..., Any], prepared_tiny: Prepared, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    settings = study(prepared_tiny)
    ScriptedWorker(prepared_tiny, whole).run(conductor(settings, prepared_tiny, whole))
    tune, run, run_dir = search(lives, out_of_memory)
    outcome = run()
    assert tune.sessions == len(lives)
    assert record(run_dir) == record(whole)
    assert tables(run_dir) == tables(whole)
    assert outcome.complete >= 2
    assert not (run_dir / "driver.json").exists()


def test_deaths_in_a_row_without_progress_end_the_search(search: Callable[..., Any]) -> None:
    tune, run, run_dir = search([5, *[0] * MAX_DEATHS_WITHOUT_PROGRESS], out_of_memory)
    with pytest.raises(InputError) as given_up:
        run()
    assert tune.sessions == 1 + MAX_DEATHS_WITHOUT_PROGRESS
    message = str(given_up.value)
    assert f"died {MAX_DEATHS_WITHOUT_PROGRESS} times in a row with nothing new on record" in message
    assert str(run_dir) in message
    assert "ran short of memory" in message
    assert len(message) < 800, "Ray's page of advice does not belong on the screen"
    assert "give the same command again" in message
    assert (run_dir / "curves.arrow").exists()


def no_ray() -> NoRayError:
    return NoRayError("Ray did not start on this machine: it timed out; /tmp/ray/logs/raylet.err says: E 1")


def test_a_ray_that_is_lost_is_started_again_and_one_that_never_starts_is_explained(
    search: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tune, run, _ = search([0, None], no_ray)
    run()
    assert tune.sessions == 2
    assert f"{no_ray()}; continuing from the record" in capsys.readouterr().out
    _, run, run_dir = search([0] * MAX_DEATHS_WITHOUT_PROGRESS, no_ray)
    shutil.rmtree(run_dir)
    with pytest.raises(InputError, match=rf"^{no_ray()} \(3 times in a row.*\nWhat is finished is kept in {run_dir}"):
        run()


def test_a_fault_of_ours_is_raised_as_it_is(search: Callable[..., Any]) -> None:
    _, run, _ = search([0] * MAX_DEATHS_WITHOUT_PROGRESS, lambda: KeyError("a mistake"))
    with pytest.raises(KeyError, match="a mistake") as given_up:
        run()
    assert f"{MAX_DEATHS_WITHOUT_PROGRESS} times in a row" in given_up.value.__notes__[0]


def test_what_the_user_can_mend_is_not_tried_again(search: Callable[..., Any]) -> None:
    tune, run, _ = search([0], lambda: InputError("no cluster is there"))
    with pytest.raises(InputError, match="no cluster is there"):
        run()
    assert tune.sessions == 1


def test_a_full_disk_is_not_tried_again_and_frees_the_directory(search: Callable[..., Any]) -> None:
    def full() -> BaseException:
        error = RuntimeError("Caught unexpected exception")
        error.__cause__ = OSError(28, "No space left on device", "/runs/oof")
        return error

    tune, run, run_dir = search([0], full)
    with pytest.raises(OSError, match="No space left on device: '/runs/oof'"):
        run()
    assert tune.sessions == 1
    assert not (run_dir / "driver.json").exists()


def test_an_interruption_ends_the_search_and_frees_its_directory(search: Callable[..., Any]) -> None:
    tune, run, run_dir = search([4], KeyboardInterrupt)
    assert run().interrupted
    assert tune.sessions == 1
    assert not (run_dir / "driver.json").exists()


def test_a_second_search_over_the_same_directory_is_refused_and_changes_nothing(
    search: Callable[..., Any],
) -> None:
    _, run, run_dir = search([], out_of_memory)
    refusals: list[str] = []

    def run_again(*_: Any, **__: Any) -> None:
        before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
        with pytest.raises(InputError) as refused:
            run()
        refusals.append(str(refused.value))
        assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before

    run(tune=run_again)
    assert len(refusals) == 1
    assert f"{run_dir}/driver.json: a search already runs in this directory: process {os.getpid()} on" in refusals[0]


def test_a_study_may_grow_between_runs_and_says_how(
    search: Callable[..., Any], prepared_tiny: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run, run_dir = search([9, None], KeyboardInterrupt)
    assert run().interrupted
    path = tmp_path / "study.yaml"
    grown = yaml.safe_load(path.read_text())
    stamps = {table: table.stat().st_mtime_ns for table in run_dir.rglob("fold-*.arrow")}
    before = tables(run_dir)
    assert stamps
    grown["budget"] = {"candidates": 15, "hours": 3}
    grown["resources"] = {"cpu": 2}
    grown["candidates"]["another"] = {"epochs": 2}
    path.write_text(yaml.safe_dump(grown, sort_keys=False))
    capsys.readouterr()
    outcome = run()
    said = capsys.readouterr().out
    assert "budget was {'candidates': 14, 'hours': None, 'disk_gb': None}, is now {'candidates': 15" in said
    assert "resources was" in said
    assert "candidate another is new" in said
    assert outcome.complete >= 2
    assert before.items() <= tables(run_dir).items()
    assert stamps.items() <= {table: table.stat().st_mtime_ns for table in run_dir.rglob("fold-*.arrow")}.items()


def test_a_study_that_would_mix_is_refused_before_anything_starts(search: Callable[..., Any], tmp_path: Path) -> None:
    tune, run, run_dir = search([9, None], KeyboardInterrupt)
    run()
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    before = {file: file.read_bytes() for file in run_dir.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match=r"seed was 0, is now 1[\s\S]*would mix"):
        run()
    assert tune.sessions == 1
    assert {file: file.read_bytes() for file in run_dir.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-40], lambda content: content.replace(b"\x3f", b"\x3e", 1)]
)
def test_a_damaged_record_is_named_and_can_be_done_without(
    damage: Callable[[bytes], bytes], search: Callable[..., Any]
) -> None:
    tune, run, run_dir = search([None, None], KeyboardInterrupt)
    run()
    whole = tables(run_dir)
    curves = run_dir / "curves.arrow"
    content = curves.read_bytes()
    curves.write_bytes(damage(content))
    with pytest.raises(InputError, match=rf"{curves}: .*remove it and curves\.journal beside it"):
        run()
    assert tune.sessions == 1
    curves.unlink()
    (run_dir / "curves.journal").unlink(missing_ok=True)
    stamps = {table: table.stat().st_mtime_ns for table in run_dir.rglob("fold-*.arrow")}
    run()
    assert whole.items() <= tables(run_dir).items()
    assert stamps.items() <= {table: table.stat().st_mtime_ns for table in run_dir.rglob("fold-*.arrow")}.items()
