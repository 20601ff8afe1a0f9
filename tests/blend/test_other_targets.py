"""Blends of several targets and of classes, from wide prediction tables to a submission with all columns."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from blend.__main__ import WORSE, app
from blend.blend_folder import read_blend, read_whole_blend
from blend.blend_record import BlendRecord, TargetsRecord
from blend.evidence.blend_report import targets_sentences
from blend.ledger.ledger_entry import entry_of, find_submission
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepared import Prepared, hash_data, hash_split, load_prepared, write_prepared
from data_prep.scoring.class_metrics import to_shares
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import oof_schema, read_table, write_table
from data_prep.submission.submission_manifest import read_submission
from data_prep.targets.target_columns import numbers_of
from data_prep.task import Task
from wide_run import CLASSES, SEVERAL, wide_data, wide_run

ERRORS = [0.3, 0.4, 0.6]


def blend(*arguments: object) -> str:
    """Run a verb in this process and return what it printed."""
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Return a run of three candidates for two targets, of which a third is missing."""
    wide_run(tmp_path / "run", wide_data(tmp_path, SEVERAL, missing=0.3), ERRORS)
    return tmp_path / "run"


def classes_run(folder: Path, metric: str, errors: tuple[float, ...] = (0.7, 0.8, 1.2)) -> tuple[Path, Prepared]:
    """Return a run of candidates for three classes, and its data."""
    data = wide_data(folder, CLASSES.model_copy(update={"metric": metric}))
    wide_run(folder / "run", data, list(errors))
    return folder / "run", data


def submission_of(run: Path, name: str = "best") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_submission(str(run / "blends" / name))[0].decode())))


def alone(run: Path, data: Prepared, target: str, folder: Path) -> Path:
    """Write a run with the same candidates for one of the targets, by the rows that have it."""

    def narrow(table: pa.Table, known: str | None = None) -> pa.Table:
        table = table if known is None else table.filter(pc.is_valid(table[known]))
        for quantity in ("score", "prediction"):
            if f"{quantity}_{target}" in table.column_names:
                table = table.append_column(quantity, table[f"{quantity}_{target}"])
        return table.drop_columns([name for name in table.column_names if name.startswith(("score_", "prediction_"))])

    task = Task(
        name="alone", text_columns=("text",), score_column=target, score_range=SEVERAL.score_range, metric="rmse"
    )
    train, test, known = narrow(data.train, f"score_{target}"), data.test, f"score_{target}"
    update = {"task": task, "data_hash": hash_data(train, test), "split_hash": hash_split(train)}
    write_prepared(folder / "prepared", data.manifest.model_copy(update=update), train, test)
    store = OofStore(folder / "run")
    for candidate, fold in OofStore(run).fold_runs():
        oof, told = (OofStore(run).read(kind, candidate, fold) for kind in ("oof", "test"))
        stamp = Provenance(candidate, fold, update["data_hash"], update["split_hash"], 1, 1.0)
        store.write(stamp, oof=narrow(oof, known), test=narrow(told))
    (folder / "run" / "study.yaml").write_text(yaml.safe_dump({"name": "alone", "data": str(folder / "prepared")}))
    (folder / "run" / "candidates").symlink_to(run / "candidates")
    return folder / "run"


OWN = {"name", "data", "data_hash", "split_hash", "submission", "members", "version"}


def test_blends_of_several_targets_are_those_of_as_many_runs_to_the_last_bit(several: Path, tmp_path: Path) -> None:
    blend("fit", several, "--clip")
    whole, data = read_whole_blend(str(several), "best"), load_prepared(tmp_path / "prepared")
    assert isinstance(whole, TargetsRecord)
    together = read_table(several / "blends" / "best" / "oof.arrow", schema=oof_schema(["a", "b"]))
    submitted = submission_of(several)
    for target, record in whole.by_target.items():
        other = alone(several, data, target, tmp_path / target)
        blend("fit", other, "--clip")
        expected = read_blend(str(other), "best")
        assert record.model_dump(exclude=OWN) == expected.model_dump(exclude=OWN)
        pairs = zip(record.members, expected.members, strict=True)
        assert all(one.model_dump(exclude={"run"}) == same.model_dump(exclude={"run"}) for one, same in pairs)
        nested = read_table(other / "blends" / "best" / "oof.arrow")
        known = together.filter(pc.is_valid(together[f"score_{target}"]))
        assert 60 < len(known) < len(together)
        for column, wide in (("id", "id"), ("score", f"score_{target}"), ("prediction", f"prediction_{target}")):
            assert known[wide].equals(nested[column])
        assert [row[target] for row in submitted] == [row[target] for row in submission_of(other)]
    assert list(submitted[0]) == ["id", "a", "b"]


