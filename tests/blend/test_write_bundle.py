"""A bundle predicts what its blend predicted, elsewhere: in another process, without network, Ray or the run."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import yaml

from blend.__main__ import app
from blend.blend_folder import read_blend
from blend.write_bundle import write_bundle
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import write_bytes, write_json
from data_prep.store.safetensors_files import checksum_of_tensors, parse_header
from data_prep.store.sealed_records import read_record, write_record
from data_prep.store.weight_folders import backbone_folder, weights_file
from missing_modules import OF_EXTRAS, hide
from models.__main__ import app as models_app
from models.bundle.read_bundle import open_bundle
from models.candidate import Candidate

ROOT = Path(__file__).parents[2]
BASE = {"epochs": 1, "backbone_lr": 0.003, "batch_size": 16, "max_length": 48, "precision": "fp32"}
SETTINGS = {
    "plain": {"head": "cls"},
    "orders": {"recipe": "marked", "prediction_shuffles": 2, "separator": "[s]"},
}
EVEN_DEAD = ("--dead-below", "-1", "--method", "z-mean+line", "--clip")
RETRIED = ("orders", 2)
"""A fold run that was trained with another seed: its siblings are shuffled in another way."""
NO_NETWORK = """
import socket
def refuse(*_): raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def call(application: Any, *arguments: object) -> str:
    """Run a verb in this process and return what it printed."""
    console.width = 200
    with console.capture() as capture:
        application([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def write_csv(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "anchor", "target", "context"), *rows])
    return path


