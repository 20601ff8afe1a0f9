"""A bundle of models with several outputs predicts what the blends of all targets, or of classes, did."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from blend.__main__ import app
from data_prep.bundle_manifest import BundleManifest
from data_prep.console import console
from data_prep.prepared import Prepared, hash_data, hash_split, refold, write_prepared
from data_prep.store.files import write_json
from data_prep.store.tables import HOLDOUT_FOLD
from models.__main__ import app as models_app
from models.candidate import Candidate
from other_targets import several_numbers, three_classes
from search.worker.fold_run import run_fold
from search.worker.messages import Assignment, FoldRunOrder, FoldRunResources, FoldRunSettings

LEARNING = {"epochs": 1, "backbone_lr": 0.003, "batch_size": 16, "max_length": 48, "precision": "fp32"}
HEADS = {"first": "cls", "second": "mean"}


def call(application: Any, *arguments: object) -> str:
    console.width = 200
    with console.capture() as capture:
        application([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def trained(folder: Path, data: Prepared, backbone: str, loss: str) -> Path:
    """Return a run directory with the weights of two candidates on two folds."""
    fold = data.train["fold"].to_numpy()
    data = refold(data, np.where(fold == HOLDOUT_FOLD, fold, fold % 2).astype(np.int8))
    rows = {"train": int((fold >= 0).sum()), "holdout": int((fold < 0).sum()), "test": data.test.num_rows}
    hashes = {"data_hash": hash_data(data.train, data.test), "split_hash": hash_split(data.train), "rows": rows}
    write_prepared(folder / "data", data.manifest.model_copy(update=hashes), data.train, data.test)
    run_dir, names = folder / "run", {}
    shared = FoldRunSettings(
        run_dir=str(run_dir),
        data=str(folder / "data"),
        split_hash=hashes["split_hash"],
        rungs=(),
        rung_rows=None,
        dead_below=None,
        checkpoint_seconds=60,
        backbones=None,
        home=str(Path.cwd()),
        keep_weights=True,
    )
    for name, head in HEADS.items():
        candidate = Candidate(backbone=backbone, loss=loss, head=head, **LEARNING)
        names[name] = candidate.id
        write_json(candidate.model_dump(mode="json"), run_dir / "candidates" / f"{candidate.id}.json")
        for fold in range(2):
            run_fold(shared, FoldRunOrder(Assignment(candidate, fold, 0), FoldRunResources(1, 0), threads=1), [].append)
    (run_dir / "study.yaml").write_text(yaml.safe_dump({"data": str(folder / "data"), "names": names}))
    return run_dir


@pytest.mark.parametrize(
    ("kind", "settings", "loss", "columns"),
    [
        (several_numbers, {}, "mse", ["near", "far"]),
        (three_classes, {}, "cross_entropy", ["low", "mid", "high"]),
        (three_classes, {"metric": "map@3"}, "cross_entropy", ["level"]),
    ],
)
def test_a_bundle_predicts_as_the_blends_of_all_columns(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepared_tiny: Prepared,
    tiny_bert: str,
    kind: Callable[..., Prepared],
    settings: dict[str, str],
    loss: str,
    columns: list[str],
) -> None:
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    run_dir = trained(tmp_path, kind(prepared_tiny, **settings), tiny_bert, loss)
    call(app, "fit", run_dir, "--dead-below", "-1", "--method", "z-mean+line", "--name", "both", "--clip")
    printed = call(app, "bundle", run_dir, "--blend", "both", "--out", tmp_path / "bundle")
    assert "2 members, 4 models, fp32, " in printed
    test = prepared_tiny.test.select(["id", "anchor", "target", "context"])
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([test.column_names, *zip(*(column.to_pylist() for column in test), strict=True)])
    options = ("--bundle", tmp_path / "bundle", "--test", tmp_path / "test.csv", "--out", tmp_path / "new.csv")
    call(models_app, "predict", *options, "--threads", "1")
    expected, found = (
        list(csv.DictReader(path.open())) for path in (run_dir / "blends" / "both" / "submission.csv", options[-1])
    )
    assert list(found[0]) == ["id", *columns]
    assert [row["id"] for row in found] == test["id"].to_pylist()
    for name in columns:
        if settings:
            assert [row[name] for row in found] == [row[name] for row in expected]
        else:
            values = [np.array([float(row[name]) for row in rows]) for rows in (found, expected)]
            assert values[0].std() > 1e-4
            np.testing.assert_allclose(*values, rtol=0, atol=1e-7)


def test_a_manifest_names_the_targets_of_its_task(tmp_path: Path, prepared_tiny: Prepared) -> None:
    part = {"candidate": "aaa", "weight": 1.0, "scalings": [{}]}
    combination = {"parts": [part], "slope": 1.0, "intercept": 0.0}
    content = {
        "format": 1,
        "blend": "both",
        "version": "1",
        "data_hash": "d",
        "split_hash": "s",
        "precision": "fp32",
        "task": several_numbers(prepared_tiny).task.model_dump(mode="json"),
        "texts": {"A61": "medical"},
        "section_titles": {},
        "members": [{"candidate": "aaa", "label": "a", "backbone": "b", "folds": [0]}],
        "combination": None,
        "combinations": {"near": combination, "far": combination},
        "clip": False,
        "total_bytes": 2,
        "files": {
            name: {"sha256": "", "size": 1} for name in ("candidates/aaa.json", "weights/aaa/fold-0/model.safetensors")
        },
    }
    assert list(BundleManifest.model_validate(content).by_target) == ["near", "far"]
    del content["combinations"]["far"]
    with pytest.raises(ValueError, match=r"combinations for targets \['near', 'far'\], got \['near'\]"):
        BundleManifest.model_validate(content)
    one = {**content, "task": prepared_tiny.task.model_dump(mode="json"), "combination": combination}
    del one["combinations"]
    read = BundleManifest.model_validate(json.loads(json.dumps(one)))
    assert list(read.by_target) == [""]
    assert "combinations" not in read.model_dump(mode="json")