def test_scores_of_several_targets_are_means_with_groups_drawn_for_all(several: Path, tmp_path: Path) -> None:
    printed = blend("fit", several, "--clip")
    record = read_whole_blend(str(several), "best")
    assert isinstance(record, TargetsRecord)
    table = read_table(several / "blends" / "best" / "oof.arrow")
    target, prediction = (numbers_of(table, quantity).astype(np.float64) for quantity in ("score", "prediction"))
    nested = np.mean(np.sqrt(np.nanmean((target - prediction) ** 2, axis=0)))
    assert record.scores["blend"].nested.pooled == pytest.approx(nested, rel=1e-6)
    for name, evidence in record.scores.items():
        each = [one.scores[name] for one in record.blends]
        assert evidence.in_sample.fold_mean == np.mean([one.in_sample.fold_mean for one in each])
        assert evidence.expected is not None
        assert evidence.expected.value == np.mean([one.expected.value for one in each if one.expected])
        assert evidence.expected.low < evidence.expected.value < evidence.expected.high
        assert evidence.expected.standard_error < max(one.expected.standard_error for one in each if one.expected)
    gain = record.comparisons[0]
    assert gain.against == "best single model"
    assert gain.difference == pytest.approx(np.mean([one.comparisons[0].difference for one in record.blends]))
    apart = np.sqrt(np.sum([one.comparisons[0].standard_error ** 2 for one in record.blends])) / 2
    assert gain.standard_error == pytest.approx(apart, rel=0.4), "targets were drawn independently of each other"
    weights = [one.weights for one in record.blends]
    for candidate, weight in record.weights.items():
        assert weight == pytest.approx(np.mean([one.get(candidate, 0.0) for one in weights]))
    assert sum(record.weights.values()) == pytest.approx(1)
    assert f"nested rmse, mean of 2 targets: {nested:.4f}" in printed
    assert all(sentence in printed for sentence in targets_sentences(record))
    row = next(line for line in printed.splitlines() if line.startswith("│ mean "))
    assert [f"{record.scores[name].nested.pooled:.4f}" in row for name in record.scores] == [True] * 3


def test_groups_are_drawn_for_all_targets_together(tmp_path: Path) -> None:
    """Of two targets that are the same, the mean varies as much as each; drawn apart, it would vary less."""
    data = wide_data(tmp_path, SEVERAL)
    twin = data.train.set_column(data.train.column_names.index("score_b"), "score_b", data.train["score_a"])
    hashes = {"data_hash": hash_data(twin, data.test), "split_hash": hash_split(twin)}
    write_prepared(tmp_path / "twin", data.manifest.model_copy(update=hashes), twin, data.test)
    run = tmp_path / "run"
    wide_run(run, load_prepared(tmp_path / "twin"), ERRORS)
    for path in [*run.glob("oof/*/*.arrow"), *run.glob("test/*/*.arrow")]:
        table = read_table(path)
        kind, candidate, fold = path.parts[-3], path.parts[-2], int(path.stem.removeprefix("fold-"))
        same = table.set_column(table.column_names.index("prediction_b"), "prediction_b", table["prediction_a"])
        stamp = Provenance.of(table)
        other = OofStore(tmp_path / "same")
        if kind == "oof":
            told = read_table(run / "test" / candidate / f"fold-{fold}.arrow")
            told = told.set_column(told.column_names.index("prediction_b"), "prediction_b", told["prediction_a"])
            other.write(stamp, oof=same, test=told)
    (tmp_path / "same" / "study.yaml").write_text((run / "study.yaml").read_text())
    blend("fit", tmp_path / "same")
    record = read_whole_blend(str(tmp_path / "same"), "best")
    errors = [one.comparisons[0].standard_error for one in record.by_target.values()]
    assert record.comparisons[0].standard_error == pytest.approx(errors[0], rel=1e-6)
    assert errors[0] == errors[1]


