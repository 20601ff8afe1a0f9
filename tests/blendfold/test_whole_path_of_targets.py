"""Tables of several numbers and of classes, from raw files to the predictions of a bundle, by the command line."""

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

import blendfold as bf
from data_prep.errors import InputError
from data_prep.store.oof_store import OofStore
from data_prep.targets.target_columns import numbers_of
from search.replay.recording import read_recording
from whole_search import CORE, start, tables, wait_for_points
from wide_run import WORDS

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Competition:
    """Rows whose targets hang on their words, and a task file for them."""

    task: dict[str, object]
    settings: dict[str, object]

    def row(self, words: list[str], random: np.random.Generator) -> list[str]:
        """Return the targets of a text."""
        early = sum(word in WORDS[:5] for word in words) / len(words)
        if self is ONE:
            return [f"{early:.3f}"]
        if "classes" not in self.task:
            return [f"{early:.3f}", "" if random.random() < 0.2 else f"{words.count(WORDS[0]) / 2:.3f}"]
        return ["calm" if early < 0.4 else "sad" if early < 0.7 else "wild"]


NUMBERS = Competition(
    {"score_columns": ["early", "amber"], "score_range": [0, 3], "metric": "rmse"},
    {"loss": "mse", "separate_heads": True},
)
ONE = Competition({"score_column": "early", "score_range": [0, 1], "metric": "rmse"}, {"loss": "mse"})
CLASSES = Competition(
    {"score_column": "mood", "classes": ["calm", "sad", "wild"], "metric": "multiclass_log_loss"},
    {"loss": "cross_entropy"},
)


