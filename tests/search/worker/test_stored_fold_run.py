"""A fold run whose run directory is in an object store, as a worker does it, without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepared import Prepared, write_prepared
from data_prep.store.files import join, list_sizes
from data_prep.store.oof_store import OofStore
from models.candidate import Candidate
from search.worker.fold_run import _run_fold, ignore_speed, load_prepared_once, release_memory, run_fold
from search.worker.messages import (
    Assignment,
    FoldRunOrder,
    FoldRunResources,
    FoldRunSettings,
    FullDiskReport,
    MessageReport,
    Report,
    ScoreReport,
)
from store_server import Store

REQUESTS = {"PUT": 16, "GET": 12, "HEAD": 26}
"""What a fold run with two rungs may ask of the store at most, data and backbone, kept with its weights, included."""


class GoneError(Exception):
    """The machine is gone."""


@pytest.fixture
def place(
    tmp_path: Path, store: Store, prepared_tiny: Prepared, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[FoldRunSettings, FoldRunOrder]]:
    """Return what makes the settings of fold runs in a folder or URI, and an order for one of them."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    candidate = Candidate(
        backbone=tiny_bert, epochs=2, backbone_lr=0.003, batch_size=16, recipe="pair_context", precision="fp32"
    )

    def make(root: str) -> tuple[FoldRunSettings, FoldRunOrder]:
        write_prepared(join(root, "data"), prepared_tiny.manifest, prepared_tiny.train, prepared_tiny.test)
        settings = FoldRunSettings(
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
        load_prepared_once.cache_clear()
        return settings, FoldRunOrder(Assignment(candidate, 0), FoldRunResources(1, 0), threads=1)

    return make


def scores(reports: list[Report]) -> list[ScoreReport]:
    return [report for report in reports if isinstance(report, ScoreReport)]


def progress_of(reports: list[Report]) -> list[float]:
    return [report.progress for report in scores(reports)]


def predictions(run_dir: str) -> dict[str, Any]:
    store = OofStore(run_dir)
    return {
        kind: store.read(kind, *run).to_pydict() for run in store.fold_runs() for kind in ("oof", "test", "holdout")
    }


def test_it_goes_on_from_a_checkpoint_of_a_machine_that_is_gone(tmp_path: Path, store: Store, place: Any) -> None:
    here, order = place(str(tmp_path / "here"))
    expected: list[Report] = []
    run_fold(here, order, expected.append)
    there, order = place(store.uri)
    reports: list[Report] = []

    def die(report: Report) -> None:
        reports.append(report)
        if isinstance(report, ScoreReport) and report.progress == 0.5:
            raise GoneError

    with pytest.raises(GoneError):
        _run_fold(there, order, die, ignore_speed)  # nothing in a process that is gone catches anything
    assert "state.pt" in "".join(list_sizes(join(there.run_dir, "checkpoints")))
    release_memory()
    run_fold(there, order, reports.append)
    assert progress_of(reports) == [0.25, 0.5, 0.5, 1.0], "the report that was cut off comes again, no earlier one"
    assert [r.metric for r in scores(reports)[2:]] == [r.metric for r in scores(expected)[1:]]
    assert predictions(there.run_dir) == predictions(here.run_dir)


def test_it_asks_little_of_the_store(store: Store, place: Any) -> None:
    settings, order = place(store.uri)
    store.door.counts.clear()
    run_fold(settings, order, lambda _: None)
    assert list(OofStore(settings.run_dir).fold_runs()) == [(order.assignment.candidate.id, 0)]
    assert all(count <= REQUESTS[method] for method, count in store.door.counts.items()), store.door.counts
    assert store.door.counts.keys() <= REQUESTS.keys()


def test_a_store_without_space_costs_a_checkpoint_but_no_training(store: Store, place: Any) -> None:
    settings, order = place(store.uri)
    store.door.refuse = lambda _, method, path: (
        (507, "XMinioStorageFull") if method in ("PUT", "POST") and "checkpoints" in path else None
    )
    reports: list[Report] = []
    run_fold(settings, order, reports.append)
    (message,) = [report.text for report in reports if isinstance(report, MessageReport)]
    assert "no checkpoint can be written" in message
    assert "no space left" in message
    assert progress_of(reports) == [0.25, 0.5, 1.0]


def test_a_store_without_space_for_predictions_is_a_full_disk(store: Store, place: Any) -> None:
    settings, order = place(store.uri)
    store.door.refuse = lambda _, method, path: (
        (507, "XMinioStorageFull") if method == "PUT" and "/test/" in path else None
    )
    reports: list[Report] = []
    run_fold(settings, order, reports.append)
    full = reports[-1]
    assert isinstance(full, FullDiskReport)
    assert full.errno == 28
    assert "no space left" in str(full.what)
    assert full.path is None or "s3://" in full.path
    assert not list(OofStore(settings.run_dir).fold_runs())
