"""The studies of the memo: all experiments, each on its split, nothing cut; two of them through Ray to a blend."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from blend.__main__ import app as blend_app
from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare
from data_prep.store.oof_store import OofStore
from memo import MEMO, load_memo, prepare_options, read_memo
from models.backbones.tiny_checkpoints import make_tiny
from search.study.read_candidates import read_candidates
from search.study.read_study import read_study
from whole_search import run

ROOT = Path(__file__).parents[3]
STUDIES = {path.stem.removeprefix("memo-").upper(): path for path in (ROOT / "studies").glob("memo-*.yaml")}
IN_SMALL = {"epochs": 2, "batch_size": 64, "max_length": 48, "precision": "fp32"}


def test_there_is_a_study_for_every_split_and_each_experiment_is_in_one() -> None:
    assert set(STUDIES) == set(read_memo()["splits"])
    names = [name for path in STUDIES.values() for name in read_study(path).candidates]
    assert sorted(names) == sorted(load_memo())


@pytest.mark.parametrize("split", sorted(STUDIES))
def test_a_study_holds_the_experiments_of_its_split_as_the_memo_says(split: str) -> None:
    study = read_study(STUDIES[split])
    memo = load_memo()
    for name, candidate in read_candidates(study.candidates).items():
        assert candidate == memo[name].candidate
        assert memo[name].record.get("split") in (split, None)


@pytest.mark.parametrize("split", sorted(STUDIES))
def test_a_study_says_how_its_split_is_prepared_and_cuts_nothing(split: str) -> None:
    study = read_study(STUDIES[split])
    comment = STUDIES[split].read_text().split("name:")[0]
    assert f"{prepare_options(split)} --out {study.data}\n" in comment
    assert f"blendfold run studies/{STUDIES[split].name}" in comment
    assert not study.ladder.enabled
    assert study.ladder.dead_below == -1.0
    assert study.score_epochs
    assert study.budget.candidates is None
    assert study.resources.gpu == 1


def test_unknown_memo_names_are_an_error_that_lists_the_known(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    content = {"name": "x", "data": "x", "candidates": ["exp004", "exp045", "exp99"]}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="a list of names needs `candidates_from:`"):
        read_study(path)
    path.write_text(yaml.safe_dump({**content, "candidates_from": str(MEMO)}))
    with pytest.raises(InputError, match=r"memo.yaml has no exp045, exp99; known: baseline, exp001, exp002"):
        read_study(path)


def test_a_memo_study_in_small(tmp_path: Path) -> None:
    content = yaml.safe_load(STUDIES["B"].read_text())
    in_small = {"backbone": "minilm-l6", "layers": 2, "epochs": 1, "reinit_layers": 0}
    path = tmp_path / "study.yaml"
    path.write_text(
        yaml.safe_dump(
            content | {"candidates": ["exp018", "exp047"], "candidates_from": str(MEMO), "override": in_small}
        )
    )
    study = read_study(path)
    memo = load_memo()
    for name, candidate in read_candidates(study.candidates).items():
        assert candidate == memo[name].candidate.model_copy(update=in_small)
        assert study.resources.of(candidate.backbone).gpu == 1


def first_rows(name: str, n_rows: int, folder: Path) -> Path:
    with (ROOT / "data_prep" / "sample" / name).open(newline="") as file:
        lines = list(csv.reader(file))[: n_rows + 1]
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder / name


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    """Return a study of three experiments of split A on a part of the sample, with tiny checkpoints beside it."""
    memo = load_memo()
    names = ["exp004", "exp005", "exp006"]
    for backbone in sorted({memo[name].candidate.backbone for name in names}):
        make_tiny(backbone, tmp_path / "tiny" / backbone)
    train, test = first_rows("train.csv", 200, tmp_path), first_rows("test.csv", 20, tmp_path)
    data = prepare(train=train, test=test, out=str(tmp_path / "prepared"), n_folds=2, seed=0)
    content: dict[str, Any] = yaml.safe_load(STUDIES["A"].read_text())
    content |= {
        "data": data.path,
        "candidates": names,
        "candidates_from": str(MEMO),
        "override": IN_SMALL,
        "resources": {"cpu": 1},
    }
    path = tmp_path / "memo-a.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.ray
def test_experiments_run_and_are_blended_by_name(small_study: Path) -> None:
    folder = small_study.parent
    run(small_study, "--backbones", str(folder / "tiny"), "--only", "exp004,exp005")
    run_dir = folder / "runs" / "memo-a"
    names = yaml.safe_load((run_dir / "study.yaml").read_text())["names"]
    assert list(names) == ["exp004", "exp005", "exp006"]
    fold_runs = sorted(OofStore(run_dir).fold_runs())
    assert fold_runs == sorted((names[name], fold) for name in ("exp004", "exp005") for fold in (0, 1))
    fit = ["fit", str(run_dir), "--members", "exp004,exp005", "--dead-below", "-1", "--clip"]
    blend_app(fit, standalone_mode=False)
    record = json.loads((run_dir / "blends" / "exp004-exp005" / "blend.json").read_text())
    members = {member["candidate"] for member in record["members"]}
    assert members
    assert members <= {names["exp004"], names["exp005"]}
