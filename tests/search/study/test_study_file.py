"""The study file: its keys, its faults, and what a run directory remembers of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.task import Task
from models.candidate import Candidate
from models.training.rung_reports import RungReport
from search.study.kept_study import keep_study
from search.study.read_study import choose_candidates, names_of_same_model, read_study, resolve_study
from search.study.study_file import Resources, Study
from search.worker.fold_run import scoring_points
from small_models import train as train_fold


def write(folder: Path, **changes: Any) -> Path:
    study = {"name": "first", "data": "prepared", "candidates": {"a": {}}, **changes}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_a_short_study_has_sensible_defaults(tmp_path: Path) -> None:
    study = read_study(write(tmp_path))
    assert study.sampler == "tpe"
    assert study.resources.of("anything") == Resources(cpu=1, gpu=0)
    assert study.ladder.enabled


def test_what_is_kept_may_change_between_runs(tmp_path: Path, prepared_tiny: Prepared) -> None:
    before = resolved(prepared_tiny)
    assert (before.keep_weights, before.budget.disk_gb) == ("members", None)
    keep_study(before, str(tmp_path))
    keep_study(resolved(prepared_tiny, keep_weights="none", budget={"disk_gb": 1.5}), str(tmp_path))
    kept = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert (kept["keep_weights"], kept["budget"]["disk_gb"]) == ("none", 1.5)


def test_resources_differ_by_backbone(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, resources={"cpu": 2, "backbones": {"big": {"cpu": 4, "gpu": 1}}}))
    assert study.resources.of("big") == Resources(cpu=4, gpu=1)
    assert study.resources.of("small") == Resources(cpu=2, gpu=0)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"colour": "red"}, ["unknown key 'colour'", "known keys: budget, candidates"]),
        ({"ladder": {"etta": 3}}, ["unknown key 'ladder.etta'", "eta"]),
        ({"resources": {"gpus": 1}}, ["unknown key 'resources.gpus'", "gpu"]),
        ({"name": "a/b"}, ["name"]),
        ({"sampler": "cma"}, ["sampler", "tpe", "random", "grid"]),
        ({"candidates": {}}, ["`candidates:`", "`space:`"]),
        ({"space": {"epochs": [1, 2]}}, ["budget.candidates is required"]),
        ({"candidates": {"a": {}, "b": {"epochs": 2}}, "budget": {"candidates": 1}}, ["less than the 2"]),
        ({"sampler": "grid", "space": {"dropout": {"uniform": [0, 0.1]}}}, ["space.dropout: a grid needs choices"]),
        (
            {"candidates": {"a": {"epoch": 1}}, "space": {"epoch": 1}, "sampler": "grid"},
            ["candidates.a", "space.epoch"],
        ),
        ({"resources": {"gpu": 1.5}}, ["whole number"]),
        ({"keep_weights": "best"}, ["keep_weights", "members", "all", "none"]),
        ({"budget": {"disk_gb": 0}}, ["budget.disk_gb"]),
        ({"budget": {"hours": float("inf")}}, ["budget.hours", "finite"]),
        ({"resources": {"cpu": float("inf")}}, ["resources.cpu", "finite"]),
        ({"price_per_hour": {"gpu": float("nan")}}, ["price_per_hour.gpu", "finite"]),
        ({"checkpoint_seconds": float("inf")}, ["checkpoint_seconds", "finite"]),
        ({"ladder": {"rung_folds": [-1]}}, ["ladder", "from 0", "[-1]"]),
        ({"name": "a" * 300}, ["name"]),
        ({"name": "first\n"}, ["name"]),
        ({"candidates": {"": {}}}, ["candidates", "may not be empty"]),
        ({"candidates": {"a\x1b[2J": {}}}, ["candidates", "control characters"]),
        ({"candidates": {"a" * 300: {}}}, ["candidates", "at most 100"]),
        ({"candidates": {"a": {"epochs": True}}}, ["candidates.a: epochs: true or false does not fit"]),
        ({"candidates": {"a": {"head_norm": "on"}}}, ["head_norm: must be true or false (found 'on')"]),
        ({"candidates_from": "log.yaml", "candidates": ["a", "b", "a"]}, ["candidates: a stands twice"]),
        ({"candidates_from": "log.yaml", "candidates": [["a"]]}, ["candidates: a list holds names"]),
        ({"candidates_from": [1], "candidates": ["a"]}, ["needs `candidates_from:`"]),
        ({"sampler": "grid", "space": {"seed": {"int": [0, 10**12]}}}, ["space.seed: a grid needs choices"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read_study(write(tmp_path, **changes))
    for message in messages:
        assert message in str(error.value)


def test_paths_of_a_study_may_begin_in_the_home_folder(
    tmp_path: Path, prepared_tiny: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.yaml").write_text("experiments: {a: {candidate: {layers: 2}}}")
    (tmp_path / "studies").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    study = read_study(write(tmp_path / "studies", candidates=["a"], candidates_from="~/log.yaml", data="~/prepared"))
    assert study.candidates == {"a": {"layers": 2}}
    assert resolve_study(study, prepared_tiny).data == str(tmp_path / "prepared")


def test_folds_with_rungs_are_folds_of_the_data(prepared_tiny: Prepared) -> None:
    with pytest.raises(InputError, match=r"ladder.rung_folds: .* has folds 0 to \d, found \[7\]"):
        resolved(prepared_tiny, ladder={"rung_folds": [0, 7]})


def test_rows_of_early_rungs_have_several_scores(prepared_tiny: Prepared) -> None:
    fold = prepared_tiny.train["fold"].to_numpy()
    column = prepared_tiny.train.column_names.index("score")
    flat = np.where(fold == 1, np.float32(0.5), prepared_tiny.train["score"].to_numpy())
    data = replace(prepared_tiny, train=prepared_tiny.train.set_column(column, "score", pa.array(flat)))
    with pytest.raises(InputError, match=r"rung_rows: all 9 rows of fold 1 that early rungs score have the score 0\.5"):
        resolved(data, rung_rows=9)
    resolved(data, rung_rows=9, ladder={"rungs": []})


def test_many_candidates_are_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    monkeypatch.setattr(Candidate, "id", property(lambda self: ids.append(self) or str(self.seed)))
    read_study(write(tmp_path, candidates={f"c{seed}": {"seed": seed} for seed in range(50)}))
    assert len(ids) == 50


def resolved(data: Prepared, **changes: Any) -> Any:
    study = Study.model_validate({"name": "first", "data": data.path, "candidates": {"a": {}}, **changes})
    return resolve_study(study, data)


def test_the_run_directory_keeps_the_study_whole(tmp_path: Path, prepared_tiny: Prepared) -> None:
    keep_study(resolved(prepared_tiny), str(tmp_path))
    kept = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert Path(kept["data"]).is_absolute()
    assert kept["split_hash"] == prepared_tiny.manifest.split_hash
    assert kept["ladder"]["eta"] == 3.0
    keep_study(resolved(prepared_tiny), str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"rung_rows": 100}, {"ladder": {"eta": 4}}, {"sampler": "random"}],
    ids=lambda change: next(iter(change)),
)
def test_a_study_that_would_mix_results_is_refused(
    tmp_path: Path, prepared_tiny: Prepared, change: dict[str, Any]
) -> None:
    keep_study(resolved(prepared_tiny), str(tmp_path))
    before = (tmp_path / "study.yaml").read_bytes()
    with pytest.raises(InputError, match=f"{next(iter(change))} was .* is now"):
        keep_study(resolved(prepared_tiny, **change), str(tmp_path))
    assert (tmp_path / "study.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [{"budget": {"hours": 2}}, {"resources": {"cpu": 2}}, {"candidates": {"a": {}, "b": {"epochs": 2}}}],
    ids=lambda change: next(iter(change)),
)
def test_a_study_may_grow(tmp_path: Path, prepared_tiny: Prepared, change: dict[str, Any]) -> None:
    keep_study(resolved(prepared_tiny), str(tmp_path))
    keep_study(resolved(prepared_tiny, **change), str(tmp_path))
    key = next(iter(change))
    assert yaml.safe_load((tmp_path / "study.yaml").read_text())[key] != {}


def test_an_override_replaces_a_setting_of_every_candidate_and_of_the_space(tmp_path: Path) -> None:
    study = read_study(
        write(
            tmp_path,
            candidates={"a": {"epochs": 3, "head": "cls"}, "b": None},
            space={"epochs": [2, 4], "dropout": [0.0, 0.1]},
            sampler="grid",
            override={"epochs": 1, "layers": 2},
        )
    )
    assert study.candidates == {"a": {"epochs": 1, "head": "cls", "layers": 2}, "b": {"epochs": 1, "layers": 2}}
    assert study.space == {"epochs": 1, "dropout": [0.0, 0.1], "layers": 2}
    assert study.override == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"layers": 1}, "overridden.b: candidate: reinit_layers=2 exceeds the kept layers=1"),
        ({"epoch": 1}, "override: unknown key 'epoch'; known keys: accumulation"),
        ({"epochs": 0}, "override: epochs: Input should be greater than or equal to 1"),
    ],
)
def test_an_override_is_checked_like_a_candidate(tmp_path: Path, override: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_study(write(tmp_path, candidates={"a": {}, "b": {"reinit_layers": 2}}, override=override))


def test_the_run_directory_knows_the_id_of_every_name(prepared_tiny: Prepared) -> None:
    names = resolved(prepared_tiny, candidates={"a": {}, "b": {"epochs": 2}}).names
    assert names == {"a": Candidate().id, "b": Candidate(epochs=2).id}


def test_only_names_candidates_of_the_study(prepared_tiny: Prepared) -> None:
    study = resolved(prepared_tiny, candidates={"a": {}, "b": {"epochs": 2}})
    assert choose_candidates(study, ["b"]) == {Candidate(epochs=2).id}
    with pytest.raises(InputError, match=r"--only d, z: no such name under `candidates:` of first; known: a, b"):
        choose_candidates(study, ["z", "a", "d"])
    with pytest.raises(InputError, match="--only names no candidate; known: a, b"):
        choose_candidates(study, [])


def test_a_candidate_may_be_scored_after_every_epoch(prepared_tiny: Prepared, tiny_bert: str) -> None:
    rungs = scoring_points((0.5,), 3, score_epochs=True)
    candidate = Candidate(backbone=tiny_bert, epochs=3, keep="best", batch_size=50)
    reports: list[RungReport] = []
    train_fold(candidate, prepared_tiny, 0, rungs=rungs, report=lambda report: reports.append(report) is None)
    assert [report.epoch for report in reports if report.progress != 0.5] == [1.0, 2.0, 3.0]
    assert scoring_points((0.5,), 3, score_epochs=False) == (0.5, 1.0)


def test_candidates_that_an_override_makes_alike_are_one_model(tmp_path: Path, prepared_tiny: Prepared) -> None:
    candidates = {"a": {"epochs": 2}, "b": {"epochs": 3}, "c": {"head": "cls"}}
    study = resolve_study(read_study(write(tmp_path, candidates=candidates, override={"epochs": 1})), prepared_tiny)
    assert study.names["a"] == study.names["b"] == Candidate(epochs=1).id != study.names["c"]
    assert names_of_same_model(study) == [["a", "b"]]
    assert choose_candidates(study, ["b"]) == {study.names["a"]}
    with pytest.raises(InputError, match=r"candidates\.b: the same model as .*candidates.a"):
        read_study(write(tmp_path, candidates={"a": {"epochs": 3}, "b": {"epochs": 3}}, override={"epochs": 1}))


def test_what_the_task_lacks_is_told_before_anything_runs(prepared_tiny: Prepared) -> None:
    reviews = Task(name="reviews", text_columns=("review",), score_range=(0, 5))
    data = replace(prepared_tiny, manifest=prepared_tiny.manifest.model_copy(update={"task": reviews}))
    space = {"recipe": ["pair", "grouped"], "loss": ["mse", "kl"]}
    with pytest.raises(InputError) as caught:
        resolved(data, candidates={"a": {"recipe": "pair_context"}}, space=space, budget={"candidates": 4})
    faults = "\n".join(caught.value.faults)
    assert "candidates.a: recipe needs a context: task 'reviews'" in faults
    assert "space: recipe needs " in faults
    assert "score_levels" in faults
    assert len(caught.value.faults) == 3
    resolved(data, candidates={"a": {"recipe": "pair"}})


def test_a_run_directory_of_another_version_is_not_continued(tmp_path: Path, prepared_tiny: Prepared) -> None:
    keep_study(resolved(prepared_tiny), str(tmp_path))
    path = tmp_path / "study.yaml"
    sealed, _, text = path.read_text().partition("\n")
    assert sealed.startswith("seal: ")
    path.write_text(text.replace("ladder:\n", "ladder:\n  paired_sd: 0.005\n"))
    with pytest.raises(InputError, match=r"unknown key 'ladder\.paired_sd'[\s\S]*another `name:` to start over"):
        keep_study(resolved(prepared_tiny), str(tmp_path))
    assert "paired_sd" in path.read_text()


def test_a_price_needs_something_to_cost_and_may_change_between_runs(tmp_path: Path, prepared_tiny: Prepared) -> None:
    with pytest.raises(InputError, match=r"price_per_hour: needs `cpu:` or `gpu:`"):
        read_study(write(tmp_path, price_per_hour={}))
    run_dir = str(tmp_path / "runs")
    keep_study(resolved(prepared_tiny), run_dir)
    assert keep_study(resolved(prepared_tiny, price_per_hour={"gpu": 2.5}), run_dir) == [
        "price_per_hour was None, is now {'cpu': 0.0, 'gpu': 2.5}"
    ]
