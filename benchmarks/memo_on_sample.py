"""Run the whole memo in small: all 48 experiments on their splits of a part of the sample, with tiny checkpoints.

    python benchmarks/memo_on_sample.py

Every experiment keeps its recipe, head, loss and regularizers and goes through Ray to out-of-fold tables; then the
memo's three ensembles are blended. This shows that all of them run. Models of two layers and random weights learn
nothing in a few steps, so no score here means anything. It prints each command before running it. Run it again to
continue after an interruption.
"""

import argparse
import csv
import importlib
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from data_prep.store.oof_store import OofStore
from data_prep.store.yaml_documents import read_yaml
from models.experiment_log import read_experiments

ROOT = Path(__file__).parents[1]
MEMO = ROOT / "studies" / "memo.yaml"
SAMPLE = ROOT / "data_prep" / "sample"
N_TRAIN, N_TEST = 150, 30
OVERRIDE: dict[str, Any] = {"batch_size": 64, "max_length": 48, "precision": "fp32"}
TINY_LAYERS = 2
IN_SMALL: dict[str, Any] = {"resources": {"cpu": 1}, "checkpoint_seconds": 600}


def run(command: str) -> None:
    """Print a command of blendfold, such as `blendfold models list`, and do what it does, in this process."""
    package, *words = shlex.split(command)
    print(f"\n$ python -m {package} {shlex.join(words)}", flush=True)
    importlib.import_module(f"{package}.__main__").app(words, standalone_mode=False)


def cut(source: Path, rows: int, target: Path) -> None:
    """Write the first rows of a CSV to another; rows of one anchor stand together."""
    with source.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[: rows + 1]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def write_study(split: str, data: Path, out: Path) -> Path:
    """Write the study of a split with its experiments in small."""
    content = yaml.safe_load((ROOT / "studies" / f"memo-{split.lower()}.yaml").read_text(encoding="utf-8"))
    candidates, experiments = {}, read_experiments(MEMO)
    content.pop("candidates_from")
    for name in content["candidates"]:
        settings = experiments[name].candidate.model_dump(mode="json", exclude_defaults=True)
        if "reinit_layers" in settings:
            settings["reinit_layers"] = min(settings["reinit_layers"], TINY_LAYERS)
        candidates[name] = settings
    content |= {"data": str(data), "candidates": candidates, "override": OVERRIDE, **IN_SMALL}
    path = out / f"{content['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def rehearse(out: Path, splits: list[str], only: str | None) -> None:
    """Run the experiments of some splits, or those named `only`."""
    prepared_as = read_yaml(MEMO)["splits"]
    folder, options = shlex.quote(str(out)), f"--only {only}" if only else ""
    if not (out / "tiny").exists():
        run(f"models tiny --family all --out {folder}/tiny")
    cut(SAMPLE / "train.csv", N_TRAIN, out / "train.csv")
    cut(SAMPLE / "test.csv", N_TEST, out / "test.csv")
    for name in splits:
        split = " ".join(f"--{option} {prepared_as[name][option]}" for option in ("scheme", "folds", "seed"))
        tables = f"--train {folder}/train.csv --test {folder}/test.csv"
        run(f"data_prep prepare {tables} {split} --out {folder}/prepared/{name}")
        study = shlex.quote(str(write_study(name, out / "prepared" / name, out / "studies")))
        run(f"search run {study} --runs {folder}/runs --backbones {folder}/tiny --no-dashboard {options}")


def blend(out: Path) -> None:
    """Blend the memo's ensembles, members that learned nothing included."""
    experiments = read_experiments(MEMO)
    for name, ensemble in read_yaml(MEMO)["ensembles"].items():
        splits = sorted({experiments[member].record.get("split", "A") for member in ensemble["members"]})
        runs = shlex.join(str(out / "runs" / f"memo-{split.lower()}") for split in splits)
        mixed = "--allow-mixed-splits" if len(splits) > 1 else ""
        members = ",".join(ensemble["members"])
        run(f"blend fit {runs} --members {members} --name {name} --dead-below -1 --clip --force {mixed}")


def count(out: Path, splits: list[str]) -> list[str]:
    """Say how many experiments are complete; return the names of those that are not."""
    missing = []
    n_experiments = 0
    for split in splits:
        run_dir = out / "runs" / f"memo-{split.lower()}"
        names = yaml.safe_load((run_dir / "study.yaml").read_text(encoding="utf-8"))["names"]
        n_folds = read_yaml(MEMO)["splits"][split]["folds"]
        finished = {name for name, candidate in names.items() if len(OofStore(run_dir).folds(candidate)) == n_folds}
        print(f"{run_dir.name}: {len(finished)} of {len(names)} experiments have all {n_folds} folds")
        missing += sorted(names.keys() - finished)
        n_experiments += len(names)
    rest = f"; not complete: {', '.join(missing)}" if missing else ""
    print(f"{n_experiments - len(missing)} of {n_experiments} experiments of the memo ran{rest}")
    return missing


def main() -> int:
    """Run everything; 1 where an experiment has not all of its folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/memo-on-sample"), help="folder for everything")
    parser.add_argument("--splits", default="K,F,A,B,C,D,E", help="splits to run  (default: all)")
    parser.add_argument("--only", help="experiments of one split to run, with commas between them; none is blended")
    arguments = parser.parse_args()
    begun = time.monotonic()
    splits = arguments.splits.split(",")
    rehearse(arguments.out, splits, arguments.only)
    if arguments.only:
        return 0
    if {"A", "B"} <= set(splits):
        blend(arguments.out)
    print()
    missing = count(arguments.out, splits)
    print(f"{time.monotonic() - begun:.0f} s; predictions and blends are in {arguments.out / 'runs'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
