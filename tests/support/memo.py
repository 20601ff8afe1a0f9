"""`studies/memo.yaml`: one participant's experiments, with the splits and ensembles that stand beside them."""

from functools import cache
from pathlib import Path
from typing import Any

from data_prep.store.yaml_documents import read_yaml
from models.experiment_log import Experiment, read_experiments

MEMO = Path(__file__).parents[2] / "studies" / "memo.yaml"


@cache
def read_memo() -> dict[str, Any]:
    return read_yaml(MEMO)


@cache
def load_memo() -> dict[str, Experiment]:
    return read_experiments(MEMO)


def prepare_options(split: str) -> str:
    """Return a split as options of `blendfold prepare`."""
    found = read_memo()["splits"][split]
    return f"--scheme {found['scheme']} --folds {found['folds']} --seed {found['seed']}"
