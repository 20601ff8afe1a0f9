"""Run every candidate of `studies/pppm-grid.yaml` on every fold of real rows, to compare schedulers on.

    python benchmarks/full_grid.py --train train.csv --test test.csv

Uses a fifth of the competition's linked groups, so that the whole grid takes about three hours of one core, and forty
test rows, because nobody submits from here. Finished fold runs are kept, so you can run it in pieces.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from transformers import AutoConfig, AutoModel

from data_prep.prepare.pairs import read_pairs
from data_prep.prepare.prepare_folder import prepare
from data_prep.task import PPPM
from models.backbones.tiny_checkpoints import make_tiny
from search.ray_tune.run_study import run_study

STUDY = "studies/pppm-grid.yaml"
PREPARED = Path("prepared/pppm-fifth")
SCRATCH = Path("prepared/scratch")
SHARE = 5
N_FOLDS = 5
N_TEST = 40
SIZES = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512}
EXTRA = {"deberta": {"attention_head_size": 32}, "roberta": {}}
FAMILIES = {"deberta": "deberta-v3-small", "roberta": "roberta-base"}
"""Folder under `scratch/` -> the family whose architecture and kind of tokenizer it has."""


def sample(train: str, test: str) -> tuple[Path, Path]:
    """Write a fifth of the linked groups, whole, and the first test rows; return both files."""
    pairs = read_pairs(train, test, PPPM, cpc=None, scheme="stratified_group", n_folds=N_FOLDS)
    order = np.random.default_rng(0).permutation(pairs.groups.max() + 1)
    taken = np.isin(pairs.groups, order[: len(order) // SHARE])
    PREPARED.parent.mkdir(exist_ok=True)
    files = PREPARED.with_name("fifth-train.csv"), PREPARED.with_name("fifth-test.csv")
    columns = ["id", "anchor", "target", "context"]
    pa.csv.write_csv(pairs.train.filter(pa.array(taken)).select([*columns, "score"]), files[0])
    pa.csv.write_csv(pairs.test.slice(0, N_TEST).select(columns), files[1])
    return files


def make_scratch(texts: list[str]) -> None:
    """Make the untrained checkpoints: tokenizers trained on `texts`, random weights."""
    for name, family in FAMILIES.items():
        folder = SCRATCH / "scratch" / name
        if folder.exists():
            continue
        make_tiny(family, folder, texts=texts)
        config = AutoConfig.from_pretrained(folder)
        for key, value in {**SIZES, **EXTRA[name]}.items():
            setattr(config, key, value)
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)


def main() -> None:
    """Prepare, then run what is not finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="the competition's train.csv")
    parser.add_argument("--test", required=True, help="the competition's test.csv")
    arguments = parser.parse_args()
    train, test = sample(arguments.train, arguments.test)
    data = prepare(train=train, test=test, out=PREPARED, n_folds=N_FOLDS)
    make_scratch(sorted({*data.train["anchor"].to_pylist(), *data.train["target"].to_pylist()}))
    print(run_study(STUDY, backbones=str(SCRATCH), dashboard=False).summary)


if __name__ == "__main__":
    main()
