"""Files as people have them go through `prepare` at the first attempt, and a search needs no test file."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.__main__ import app
from data_prep.console import console
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import list_names
from data_prep.store.oof_store import OofStore
from whole_search import run, write_study

TASK = "name: sentences\ntext_columns: [sentence1, sentence2]\nscore_range: [0, 5]\nmetric: spearman\n"
WORDS = "valve pump rotor blade sensor lens fibre resin film coating electrode cell".split()


def rows(n_rows: int = 60) -> list[dict[str, object]]:
    """Return rows whose score is how many words the two sentences share."""
    generator = random.Random(3)
    found: list[dict[str, object]] = []
    for _ in range(n_rows):
        first, second = generator.sample(WORDS, 4), generator.sample(WORDS, 4)
        shared = len(set(first) & set(second))
        found.append({"sentence1": " ".join(first), "sentence2": " ".join(second), "score": float(shared)})
    return found


def spread(columns: dict[str, list[object]], sign: str = ",") -> bytes:
    """Return columns as a text file; its first row names them."""
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(sign.join(map(str, line)) + "\n" for line in lines).encode()


def columns_of(**more: list[object]) -> dict[str, list[object]]:
    return more | {name: [row[name] for row in rows()] for name in ("sentence1", "sentence2", "score")}


def as_parquet(columns: dict[str, list[object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


NUMBERS = list(range(60))
ATTEMPTS: dict[str, Callable[[], bytes]] = {
    "tabs": lambda: spread(columns_of(id=NUMBERS), "\t"),
    "Parquet": lambda: as_parquet(columns_of(id=NUMBERS)),
    "the index of to_csv": lambda: spread({"": NUMBERS, **columns_of(id=NUMBERS)}),
    "other columns": lambda: gzip.compress(
        spread(columns_of(genre=["news"] * 60, filename=["a.txt"] * 60, year=[2012 + row % 5 for row in NUMBERS]), "\t")
    ),
}
"""Each as `train`, with a task of two texts, without groups and without a test file."""


def prepared_by_command(folder: Path, content: bytes) -> tuple[Prepared, str]:
    (folder / "task.yaml").write_text(TASK)
    (folder / "train").write_bytes(content)
    given = ["--train", str(folder / "train"), "--task", str(folder / "task.yaml"), "--folds", "3"]
    with console.capture() as shown:
        app(["prepare", *given, "--out", str(folder / "prepared")], standalone_mode=False)
    return load_prepared(folder / "prepared"), shown.get()


@pytest.mark.parametrize("name", ATTEMPTS)
def test_prepare_takes_the_file(name: str, tmp_path: Path) -> None:
    data, shown = prepared_by_command(tmp_path, ATTEMPTS[name]())
    assert data.train.select(["sentence1", "sentence2", "score"]).to_pylist() == rows()
    assert (data.manifest.scheme, data.has_test) == ("stratified", False)
    assert "Split: stratified, because the task has no group_column" in shown
    if name == "other columns":
        assert "Columns kept aside in extra/: 'genre', 'filename', 'year'" in shown
    assert "''" not in data.train.column_names


@pytest.mark.ray
def test_a_search_and_its_blend_need_no_test_file(tiny_bert: str, tmp_path: Path) -> None:
    from blend.__main__ import app as blend_app

    data, _ = prepared_by_command(tmp_path, ATTEMPTS["other columns"]())
    base = {"backbone": tiny_bert, "recipe": "texts", "epochs": 2, "backbone_lr": 0.003, "batch_size": 16}
    ladder = {"rungs": [], "min_gain": 0.0, "dead_below": -1.0}
    candidates = {"mean": base, "cls": {**base, "head": "cls"}}
    study = write_study(tmp_path, data, tiny_bert, candidates=candidates, ladder=ladder)
    run(study)
    run_dir = tmp_path / "runs/tiny"
    store = OofStore(run_dir)
    done = [candidate for candidate in store.candidates() if store.folds(candidate) == [0, 1, 2]]
    assert done
    assert list_names(run_dir / "test") == []
    before = {path: path.stat().st_mtime_ns for path in run_dir.glob("oof/*/*.arrow")}
    run(study)
    assert before == {path: path.stat().st_mtime_ns for path in run_dir.glob("oof/*/*.arrow")}, "nothing is damaged"
    with console.capture():
        blend_app(["fit", str(run_dir), "--name", "b", "--dead-below", "-1"], standalone_mode=False)
    assert (run_dir / "blends/b/blend.json").exists()
    assert not (run_dir / "blends/b/submission.csv").exists()
