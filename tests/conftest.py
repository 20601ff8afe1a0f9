"""Shared fixtures: a tiny random checkpoint and a tiny prepared folder, both made on the spot, offline."""

import gc
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from store_server import Store, open_store, serve

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads that wait for each other
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = (
    "valve pump rotor blade sensor lens fibre resin film coating electrode cell circuit signal filter gear shaft "
    "bearing nozzle burner panel hinge lock roller belt mould polymer enzyme antibody catalyst membrane channel"
).split()
NUMBERS = itertools.count()
"""Of buckets: each test has one of its own."""
CODES = {"A61": "medical science", "F16": "engineering elements", "H01": "electric elements"}


def phrase_rows(n_anchors: int, per_anchor: int, seed: int) -> list[dict[str, str]]:
    """Return distinct (anchor, target, context) rows whose score will depend on shared words."""
    generator = random.Random(seed)
    pairs = generator.sample(list(itertools.combinations(WORDS, 2)), n_anchors)
    rows = []
    for number, (first, second) in enumerate(pairs):
        context = sorted(CODES)[number % len(CODES)]
        targets: set[str] = set()
        while len(targets) < per_anchor:
            kept = generator.choice([first, second, f"{first} {second}", ""])
            targets.add(f"{kept} {generator.choice(WORDS)}".strip())
        rows += [
            {"anchor": f"{first} {second}", "target": target, "context": context, "context_text": CODES[context]}
            for target in sorted(targets)
        ]
    return rows


def shared_words(row: dict[str, str]) -> float:
    """Score a row by the share of the anchor's words that its target repeats: learnable by the tiniest model."""
    anchor = set(row["anchor"].split())
    return round(len(anchor & set(row["target"].split())) / len(anchor), 2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=20.0, help="How long files are damaged at random.")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that start Ray: they take longest, and in one process share a search."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_collection() -> None:
    """Look for no garbage while libraries and tests are loaded."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Take libraries and tests, which stay to the end, out of every search for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _plain_width() -> None:
    """Give tables the width that they have in a pipe, whichever test comes first."""
    from data_prep.console import PLAIN_WIDTH, console

    console.width = PLAIN_WIDTH


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with a random 2-layer BERT (hidden 32) and a WordPiece tokenizer over `WORDS`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*WORDS, *sorted({word for text in CODES.values() for word in text.split()})]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *known]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def prepared_tiny(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return a `Prepared` folder of 264 train rows (24 of them holdout) in 4 folds, and 40 test rows."""
    from data_prep.prepared import PreparedManifest, hash_data, hash_split, load_prepared, write_prepared
    from data_prep.task import PPPM

    folder = Path(tmp_path_factory.mktemp("prepared-tiny"))
    n_anchors, per_anchor = 27, 10
    rows = phrase_rows(n_anchors, per_anchor, seed=1)[:264]
    group = np.arange(len(rows)) // per_anchor
    fold = np.where(group < 3, -1, group % 4)[: len(rows)]
    train = pa.table(
        {
            "id": [f"tr{number:04d}" for number in range(len(rows))],
            **{name: [row[name] for row in rows] for name in ("anchor", "target", "context", "context_text")},
            "score": pa.array([shared_words(row) for row in rows], pa.float32()),
            "group": pa.array(group, pa.int32()),
            "fold": pa.array(fold, pa.int8()),
        }
    )
    rows = phrase_rows(4, 10, seed=2)
    test = pa.table(
        {
            "id": [f"te{number:04d}" for number in range(len(rows))],
            **{name: [row[name] for row in rows] for name in ("anchor", "target", "context", "context_text")},
        }
    )
    n_holdout = int((fold == -1).sum())
    manifest = PreparedManifest(
        task=PPPM,
        scheme="group",
        n_folds=4,
        seed=1,
        holdout=0.1,
        rows={"train": len(fold) - n_holdout, "holdout": n_holdout, "test": len(rows)},
        inputs={},
        data_hash=hash_data(train, test),
        split_hash=hash_split(train),
    )
    write_prepared(folder, manifest, train, test)
    return load_prepared(folder)


@pytest.fixture(scope="session")
def store_server() -> Iterator[str]:
    """Yield host and port of an S3 server on loopback."""
    with serve() as address:
        yield address


@pytest.fixture
def store(store_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Yield an empty bucket, which this process and those that it starts find by their environment."""
    with open_store(f"bucket-{next(NUMBERS)}", store_server) as opened:
        for name, value in opened.environment.items():
            monkeypatch.setenv(name, value)
        yield opened
