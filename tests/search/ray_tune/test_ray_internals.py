"""Canaries: each private name and each sentence of Ray that blendfold relies on is still there."""

import inspect
import mmap
import re
from pathlib import Path

import pytest
import ray
from ray.actor import ActorHandle
from ray.tune.experiment import Trial
from ray.tune.trainable import wrap_function

from search.ray_tune import lost_workers, ray_errors, ray_internals, ray_session

RAY = Path(ray.__file__).parent
SERVERS = {"raylet": RAY / "core/src/ray/raylet/raylet", "gcs": RAY / "core/src/ray/gcs/gcs_server"}


def moved(what: str, user: object) -> str:
    """Return what a failing canary says."""
    where = inspect.getsourcefile(user) or ""  # type: ignore[arg-type]
    return f"Ray 2.60 has {what}, Ray {ray.__version__} does not; {'/'.join(Path(where).parts[-3:])} relies on it"


def test_a_trial_of_tune_knows_its_actor_and_the_actor_its_id() -> None:
    state = Trial("trainable", stub=True).temporary_state
    assert hasattr(state, "ray_actor"), moved("Trial.temporary_state.ray_actor", ray_internals)
    assert hasattr(ActorHandle, "_actor_id"), moved("ActorHandle._actor_id", ray_internals)


@pytest.mark.parametrize("name", ["metric_analysis", "metric_n_steps"])
def test_a_trial_of_tune_keeps_its_metrics_where_they_are_dropped(name: str) -> None:
    trial = Trial("trainable", stub=True)
    kept = getattr(trial.run_metadata, name, None)
    assert isinstance(kept, dict), moved(f"a dict Trial.run_metadata.{name}", ray_internals)
    trial.update_last_result({"metric": 0.5, "training_iteration": 1})
    assert "metric" in kept, moved(f"every metric in Trial.run_metadata.{name}", ray_internals)
    ray_internals.drop_metric_history(trial)
    assert not kept


def test_tune_makes_its_class_of_the_mixins_of_a_function() -> None:
    class Mixin:
        pass

    def fold_run(config: dict[str, object]) -> None: ...

    ray_internals.set_actor_mixins(fold_run, Mixin)
    assert issubclass(wrap_function(fold_run), Mixin), moved("wrap_function with __mixins__", ray_internals)


def test_ray_prints_what_workers_say_by_the_function_that_is_replaced() -> None:
    source = inspect.getsource(ray._private.worker.connect)
    assert "print_to_stdstream" in source, moved("ray._private.worker.print_to_stdstream", ray_internals)


def contains(server: str, text: str) -> bool:
    with SERVERS[server].open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0


@pytest.mark.parametrize("text", ["Selected to kill: %s", "(Actor(%s): ", "running low on memory"])
def test_the_memory_monitor_names_what_it_killed_in_these_words(text: str) -> None:
    assert contains("raylet", text), moved(f"{text!r} in its raylet", lost_workers)


def test_the_words_of_the_memory_monitor_are_understood() -> None:
    page = "Selected to kill: (Actor({}): job ID=01000000, pid=7)"
    assert lost_workers.actors_killed_for_memory(RuntimeError(page.format("ab12"))) == {"ab12"}
    assert "running low on memory" in ray_errors.OUT_OF_MEMORY
    assert {"OutOfMemoryError"} & set(ray_errors.OUT_OF_MEMORY)
    assert issubclass(ray.exceptions.OutOfMemoryError, ray.exceptions.RayError), moved("OutOfMemoryError", ray_errors)


@pytest.mark.parametrize("marker", lost_workers.PREEMPTION_MARKERS)
def test_ray_says_that_a_node_was_taken_in_these_words(marker: str) -> None:
    python = (RAY / "_private" / "worker.py").read_text()
    found = f"a {marker}" in python or contains("gcs", marker)
    assert found, moved(f"{marker!r} in what it says of a dead worker", lost_workers)


def test_ray_reads_the_settings_that_a_search_makes() -> None:
    names = set(re.findall(r'"((?:RAY|TUNE)_\w+)": "', inspect.getsource(ray_session)))
    assert len(names) > 8
    folders = [RAY / name for name in ("tune", "train", "air", "_common", "_private")]
    texts = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for name in names:
        found = name in texts or contains("raylet", name.removeprefix("RAY_"))
        assert found, moved(f"the setting {name}", ray_session)


def test_a_node_takes_loopback_for_its_address_where_ray_may_not_form_a_cluster() -> None:
    from ray._private import ray_constants

    assert ray_constants.ENABLE_RAY_CLUSTER is True, moved("ray_constants.ENABLE_RAY_CLUSTER", ray_internals)
    with ray_internals.on_loopback():
        found = ray.util.get_node_ip_address()
    assert found == "127.0.0.1", moved("loopback where ENABLE_RAY_CLUSTER is False", ray_internals)
    assert ray_constants.ENABLE_RAY_CLUSTER is True