def test_a_target_is_named_after_the_blend(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blend("fit", several, "--clip")
    assert read_blend(str(several), "best") == read_blend(str(several), "best/a") != read_blend(str(several), "best/b")
    with pytest.raises(InputError, match=r"--blend best/c: no such target; blend best has targets a, b"):
        read_blend(str(several), "best/c")
    assert "blend best/a: nested predictions of" in blend("errors", several)
    blend("errors", several, "--blend", "best/b", "--worst", "3", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["source"] == "blend best/b"
    table = read_table(several / "blends" / "best" / "oof.arrow").to_pandas().set_index("id")
    for row in document["worst"]:
        assert row["score"] == pytest.approx(table.loc[row["id"], "score_b"])
        assert row["prediction"] == pytest.approx(table.loc[row["id"], "prediction_b"])


def test_without_a_blend_errors_are_those_of_the_best_candidate_for_the_first_target(several: Path) -> None:
    assert ", target a: out-of-fold predictions of" in blend("errors", several)


def test_a_later_blend_is_compared_target_by_target(several: Path) -> None:
    blend("fit", several, "--clip", "--method", "mean", "--name", "plain")
    printed = blend("fit", several, "--clip", "--against", "plain", "--verbose")
    record = read_whole_blend(str(several), "best")
    plain = read_whole_blend(str(several), "plain")
    for target, one in record.by_target.items():
        assert one.previous is not None
        assert one.previous.against == "plain"
        gain = plain.by_target[target].scores["blend"].nested.pooled - one.scores["blend"].nested.pooled
        assert one.previous.difference == pytest.approx(gain, abs=1e-6)
        assert f"{target}: nested blend against the earlier blend plain:" in printed
    before = (several / "blends" / "best" / "blend.json").read_bytes()
    blend("fit", several, "--clip")
    assert (several / "blends" / "best" / "blend.json").read_bytes() == before
    with pytest.raises(InputError, match="already holds another blend"):
        blend("fit", several, "--clip", "--name", "best", "--method", "mean")
    blend("fit", several, "--clip", "--name", "best", "--method", "mean", "--force")
    assert read_whole_blend(str(several), "best").method == "mean"


def test_what_is_left_out_of_all_targets_is_said_once(several: Path) -> None:
    store = OofStore(several)
    ids = store.candidates()
    for fold in range(3):  # one fold of a candidate is gone; another has learned one of the targets alone
        path = several / "oof" / ids[0] / f"fold-{fold}.arrow"
        table = store.read("oof", ids[0], fold)
        random = np.random.default_rng(fold).normal(size=len(table)).astype(np.float32)
        score = table["score_b"].fill_null(0.0).to_numpy()
        table = table.set_column(table.column_names.index("prediction_b"), "prediction_b", pa.array(random - 2 * score))
        write_table(table, path, schema=oof_schema(["a", "b"]), metadata=Provenance.of(table).to_metadata())
    (several / "oof" / ids[1] / "fold-2.arrow").unlink()
    lines = [line for line in blend("fit", several, "--clip").splitlines() if "left out" in line]
    assert len(lines) == 2
    assert lines[0].startswith(f"left out: {ids[1]}")
    assert lines[0].endswith("2 of 3 folds finished")
    assert lines[1].startswith(f"b: left out: {ids[0]}")
    assert "dead in fold 0" in lines[1]


def test_the_ledger_takes_the_submission_of_several_targets(several: Path) -> None:
    blend("fit", several, "--clip")
    record = read_whole_blend(str(several), "best")
    entry = entry_of(*find_submission(str(several / "blends" / "best")))
    assert (entry.blend, entry.metric, entry.method) == ("best", "rmse", "consensus")
    assert entry.nested == record.scores["blend"].nested.fold_mean
    assert entry.scheme == "stratified_group", "every row is its own group here, so a stratified split does not leak"
    assert set(entry.members.split()) == {f"{name}:{weight:.6g}" for name, weight in record.weights.items()}


def test_a_fault_names_its_target(several: Path, tmp_path: Path) -> None:
    data = load_prepared(tmp_path / "prepared")
    empty = pc.if_else(pc.equal(data.train["fold"], 1), None, data.train["score_b"])
    train = data.train.set_column(data.train.column_names.index("score_b"), "score_b", empty.cast(pa.float32()))
    train = train.filter(pc.or_(pc.is_valid(train["score_a"]), pc.is_valid(train["score_b"])))
    hashes = {"data_hash": hash_data(train, data.test), "split_hash": hash_split(train)}
    write_prepared(tmp_path / "other", data.manifest.model_copy(update=hashes), train, data.test)
    wide_run(tmp_path / "less", load_prepared(tmp_path / "other"), ERRORS)
    with pytest.raises(InputError, match=r"target b: .* no row of fold 1 has a b, so nothing is scored there"):
        blend("fit", tmp_path / "less")


def test_rows_are_chosen_for_each_target(several: Path, tmp_path: Path) -> None:
    data, extra = load_prepared(tmp_path / "prepared"), tmp_path / "extra.csv"
    ids = data.train["id"].to_pylist()
    extra.write_text("\n".join(["id,year", *(f"{name},{2020 + (number // 3) % 2}" for number, name in enumerate(ids))]))
    blend("fit", several, "--clip", "--score-on", "year=2021", "--rows", extra)
    record = read_whole_blend(str(several), "best")
    table = read_table(several / "blends" / "best" / "oof.arrow")
    late = {name for number, name in enumerate(ids) if (number // 3) % 2}
    assert set(table["id"].to_pylist()) <= late
    for target, one in record.by_target.items():
        assert one.scored_rows is not None
        assert one.scored_rows.rows == table[f"score_{target}"].is_valid().to_numpy().sum() > 20


@pytest.mark.parametrize(
    ("metric", "columns", "spelled"),
    [
        ("multiclass_log_loss", ["calm", "sad", "wild"], None),
        ("multiclass_accuracy", ["mood"], 1),
        ("macro_f1", ["mood"], 1),
        ("map@3", ["mood"], 3),
    ],
)
def test_classes_are_blended_by_their_own_metric(
    tmp_path: Path, metric: str, columns: list[str], spelled: int | None
) -> None:
    run, data = classes_run(tmp_path, metric)
    blend("fit", run, "--clip")
    record = read_blend(str(run), "best")
    assert record.method in ("consensus", "mean")
    table = read_table(run / "blends" / "best" / "oof.arrow", schema=oof_schema(["calm", "sad", "wild"]))
    target, prediction = (numbers_of(table, quantity).astype(np.float64) for quantity in ("score", "prediction"))
    assert record.scores["blend"].nested.pooled == pytest.approx(data.task.measure(target, prediction), abs=0.01)
    measure = data.task.measure.utility
    assert measure(record.scores["blend"].nested.pooled) >= measure(record.scores["mean"].nested.pooled) - 0.06
    assert record.scores["blend"].expected is not None
    columns_of = [OofStore(run).read("test", part.candidate, 0) for part in record.combination.parts]
    assert len(columns_of) == 3
    cells = [
        [numbers_of(OofStore(run).read("test", part.candidate, fold), "prediction").ravel() for fold in range(3)]
        for part in record.combination.parts
    ]
    shares = to_shares(record.combination.predict(cells).reshape(-1, 3))
    rows = submission_of(run)
    assert list(rows[0]) == ["id", *columns]
    assert [row["id"] for row in rows] == data.test["id"].to_pylist()
    names = np.array(["calm", "sad", "wild"])
    for row, share in zip(rows, shares, strict=True):
        if spelled is None:
            np.testing.assert_allclose([float(row[name]) for name in columns], share, atol=1e-7)
            assert sum(float(row[name]) for name in columns) == pytest.approx(1, abs=1e-7)
        else:
            assert row["mood"].split() == names[np.argsort(-share, kind="stable")][:spelled].tolist()


def test_a_bootstrap_of_classes_draws_whole_rows(tmp_path: Path) -> None:
    """With cells drawn for themselves, intervals would be those of three times as many rows."""
    run, _ = classes_run(tmp_path, "multiclass_log_loss", (1.0, 2.0))
    blend("fit", run, "--method", "single")
    record = read_blend(str(run), "single")
    names = [member.candidate for member in record.members]
    tables = [OofStore(run).read("oof", names[0], fold) for fold in range(3)]
    losses = np.concatenate(
        [-np.log((numbers_of(table, "score") * numbers_of(table, "prediction")).sum(axis=1)) for table in tables]
    )
    expected = record.scores["blend"].expected
    assert expected is not None
    both = np.sqrt(1 + len(losses) / 30)
    assert expected.standard_error == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)) * both, rel=0.05)
    assert record.n_groups is not None


def test_no_draw_of_classes_parts_the_classes_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    class Recorded(GroupBootstrap):
        def __init__(self, target: Any, part: Any, group: Any, metric: Any, **options: Any) -> None:
            drawn.append(group)
            super().__init__(target, part, group, metric, **options)

    monkeypatch.setattr("blend.fit.fit_blend.GroupBootstrap", Recorded)
    run, _ = classes_run(tmp_path, "multiclass_log_loss")
    blend("fit", run)
    assert len(drawn) == 2, "by group, and by row"
    for group in drawn:
        rows = group.reshape(-1, 3)
        assert (rows == rows[:, :1]).all()
        assert len(np.unique(group)) == 120


def test_rows_of_classes_are_chosen_whole(tmp_path: Path) -> None:
    run, data = classes_run(tmp_path, "multiclass_log_loss")
    extra = tmp_path / "extra.csv"
    ids = data.train["id"].to_pylist()
    extra.write_text("\n".join(["id,year", *(f"{name},{2020 + number % 2}" for number, name in enumerate(ids))]))
    blend("fit", run, "--score-on", "year=2021", "--rows", extra)
    record = read_blend(str(run), "best")
    assert record.scored_rows is not None
    assert record.scored_rows.rows == 60
    assert set(read_table(run / "blends" / "best" / "oof.arrow")["id"].to_pylist()) == set(ids[1::2])


@pytest.mark.parametrize("by", [None, "score", "fold", "length"])
def test_errors_of_classes_are_looked_at_by_row_and_class(
    tmp_path: Path, by: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = classes_run(tmp_path, "multiclass_log_loss")
    blend("fit", run)
    blend("errors", run, "--json", *([] if by is None else ["--by", by]))
    document = json.loads(capsys.readouterr().out)
    assert all(" = " in row["id"] for row in document["worst"])
    assert document["contradictions"] == []
    by_column = {row["column"]: row["metric"] for row in document["slices"]}
    if by in (None, "fold"):
        assert by_column["fold"] > 0
    if by in (None, "score"):
        assert np.isnan(by_column["score"] if by_column["score"] is not None else np.nan), "no whole rows"
    assert "nested predictions of 120 rows" in blend("errors", run)


@pytest.mark.parametrize("metric", ["multiclass_accuracy", "multiclass_log_loss", "rmse"])
def test_pure_noise_is_nested_at_chance(tmp_path: Path, metric: str) -> None:
    if metric == "rmse":
        data = wide_data(tmp_path, SEVERAL, n_rows=240)
    else:
        data = wide_data(tmp_path, CLASSES.model_copy(update={"metric": metric}), n_rows=240)
    run = tmp_path / "run"
    wide_run(run, data, [12.0] * 6)
    blend("fit", run, "--dead-below", "-1", "--no-submission")
    found = read_whole_blend(str(run), "best").scores["blend"]
    chance, spread = {
        "multiclass_accuracy": (1 / 3, np.sqrt(2 / 9 / 240)),
        "multiclass_log_loss": (-np.log(3), 0.02),
        "rmse": (-float(np.mean(data.targets.std(axis=0))), 0.03),
    }[metric]
    sign = 1 if metric == "multiclass_accuracy" else -1
    assert sign * found.nested.pooled < chance + 2 * spread


def test_a_sample_submission_decides_on_the_columns(several: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    ids = load_prepared(tmp_path / "prepared").test["id"].to_pylist()
    sample.write_text("\n".join(["b,id,a", *(f"0,{name},0" for name in ids[::-1])]))
    blend("fit", several, "--clip")
    blend("fit", several, "--clip", "--name", "sample", "--sample-submission", sample)
    plain, other = submission_of(several), submission_of(several, "sample")
    assert list(other[0]) == ["b", "id", "a"]
    assert other[::-1] == plain
    sample.write_text("\n".join(["id,a,c", *(f"{name},0,0" for name in ids)]))
    with pytest.raises(InputError, match=r"'id'|an id and the columns 'a', 'b', .* lacks 'b' and has 'c', which the"):
        blend("fit", several, "--clip", "--name", "other", "--sample-submission", sample)


def test_several_targets_are_read_back_as_they_were(several: Path) -> None:
    blend("fit", several, "--clip")
    record = read_whole_blend(str(several), "best")
    assert isinstance(record, TargetsRecord)
    assert TargetsRecord.model_validate_json(record.model_dump_json()) == record
    assert all(isinstance(one, BlendRecord) and one.submission == record.submission for one in record.blends)


def test_an_import_for_several_targets_is_refused_with_the_reason(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL)
    with pytest.raises(InputError, match=r"one number for a row; task 'several' has 2 columns \(a, b\): train"):
        blend("import", "--oof", tmp_path / "train.csv", "--data", data.path, "--out", tmp_path / "other")


def test_a_simpler_way_that_is_better_for_all_targets_together_is_told(several: Path) -> None:
    arguments = ["fit", str(several), "--clip", "--method", "single"]
    with console.capture() as capture:
        assert app(arguments, standalone_mode=False) == WORSE
    record = read_whole_blend(str(several), "single")
    loss = record.scores["blend"].nested.pooled - record.scores["mean"].nested.pooled
    assert f"WARNING: the mean is better, nested, by {loss:.4f} than this blend" in " ".join(capture.get().split())
