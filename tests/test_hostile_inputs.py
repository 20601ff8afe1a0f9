"""Whatever a person's files hold, they are read, or refused with a message, and nothing is half-written.

Each file is changed at random for some seconds (`--fuzz-seconds`), then read as the command line does.
"""

import gzip
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import copyfile, rmtree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from blend.imports.foreign_models import ImportRequest, read_request
from blend.imports.imported_models import write_imported
from blend.ledger.ledger_file import read_ledger
from damaged_files import write_nonsense
from data_prep.errors import InputError, StoreError
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.yaml_documents import read_document
from data_prep.task import Task
from models.experiment_log import find_candidate, read_experiments
from search.cluster.machines import read_machines
from search.study.read_study import read_study, resolve_study

ROOT = Path(__file__).parents[1]
STUDY = """name: fuzz
data: prepared
budget: {candidates: 4, hours: 2}
candidates:
  plain: {recipe: pair, head: mean, loss: mse, epochs: 2}
  second: {recipe: packed, head: attention, loss: bce, backbone_lr: 1.0e-4}
space:
  backbone_lr: {loguniform: [5.0e-5, 4.0e-4]}
  head: [mean, attention]
ladder: {min_gain: 0.001, rungs: [0.33, 0.67]}
"""
TASK = """name: answers
id_column: id
text_columns: [anchor, target, context]
score_levels: [0, 0.25, 0.5, 0.75, 1]
group_column: anchor
metric: pearson
"""
CANDIDATE = '{"backbone": "minilm-l6", "layers": 2, "recipe": "pair", "head": "mean", "epochs": 2, "backbone_lr": 1e-4}'
LOG = "experiments:\n  one: {candidate: {recipe: pair, head: mean}, cv: [0.5, 0.6]}\n  two: {candidate: {loss: bce}}\n"
MACHINES = "utilisation: 0.3\nutilisation_source: measured\n"

Reader = Callable[[Path, Prepared], object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one file of each kind."""
    root = tmp_path_factory.mktemp("hostile")
    rows = (ROOT / "data_prep/sample/train.csv").read_text().splitlines()[:121]
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    (root / "test.csv").write_text("\n".join((ROOT / "data_prep/sample/test.csv").read_text().splitlines()[:31]) + "\n")
    data = prepare(train=root / "train.csv", test=root / "test.csv", out=root / "prepared", scheme="group", n_folds=3)
    noise = np.random.default_rng(0)
    for name, table in (("oof", data.train), ("theirs", data.test)):
        values = 0.2 * noise.normal(size=len(table)) + (table["score"].to_numpy() if name == "oof" else 0.0)
        lines = [f"{each},{value:.6f}" for each, value in zip(table["id"].to_pylist(), values, strict=True)]
        (root / f"{name}.csv").write_text("\n".join(["id,prediction", *lines]) + "\n")
        np.save(root / f"{name}.npy", values)
    texts = {"study.yaml": STUDY, "task.yaml": TASK, "one.json": CANDIDATE, "log.yaml": LOG, "machines.yaml": MACHINES}
    for file, text in texts.items():
        (root / file).write_text(text)
    copyfile(ROOT / "studies/memo_ledger.csv", root / "ledger.csv")
    for suffix, content in other_formats(root / "train.csv").items():
        (root / f"train{suffix}").write_bytes(content)
    return root


def other_formats(path: Path) -> dict[str, bytes]:
    """Return a CSV file in every other format, with a column that the task does not name, by suffix."""
    texts = csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=False))
    table = texts.append_column("year", pa.array(range(len(texts))))
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    for sink, new in ((arrow, pa.ipc.new_file), (stream, pa.ipc.new_stream)):
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    rows = [list(table.column_names), *(row.values() for row in table.to_pylist())]
    tabs = "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
    return {
        ".tsv": tabs,
        ".jsonl": "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode(),
        ".tsv.gz": gzip.compress(tabs),
        ".tsv.zst": pa.Codec("zstd").compress(tabs, asbytes=True),
        ".parquet": parquet.getvalue(),
        ".arrow": arrow.getvalue(),
        ".arrows": stream.getvalue(),
    }


def prepared_from(root: Path, _: Prepared, suffix: str = ".csv") -> object:
    return prepare(
        train=root / f"train{suffix}", test=root / "test.csv", out=root / "out", scheme="group", n_folds=3
    ).manifest


def imported(suffix: str) -> Reader:
    def read(root: Path, data: Prepared) -> object:
        oof, test = str(root / f"oof{suffix}"), str(root / f"theirs{suffix}")
        request = ImportRequest(oof=oof, test=test, name="theirs", trust_row_order=suffix == ".npy")
        return write_imported(read_request(request, data), str(root / "out"))

    return read


READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "prepare": (prepared_from, ("train.csv", "test.csv")),
    **{
        f"prepare of {suffix}": (partial(prepared_from, suffix=suffix), (f"train{suffix}",))
        for suffix in (".tsv", ".jsonl", ".tsv.gz", ".tsv.zst", ".parquet", ".arrow", ".arrows")
    },
    "task": (lambda root, _: read_document(root / "task.yaml", Task), ("task.yaml",)),
    "study": (lambda root, data: resolve_study(read_study(root / "study.yaml"), data), ("study.yaml",)),
    "candidate": (lambda root, _: find_candidate(str(root / "one.json")), ("one.json",)),
    "log": (lambda root, _: read_experiments(root / "log.yaml"), ("log.yaml",)),
    "machines": (lambda root, _: read_machines(root / "machines.yaml"), ("machines.yaml",)),
    "ledger": (lambda root, _: read_ledger(root / "ledger.csv"), ("ledger.csv",)),
    "import of CSV": (imported(".csv"), ("oof.csv", "theirs.csv")),
    "import of arrays": (imported(".npy"), ("oof.npy", "theirs.npy")),
}
"""What is read, and from which files."""


def test_nonsense_is_refused_or_read_and_nothing_is_half_written(
    folder: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_prepared(folder / "prepared")
    for name, (read, _) in READERS.items():
        read(folder, data)
        rmtree(folder / "out", ignore_errors=True)
        assert name
    counts: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    end, seed = time.monotonic() + request.config.getoption("--fuzz-seconds") / 2, 0
    while time.monotonic() < end or seed < len(READERS):
        name = list(READERS)[seed % len(READERS)]
        generator = random.Random(seed)
        read, files = READERS[name]
        path = folder / generator.choice(files)
        before = path.read_bytes()
        case = f"seed {seed}: {name} after {path.name}: {write_nonsense(path, generator)}"
        refusal = refusal_of(lambda read=read: read(folder, data), case)  # type: ignore[misc]
        counts[name]["read" if refusal is None else "refused"] += 1
        assert refusal is None or refusal.strip(), case
        assert refusal is None or not [file for file in (folder / "out").rglob("*") if file.is_file()], case
        path.write_bytes(before)
        rmtree(folder / "out", ignore_errors=True)
        seed += 1
    with capsys.disabled():
        said = "; ".join(f"{name} {found['read']} read, {found['refused']} refused" for name, found in counts.items())
        print(f"\n{seed} changed files: {said}")  # noqa: T201
    assert sum(found["refused"] for found in counts.values())


def refusal_of(read: Callable[[], object], case: str) -> str | None:
    """Return the message of what is refused; None: it was read."""
    try:
        read()
    except (InputError, StoreError) as error:
        return str(error)
    except Exception as error:
        raise AssertionError(case) from error
    return None