def read_predictions(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["id"]: float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared, tiny_bert: str) -> Path:
    """Return a run directory with the weights of two candidates on four folds, and a blend of them."""
    from search.worker.fold_run import run_fold
    from search.worker.messages import Assignment, FoldRunOrder, FoldRunResources, FoldRunSettings

    root = tmp_path_factory.mktemp("bundled")
    run_dir = root / "run"
    shared = FoldRunSettings(
        run_dir=str(run_dir),
        data=prepared_tiny.path,
        split_hash=prepared_tiny.manifest.split_hash,
        rungs=(),
        rung_rows=None,
        dead_below=-1.0,
        checkpoint_seconds=60,
        backbones=None,
        home=str(Path.cwd()),
        keep_weights=True,
    )
    names, patch = {}, pytest.MonkeyPatch()
    patch.setenv("BLENDFOLD_CACHE", str(root / "cache"))
    for name, settings in SETTINGS.items():
        candidate = Candidate(backbone=tiny_bert, **BASE, **settings)
        names[name] = candidate.id
        write_json(candidate.model_dump(mode="json"), run_dir / "candidates" / f"{candidate.id}.json")
        for fold in range(4):
            attempt = int((name, fold) == RETRIED)
            order = FoldRunOrder(Assignment(candidate, fold, attempt), FoldRunResources(1, 0), threads=1)
            run_fold(shared, order, [].append)
    patch.undo()
    (run_dir / "study.yaml").write_text(yaml.safe_dump({"data": prepared_tiny.path, "names": names}))
    call(app, "fit", run_dir, "--members", "plain,orders", "--method", "mean", "--name", "both", *EVEN_DEAD)
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """Return a run directory of one's own, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def bundle(finished: Path) -> Path:
    out = finished.parent / "bundle"
    printed = call(app, "bundle", finished, "--blend", "both", "--out", out)
    assert printed.splitlines()[-1].startswith(f"wrote {out}; next: blendfold predict --bundle {out}")
    assert "2 members, 8 models, fp32, " in printed
    return out


@pytest.fixture
def test_csv(prepared_tiny: Prepared, tmp_path: Path) -> Path:
    columns = [prepared_tiny.test[name].to_pylist() for name in ("id", "anchor", "target", "context")]
    return write_csv(tmp_path / "test.csv", list(zip(*columns, strict=True)))


def test_a_moved_bundle_predicts_as_its_blend_without_network_extras_or_run(
    bundle: Path, finished: Path, test_csv: Path, tmp_path: Path, tiny_bert: str
) -> None:
    moved = Path(shutil.copytree(bundle, tmp_path / "elsewhere"))
    site = hide({"blend", "search", *OF_EXTRAS}, tmp_path / "site", NO_NETWORK)
    options = ["--bundle", str(moved), "--test", str(test_csv), "--out", str(tmp_path / "new.csv"), "--threads", "1"]
    away = {path: path.with_name(f"{path.name}-away") for path in (finished, Path(tiny_bert))}
    for path, aside in away.items():
        path.rename(aside)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "models", "predict", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "0", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path, aside in away.items():
            aside.rename(path)
    assert result.returncode == 0, result.stderr
    told = " ".join(result.stdout.split())
    assert "blend both: 8 models of 2 candidates, fp32, predict 40 rows" in told
    assert "about 0:0" in told
    assert told.count(": done, ") == 8
    assert "fold 3: done, 100 % of the work" in told
    assert f"wrote {tmp_path / 'new.csv'}" in result.stdout.splitlines()[-1]
    expected = read_predictions(finished / "blends" / "both" / "submission.csv")
    found = read_predictions(tmp_path / "new.csv")
    assert list(found) == list(expected)
    assert len(set(expected.values())) > 20
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-7)
    assert not list(tmp_path.rglob("*.arrow")), "nothing is left in a cache"


def predict(bundle: Path, test: Path, out: Path, *options: str) -> dict[str, float]:
    call(models_app, "predict", "--bundle", bundle, "--test", test, "--out", out, "--threads", "1", *options)
    return read_predictions(out)


def test_siblings_are_sought_among_the_new_rows_and_codes_have_the_shipped_titles(bundle: Path, tmp_path: Path) -> None:
    rows = [("a", "valve pump", "gear", "G04"), ("b", "lens", "film", "C22"), ("c", "lens", "resin", "C22")]
    titles = tmp_path / "titles.csv"
    titles.write_text("code,title\nC,rotor\nC22,blade\nG,sensor\nG04,signal\n")
    write_csv(tmp_path / "few.csv", rows[:2])
    write_csv(tmp_path / "all.csv", rows)
    alone = predict(bundle, tmp_path / "few.csv", tmp_path / "1.csv", "--cpc", str(titles))
    together = predict(bundle, tmp_path / "all.csv", tmp_path / "2.csv", "--cpc", str(titles))
    assert together["a"] == pytest.approx(alone["a"], abs=1e-6)
    assert abs(together["b"] - alone["b"]) > 1e-5, "b has a sibling now"
    shipped = predict(bundle, tmp_path / "all.csv", tmp_path / "3.csv")
    assert all(abs(shipped[name] - together[name]) > 1e-5 for name in "abc")


def test_every_fault_of_the_test_file_is_told_at_once(bundle: Path, tmp_path: Path) -> None:
    rows = [("a", "zinc", "alloy", "C22"), ("a", " ", "brass", "C22"), ("b", "zinc", "tin", "Q99")]
    with pytest.raises(InputError) as caught:
        predict(bundle, write_csv(tmp_path / "bad.csv", rows), tmp_path / "out.csv")
    text = str(caught.value)
    assert "column id: an id may not repeat; found 1: line 3 'a'" in text
    assert "column anchor: may not be empty or blank; found 1: line 3" in text
    assert "(--cpc takes other titles); found 1: line 4 'Q99'" in text
    assert not (tmp_path / "out.csv").exists()


def test_half_precision_halves_the_bytes_and_moves_predictions_little(
    bundle: Path, finished: Path, test_csv: Path, tmp_path: Path
) -> None:
    call(app, "bundle", finished, "--blend", "both", "--out", tmp_path / "half", "--fp16")
    sizes = [
        json.loads((folder / "manifest.json").read_text())["total_bytes"] for folder in (bundle, tmp_path / "half")
    ]
    assert sizes[1] < 0.7 * sizes[0]
    assert json.loads((tmp_path / "half" / "manifest.json").read_text())["precision"] == "fp16"
    found = [predict(folder, test_csv, tmp_path / f"{folder.name}.csv") for folder in (bundle, tmp_path / "half")]
    difference = [abs(found[0][name] - found[1][name]) for name in found[0]]
    assert 0 < max(difference) < 2e-3
    path = next((tmp_path / "half" / "weights").glob("*/fold-0/*.safetensors"))
    content = path.read_bytes()
    tensors = safetensors.numpy.load(content)
    assert {str(value.dtype) for value in tensors.values()} == {"float16", "int64"}
    metadata = parse_header(content).metadata
    assert metadata["checksum"] == checksum_of_tensors(content)
    assert metadata["fold"] == "0"


def test_a_value_beyond_half_precision_keeps_its_tensor_whole() -> None:
    from blend.write_bundle import halve

    tensors = {"large": np.array([1e6], np.float32), "small": np.array([0.5], np.float32)}
    found = safetensors.numpy.load(halve(safetensors.numpy.save(tensors)))
    assert (found["large"][0], found["large"].dtype, found["small"].dtype) == (1e6, np.float32, np.float16)


def test_what_is_missing_or_altered_in_a_bundle_is_named_all_at_once(
    bundle: Path, test_csv: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    paths = sorted(copy.glob("weights/*/*/*.safetensors"))
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    paths[2].unlink()
    with pytest.raises(InputError) as caught:
        predict(copy, test_csv, tmp_path / "out.csv")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{paths[0]}: was altered: its sha256 is not the manifest's"
    assert lines[1].startswith(f"{paths[1]}: has ")
    assert lines[2] == f"{paths[2]}: is missing"
    assert len(lines) == 4
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"not a bundle, or one that was cut off \(no manifest\.json\)"):
        predict(copy, test_csv, tmp_path / "out.csv")


def test_a_member_without_weight_stays_behind(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "blends" / "both" / "blend.json"
    record = read_record(path, dict, remedy="")
    record["combination"]["parts"][1]["weight"] = 0.0
    write_record(record, path)
    left = record["members"][1]["candidate"]
    shutil.rmtree(run_dir / "weights" / left)
    call(app, "bundle", run_dir, "--blend", "both", "--out", tmp_path / "one")
    contents = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert len(contents["members"]) == len(contents["combination"]["parts"]) == 1
    found = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert found == {*contents["files"], "manifest.json"}
    assert not any(left in path for path in found)


def refuse(run_dir: Path, out: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        call(app, "bundle", run_dir, "--blend", "both", "--out", out)
    return str(caught.value).splitlines()


def test_weights_and_backbones_that_were_not_kept_are_listed_with_what_to_do(
    run_dir: Path, finished: Path, tmp_path: Path, tiny_bert: str
) -> None:
    record = json.loads((run_dir / "blends" / "both" / "blend.json").read_text())
    first, second = (member["candidate"] for member in record["members"])
    for fold in (0, 3):
        Path(weights_file(str(run_dir), first, fold)).unlink()
    shutil.copyfile(weights_file(str(run_dir), second, 0), weights_file(str(run_dir), second, 1))
    (Path(backbone_folder(str(run_dir), tiny_bert)) / "embedding.safetensors").unlink()
    lines = refuse(run_dir, tmp_path / "out")
    assert "the weights of fold 0, 3 were not kept" in lines[0]
    assert "embeddings of backbone" in lines[1]
    assert f"candidate {second}" in lines[2]
    assert "the weights of fold 1 are damaged, or do not belong to its predictions" in lines[2]
    assert f"`blendfold refit {run_dir} --blend both`" in lines[-1]
    assert not (tmp_path / "out").exists()


def test_a_member_from_elsewhere_and_other_data_are_refused(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "blends" / "both" / "blend.json"
    record = read_record(path, dict, remedy="")
    foreign = record["members"][0]
    record["data_hash"] = "0" * 64
    write_record(record, path)
    (run_dir / "candidates" / f"{foreign['candidate']}.json").write_text('{"source": "team.csv"}')
    lines = refuse(run_dir, tmp_path / "out")
    assert "was fitted on other data (data_hash 000000000000" in lines[0]
    assert f"not trained here, so there are no models to bundle: {foreign['candidate']}" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize("kind", ["weights", "backbone"])
def test_an_altered_file_of_the_run_is_not_bundled(run_dir: Path, tmp_path: Path, kind: str) -> None:
    record = json.loads((run_dir / "blends" / "both" / "blend.json").read_text())
    altered = {
        "weights": Path(weights_file(str(run_dir), record["members"][1]["candidate"], 2)),
        "backbone": next(run_dir.rglob("tokenizer.json")),
    }[kind]
    content = altered.read_bytes()
    altered.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert f"{altered}: content does not match its checksum" in refuse(run_dir, tmp_path / "out")[0]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_altered_metadata_of_weights_are_not_bundled(run_dir: Path, tmp_path: Path) -> None:
    path = next(run_dir.glob("weights/*/fold-0/model.safetensors"))
    content = path.read_bytes()
    altered = content.replace(b'max_length\\":48', b'max_length\\":40')
    assert altered != content
    path.write_bytes(altered)
    assert "damaged, or do not belong to its predictions" in refuse(run_dir, tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda record: record["combination"].update(slope=-1.0), "its content does not match its seal"),
        (lambda record: record["combination"]["parts"].reverse(), "not of the same candidates"),
        (lambda record: record["combination"]["parts"].pop(), "not of the same candidates"),
        (lambda record: record["combination"]["parts"][0]["scalings"].append({}), "has 4 folds, but 2 scalings"),
    ],
)
def test_a_blend_that_is_not_what_was_fitted_is_not_bundled(
    run_dir: Path, tmp_path: Path, damage: Callable[[Any], None], fault: str
) -> None:
    path = run_dir / "blends" / "both" / "blend.json"
    record = json.loads(path.read_text())
    damage(record)
    if "seal" not in fault:  # as older versions wrote it
        del record["seal"]
    path.write_text(json.dumps(record))
    assert fault in refuse(run_dir, tmp_path / "out")[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda contents: contents.update(clip=False), "its content does not match its seal"),
        (lambda contents: contents["members"][0].update(folds=[]), "must be ascending and at least one"),
        (lambda contents: contents["members"][0].update(folds=[1, 0, 2, 3]), "must be ascending and at least one"),
        (lambda contents: contents["members"].append(contents["members"][0]), "each once"),
        (lambda contents: contents["combination"]["parts"].pop(), "of the same candidates"),
        (lambda contents: contents["combination"]["parts"][0]["scalings"].append({}), "has 4 folds, but 2 scalings"),
        (lambda contents: contents.update(texts={}), "texts is empty, but the task has CPC codes"),
        (
            lambda contents: contents["files"].pop(next(n for n in contents["files"] if "model" in n)),
            "predicting needs",
        ),
        (lambda contents: contents["files"].pop(next(n for n in contents["files"] if "toke" in n)), "is not a file of"),
    ],
)
def test_a_bundle_whose_manifest_is_not_what_was_written_is_refused(
    bundle: Path, tmp_path: Path, damage: Callable[[Any], None], fault: str
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    contents = json.loads((copy / "manifest.json").read_text())
    damage(contents)
    if "seal" not in fault:  # as older versions wrote it
        del contents["seal"]
    (copy / "manifest.json").write_text(json.dumps(contents))
    with pytest.raises(InputError, match=fault):
        open_bundle(copy)


def test_a_copied_run_directory_is_bundled_from_its_own_files(run_dir: Path, finished: Path, tmp_path: Path) -> None:
    contents = json.loads((run_dir / "blends" / "both" / "blend.json").read_text())
    assert {member["run"] for member in contents["members"]} == {str(finished)}
    shutil.rmtree(run_dir / "weights")
    assert "were not kept" in refuse(run_dir, tmp_path / "out")[0]


def test_other_files_are_left_alone_and_a_bundle_that_was_cut_off_is_finished(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    assert "holds a bundle already" in refuse(finished, bundle)[0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "holds other files already (notes.txt)" in refuse(finished, tmp_path / "mine")[0]
    copy = Path(shutil.copytree(bundle, tmp_path / "cut"))
    (copy / "manifest.json").unlink()
    next(copy.glob("weights/*/fold-3/*")).unlink()
    call(app, "bundle", finished, "--blend", "both", "--out", copy)
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert all((copy / path.relative_to(bundle)).read_bytes() == path.read_bytes() for path in files)


def test_a_full_disk_leaves_no_manifest(finished: Path, tmp_path: Path) -> None:
    written = []

    def fill(content: bytes, path: str) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        written.append(path)
        write_bytes(content, path)

    blend = read_blend(str(finished), "both")
    with pytest.raises(OSError, match="No space left"):
        write_bundle(str(finished), blend, load_prepared(blend.data), tmp_path / "full", write=fill)
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_a_blend_that_is_not_there_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such blend; fit one with `blendfold blend"):
        call(app, "bundle", finished, "--blend", "other", "--out", tmp_path / "out")