def write(folder: Path, competition: Competition, backbone: str) -> Path:
    """Write raw files, a task and a study; return the study."""
    random = np.random.default_rng(3)
    columns = competition.task.get("score_columns") or [competition.task["score_column"]]
    assert isinstance(columns, list)
    for role, n_rows in (("train", 60), ("test", 12)):
        with (folder / f"{role}.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "text", *(columns if role == "train" else ())])
            for number in range(n_rows):
                words = random.choice(WORDS, 6).tolist()
                targets = competition.row(words, random) if role == "train" else []
                lines.writerow([number, " ".join(words), *targets])
    (folder / "task.yaml").write_text(yaml.safe_dump({"name": "made", "text_columns": ["text"], **competition.task}))
    base = {
        "backbone": backbone,
        "recipe": "texts",
        "epochs": 3,
        "backbone_lr": 0.003,
        "batch_size": 16,
        "precision": "fp32",
    }
    study = {
        "name": "tiny",
        "data": str(folder / "prepared"),
        "resources": {"cpu": 1},
        "ladder": {"enabled": False, "rungs": [0.5]},
        "checkpoint_seconds": 1,
        "keep_weights": "all",
        "candidates": {
            "mean": {**base, **competition.settings},
            "cls": {**base, **competition.settings, "head": "cls"},
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def blendfold(folder: Path, *words: str) -> str:
    """Run a verb on one core and return what it printed; a blend may warn (exit code 3)."""
    settings = {"PYTHONPATH": str(ROOT), "BLENDFOLD_CACHE": str(folder / "cache"), "COLUMNS": "150"}
    done = subprocess.run(
        ["taskset", "--cpu-list", str(CORE), sys.executable, "-m", "blendfold", *words],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return done.stdout


@pytest.mark.ray
@pytest.mark.parametrize("competition", [NUMBERS, CLASSES], ids=["numbers", "classes"])
def test_from_raw_files_to_the_predictions_of_a_bundle(
    competition: Competition, tmp_path: Path, tiny_bert: str
) -> None:
    study = write(tmp_path, competition, tiny_bert)
    blendfold(tmp_path, *"prepare --train train.csv --test test.csv --task task.yaml --out prepared --folds 2".split())
    run_dir = tmp_path / "runs" / "tiny"
    if competition is NUMBERS:
        process = start(study)
        wait_for_points(process, run_dir, 3)
        process.kill()
        process.communicate()
    printed = blendfold(tmp_path, "run", "study.yaml", "--no-dashboard")
    assert "2 complete" in printed
    store = OofStore(run_dir)
    (candidate, *_) = store.candidates()
    names = ["early", "amber"] if competition is NUMBERS else ["calm", "sad", "wild"]
    assert store.read("test", candidate, 0).column_names == ["id", "fold", *(f"prediction_{name}" for name in names)]
    if competition is CLASSES:
        assert numbers_of(store.read("oof", candidate, 1), "prediction").sum(axis=1) == pytest.approx(1, abs=1e-5)

    before = tables(run_dir)
    assert blendfold(tmp_path, "leaderboard", "runs/tiny")
    blendfold(tmp_path, "blend", "runs/tiny", "--name", "first", "--clip")
    submission = run_dir / "blends" / "first" / "submission.csv"
    header, *lines = submission.read_text().splitlines()
    assert header == ",".join(["id", *names])
    assert len(lines) == 12
    blendfold(tmp_path, "bundle", "runs/tiny", "--blend", "first", "--out", "bundle")
    blendfold(tmp_path, "predict", "--bundle", "bundle", "--test", "test.csv", "--out", "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == submission.read_bytes()
    blendfold(tmp_path, "errors", "runs/tiny", "--blend", "first")
    blendfold(tmp_path, "report", "runs/tiny", "--blend", "first")
    assert tables(run_dir) == before


@pytest.mark.ray
def test_a_search_over_repeats_is_resumed_and_blended(tmp_path: Path, tiny_bert: str) -> None:
    study = write(tmp_path, ONE, tiny_bert)
    given = "prepare --train train.csv --test test.csv --task task.yaml --out prepared --folds 2 --repeats 2"
    printed = blendfold(tmp_path, *given.split())
    assert "4 folds in 2 repeats" in " ".join(printed.split())
    run_dir = tmp_path / "runs" / "tiny"
    process = start(study)
    wait_for_points(process, run_dir, 5)
    process.kill()
    process.communicate()
    known = tables(run_dir)
    assert "2 complete" in blendfold(tmp_path, "run", "study.yaml", "--no-dashboard")
    assert known
    assert known.items() <= tables(run_dir).items(), "what was finished is not trained again"
    data, run = bf.PreparedData(tmp_path / "prepared"), bf.Run(run_dir)
    store = OofStore(run_dir)
    for candidate in store.candidates():
        assert store.folds(candidate) == [0, 1, 2, 3]
        for fold in range(4):
            assert store.read("oof", candidate, fold).num_rows == data.folds["rows"][fold]
    assert data.folds["rows"].sum() == 120
    seen = run.oof()
    assert not seen.isna().to_numpy().any()
    assert seen.groupby("id")["fold"].apply(lambda fold: sorted(fold // 2)).map(tuple).unique().tolist() == [(0, 1)]
    assert seen.groupby("id")["score"].nunique().eq(1).all()

    assert "4/4" in blendfold(tmp_path, "leaderboard", "runs/tiny")
    blendfold(tmp_path, "blend", "runs/tiny", "--name", "first", "--clip", "--dead-below", "-1")
    blendfold(tmp_path, "bundle", "runs/tiny", "--blend", "first", "--out", "bundle")
    blendfold(tmp_path, "predict", "--bundle", "bundle", "--test", "test.csv", "--out", "again.csv")
    submission = run_dir / "blends" / "first" / "submission.csv"
    assert (tmp_path / "again.csv").read_bytes() == submission.read_bytes()
    assert "60 rows" in blendfold(tmp_path, "errors", "runs/tiny", "--blend", "first")
    blendfold(tmp_path, "report", "runs/tiny", "--blend", "first")
    assert "--folds 2 --repeats 2" in (run_dir / "report.html").read_text()
    with pytest.raises(InputError, match="a replay plays searches over one split; this one has 2"):
        read_recording(str(run_dir))
