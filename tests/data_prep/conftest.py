"""Small CSV inputs in PPPM's format, good until a test spoils them."""

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

LEVELS = ("0", "0.25", "0.5", "0.75", "1.0")
CODES = ("A47", "B29", "G02")
HEADER = ["id", "anchor", "target", "context", "score"]


@dataclass
class Inputs:
    """Rows of both files, to be spoiled, then written."""

    folder: Path
    train: list[list[str]]
    test: list[list[str]]

    def write(self) -> tuple[Path, Path]:
        """Write train.csv and test.csv."""
        paths = self.folder / "train.csv", self.folder / "test.csv"
        for path, header, rows in zip(paths, (HEADER, HEADER[:-1]), (self.train, self.test), strict=True):
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([header, *rows])
        return paths


def rows_of(n_anchors: int, per_anchor: int, *, prefix: str, seed: int) -> list[list[str]]:
    """Return rows with distinct ids; anchors named after `prefix`, so that files do not share them."""
    generator = random.Random(seed)
    return [
        [
            f"{prefix}{anchor}-{number}",
            f"{prefix} anchor {anchor}",
            f"target {anchor} {number}",
            CODES[anchor % len(CODES)],
            generator.choice(LEVELS),
        ]
        for anchor in range(n_anchors)
        for number in range(per_anchor)
    ]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    test = [row[:-1] for row in rows_of(3, 5, prefix="te", seed=2)]
    return Inputs(tmp_path, rows_of(12, 10, prefix="tr", seed=1), test)


@pytest.fixture
def prepare_inputs(tmp_path: Path) -> Callable[..., object]:
    """Return `prepare` for inputs, into a folder beside them."""
    from data_prep.prepare.prepare_folder import prepare

    def run(inputs: Inputs, **settings: object) -> object:
        train, test = inputs.write()
        return prepare(train=train, test=test, **{"out": tmp_path / "out", "n_folds": 4, **settings})

    return run
