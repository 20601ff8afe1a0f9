"""A fold run whose run directory is in an object store, as a worker does it, without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepared import Prepared, write_prepared
from data_prep.store.files import join, list_sizes, write_json
from data_prep.store.oof_store import OofStore
from models.candidate import Candidate
from search.worker.fold_run import Workplace, _run_fold, clean_up, no_show, prepared, run_fold
from store_server import Store

REQUESTS = {"PUT": 16, "GET": 13, "HEAD": 26}
"""What a fold run with two rungs may ask of the store at most, data and backbone, kept with its weights, included."""


class GoneError(Exception):
    """The machine is gone."""


@pytest.fixture
def place(
    tmp_path: Path, store: Store, prepared_tiny: Prepared, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Workplace, dict[str, Any]]]:
    """Return what makes a workplace, and the setting of a fold run there, in a folder or URI."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    candidate = Candidate(
        backbone=tiny_bert, epochs=2, backbone_lr=0.003, batch_size=16, recipe="pair_context", precision="fp32"
    )

    def make(root: str) -> tuple[Workplace, dict[str, Any]]:
        write_prepared(join(root, "data"), prepared_tiny.manifest, prepared_tiny.train, prepared_tiny.test)
        write_json(candidate.model_dump(mode="json"), join(root, "run", "candidates", f"{candidate.id}.json"))
        workplace = Workplace(
            run_dir=join(root, "run"),
            data=join(root, "data"),
            split_hash=prepared_tiny.manifest.split_hash,
            rungs=(0.25, 0.5),
            rung_rows=None,
            dead_below=None,
            checkpoint_seconds=60,
            backbones=None,
            home=str(tmp_path),
            keep_weights=True,
        )
        prepared.cache_clear()
        return workplace, {"candidate": candidate.id, "fold": 0, "attempt": 0, "threads": 1, "device": "cpu"}

    return make


def predictions(run_dir: str) -> dict[str, Any]:
    store = OofStore(run_dir)
    return {
        kind: store.read(kind, *run).to_pydict() for run in store.fold_runs() for kind in ("oof", "test", "holdout")
    }


def test_it_goes_on_from_a_checkpoint_of_a_machine_that_is_gone(tmp_path: Path, store: Store, place: Any) -> None:
    here, config = place(str(tmp_path / "here"))
    expected: list[dict[str, Any]] = []
    run_fold(here, config, expected.append)
    there, config = place(store.uri)
    reports: list[dict[str, Any]] = []

    def die(report: dict[str, Any]) -> None:
        reports.append(report)
        if report["progress"] == 0.5:
            raise GoneError

    with pytest.raises(GoneError):
        _run_fold(there, config, die, no_show)  # nothing in a process that is gone catches anything
    assert "state.pt" in "".join(list_sizes(join(there.run_dir, "checkpoints")))
    clean_up()
    run_fold(there, config, reports.append)
    told = [report["progress"] for report in reports]
    assert told == [0.25, 0.5, 0.5, 1.0], "the report that was cut off comes again, no earlier one"
    assert [r["metric"] for r in reports[2:]] == [r["metric"] for r in expected[1:]]
    assert predictions(there.run_dir) == predictions(here.run_dir)


def test_it_asks_little_of_the_store(store: Store, place: Any) -> None:
    workplace, config = place(store.uri)
    store.door.counts.clear()
    run_fold(workplace, config, lambda _: None)
    assert list(OofStore(workplace.run_dir).fold_runs()) == [(config["candidate"], 0)]
    assert all(count <= REQUESTS[method] for method, count in store.door.counts.items()), store.door.counts
    assert store.door.counts.keys() <= REQUESTS.keys()


def test_a_store_without_space_costs_a_checkpoint_but_no_training(store: Store, place: Any) -> None:
    workplace, config = place(store.uri)
    store.door.refuse = lambda _, method, path: (
        (507, "XMinioStorageFull") if method in ("PUT", "POST") and "checkpoints" in path else None
    )
    reports: list[dict[str, Any]] = []
    run_fold(workplace, config, reports.append)
    notes = [report["note"] for report in reports if "note" in report]
    assert len(notes) == 1
    assert "no checkpoint can be written" in notes[0]
    assert "no space left" in notes[0]
    assert [report["progress"] for report in reports if "progress" in report] == [0.25, 0.5, 1.0]


def test_a_store_without_space_for_predictions_is_a_full_disk(store: Store, place: Any) -> None:
    workplace, config = place(store.uri)
    store.door.refuse = lambda _, method, path: (
        (507, "XMinioStorageFull") if method == "PUT" and "/test/" in path else None
    )
    reports: list[dict[str, Any]] = []
    run_fold(workplace, config, reports.append)
    number, what, where = reports[-1]["full_disk"]
    assert number == 28
    assert "no space left" in what
    assert where is None or "s3://" in where
    assert not list(OofStore(workplace.run_dir).fold_runs())
