"""Compare the memo's heads, losses, recipes and regularizers on real rows: one fold, all else equal.

    python benchmarks/memo_settings.py --data prepared/pppm --jobs 2

Each setting changes what its experiment of the memo was about, on one baseline and one schedule. The model is
`minilm-l6` kept to two layers, so the table shows what a setting does to a small model. The difference to the baseline
is paired, with a standard error from a bootstrap over groups. Finished settings are kept in `--out`.
"""

import argparse
import dataclasses
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.experiment_log import read_experiments
from models.training.train_fold import train_fold

FOLD = 0
BASELINE = "exp031"
SCHEDULE: dict[str, Any] = {
    "batch_size": 32,
    "backbone_lr": 2e-4,
    "head_lr": 1e-3,
    "dropout": 0.0,
    "layer_decay": 1.0,
    "weight_decay": 0.01,
    "warmup": 0.06,
    "clip_norm": 1.0,
    "beta2": 0.999,
    "precision": "auto",
    "keep": "last",
    "separator": "tokenizer",
    "spell_separator": False,
}
HEAD: dict[str, Any] = {"head": "mean", "head_norm": True, "head_layers": 0, "head_dropout": 0.0}
"""The baseline's head, for what is not about heads."""
FULL = {"context": "full"}
MEMO: dict[str, tuple[str, dict[str, Any]]] = {
    "exp031": ("baseline: mean, LayerNorm, linear; squared error; anchor, target, titles", {}),
    "exp018": ("cls, MLP of 2 x 1024", {}),
    "exp023": ("cls, linear", {}),
    "exp025": ("cls, LayerNorm, linear", {}),
    "exp012": ("cls of the last 4 layers (here 3), MLP", FULL),
    "exp011": ("cnn", FULL),
    "exp024": ("attention pooling, linear", {}),
    "exp036": ("cls, MLP, multi-sample dropout", {}),
    "exp006": ("huber", HEAD | FULL),
    "exp004": ("titles without their leading letters", HEAD),
    "exp010": ("backbone dropout .1, which this experiment took away", HEAD | FULL | {"dropout": 0.1}),
    "exp017": ("mixout .1", HEAD | FULL),
    "exp019": ("top layer initialised anew", HEAD | FULL | {"reinit_layers": 1}),
    "exp001": ("anchor and target as two segments, CPC code as embeddings", HEAD),
    "exp005": ("titles and anchor, target as two segments", HEAD | FULL),
    "exp047": ("all targets of the anchor and context joined, own one among them", {}),
}
"""Experiment -> what differs from the baseline, and what is changed to make that so."""
LONG = {"max_length": 256}
BEYOND: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped": ("other targets of the anchor and context joined, shuffled", {"recipe": "grouped", **LONG}),
    "grouped-4": ("four other targets joined", {"recipe": "grouped", "max_siblings": 4, **LONG}),
    "grouped-attention": (
        "other targets joined, attention pooling",
        {"recipe": "grouped", "head": "attention", "head_norm": False, **LONG},
    ),
    "marked": ("own target marked among the others, shuffled", {"recipe": "marked", **LONG}),
    "packed": ("all targets in one text, each scored from its own tokens", {"recipe": "packed", **LONG}),
}
"""What the memo lacks, on top of the baseline."""


def candidates(layers: int | None, epochs: int) -> dict[str, tuple[str, Candidate]]:
    """Return every setting by name: what it is about, and its candidate."""
    memo = read_experiments("studies/memo.yaml")
    common = {**SCHEDULE, "backbone": "minilm-l6", "layers": layers, "epochs": epochs}

    def setting(name: str, change: dict[str, Any]) -> Candidate:
        return Candidate.model_validate({**memo[name].candidate.model_dump(exclude_defaults=True), **common, **change})

    found = {name: (about, setting(name, change)) for name, (about, change) in MEMO.items()}
    return found | {name: (about, setting(BASELINE, change)) for name, (about, change) in BEYOND.items()}


def train(name: str, candidate: Candidate, data: Prepared, out: str) -> tuple[str, float]:
    """Train one setting on one thread; return its name and the CPU seconds it took."""
    before = time.process_time()
    result = train_fold(candidate, data, FOLD, backbone=locate_backbone(candidate.backbone))
    assert result is not None
    seconds = time.process_time() - before
    store = OofStore(out)
    write_json(candidate.model_dump(mode="json"), f"{out}/candidates/{candidate.id}.json")
    write_json({"cpu_seconds": seconds}, f"{out}/seconds/{candidate.id}.json")
    store.write(result.provenance, oof=result.oof, test=result.test)
    return name, seconds


def report(settings: dict[str, tuple[str, Candidate]], data: Prepared, out: str) -> None:
    """Print the table of all finished settings."""
    store = OofStore(out)
    fold = np.array(data.train["fold"])
    rows = data.train.filter(fold == FOLD)
    group, score = np.array(rows["group"]), np.array(rows["score"], dtype=np.float64)

    def prediction(name: str) -> Any:
        return np.array(store.read("oof", settings[name][1].id, FOLD)["prediction"], dtype=np.float64)

    metric = data.task.measure
    bootstrap = GroupBootstrap(score, np.zeros(len(score), np.int8), group, metric, resamples=500)
    print("| setting | what | Pearson | difference to baseline | CPU seconds |\n|---|---|---|---|---|")
    for name, (about, candidate) in settings.items():
        if not store.is_finished(candidate.id, FOLD):
            continue
        pair = bootstrap.compare(prediction(name), prediction(BASELINE))
        seconds = json.loads(Path(out, "seconds", f"{candidate.id}.json").read_text())["cpu_seconds"]
        print(
            f"| {name} | {about} | {metric(score, prediction(name)):.4f} "
            f"| {pair.value:+.4f} ± {pair.standard_error:.4f} | {seconds:.0f} |"
        )


def main() -> None:
    """Train what is not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--out", default="runs/memo-settings", help="run directory for predictions")
    parser.add_argument("--layers", type=int, default=2, help="encoder layers kept; 0 keeps all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="settings trained at a time, one thread each")
    parser.add_argument("--only", help="names, with commas between them  (default: all)")
    arguments = parser.parse_args()
    data = load_prepared(arguments.data)
    data = dataclasses.replace(data, test=data.test.slice(0, 1))  # a table of one fold needs no test predictions
    settings = candidates(arguments.layers or None, arguments.epochs)
    if arguments.only:
        chosen = {BASELINE, *arguments.only.split(",")}
        settings = {name: setting for name, setting in settings.items() if name in chosen}
    store = OofStore(arguments.out)
    left = {name: c for name, (_, c) in settings.items() if not store.is_finished(c.id, FOLD)}
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=1) as pool:
        jobs = [pool.apply_async(train, (name, c, data, arguments.out)) for name, c in left.items()]
        for job in jobs:
            name, seconds = job.get()
            print(f"{name}: {seconds:.0f} CPU seconds", flush=True)
    report(settings, data, arguments.out)


if __name__ == "__main__":
    main()
