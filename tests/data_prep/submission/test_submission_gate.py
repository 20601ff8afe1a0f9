import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.submission.submission_gate import (
    SubmissionFormat,
    check_submission,
    clip,
    read_sample_submission,
    render_submission,
)
from data_prep.submission.submission_manifest import (
    SubmissionManifest,
    hash_submission,
    read_submission,
    write_submission,
)
from data_prep.task import Task

TASK = Task(name="toy", text_columns=("left",), score_range=(0.0, 1.0), score_column="worth")


@pytest.fixture
def ids() -> list[str]:
    return [f"t{row:03d}" for row in range(36)]


def test_a_fitting_submission_passes_and_reads_back(ids: list[str], tmp_path: Any) -> None:
    prediction = np.linspace(0, 1, 36)
    path = tmp_path / "submission.csv"
    path.write_bytes(render_submission(ids, prediction, expected=ids, task=TASK))
    table = pd.read_csv(path)
    assert list(table.columns) == ["id", "worth"]
    assert table["id"].tolist() == ids
    np.testing.assert_allclose(table["worth"], prediction, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, p: (ids[1:], p[1:]), r"1 of 36 test ids are missing \(t000\)"),
        (lambda ids, p: (["new", *ids[1:]], p), r"1 ids are not in the test table \(new\)"),
        (lambda ids, p: ([*ids, ids[3]], [*p, 0.5]), r"1 ids occur more than once \(t003\)"),
        (lambda ids, p: (ids[::-1], p), r"another order"),
        (lambda ids, p: (ids, p[1:]), r"35 predictions for 36 ids"),
        (lambda ids, p: (ids, [float("nan"), *p[1:]]), r"1 predictions are NaN or infinite \(t000\)"),
        (lambda ids, p: (ids, [*p[:-1], float("inf")]), r"1 predictions are NaN or infinite \(t035\)"),
        (
            lambda ids, p: (ids, [-0.25, *p[1:-1], 1.5]),
            r"2 of 36 predictions are outside \[0, 1\], the range of task 'toy' \(t000, t035\), the worst is 1.5 of "
            r"t035; use --clip to move them to the nearest legal score",
        ),
        (lambda ids, p: (ids, [0.25 + 0 * value for value in p]), r"all 36 predictions are 0.25"),
        (lambda ids, p: (ids, [0.25 + 1e-12 * value for value in p]), r"all 36 predictions are 0.25"),
    ],
)
def test_the_gate_refuses(ids: list[str], change: Any, message: str) -> None:
    changed_ids, prediction = change(ids, np.linspace(0, 1, 36).tolist())
    with pytest.raises(InputError, match=message):
        check_submission(changed_ids, np.array(prediction), expected=ids, task=TASK)


SEVERAL = Task(name="essays", text_columns=("left",), score_range=(0.0, 5.0), score_columns=("form", "sense"))
CLASSES = Task(
    name="moods",
    text_columns=("left",),
    score_column="mood",
    classes=("calm", "sad", "wild"),
    metric="multiclass_log_loss",
)


def read_csv(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.__setitem__((2, 1), np.nan), r"refused: 1 predictions are NaN or infinite \(t002\)$"),
        (
            lambda p: p.__setitem__((slice(0, 2), 1), [5.5, -1]),
            r"2 of 36 predictions of 'sense' are outside \[0, 5\], .* \(t000, t001\), the worst is -1 of t001;",
        ),
        (lambda p: p.__setitem__((slice(None), 0), 2.5), r"refused: all 36 predictions of 'form' are 2.5$"),
    ],
)
def test_every_column_of_several_targets_is_checked(ids: list[str], change: Any, message: str) -> None:
    prediction = np.column_stack([np.linspace(0, 5, 36), np.linspace(1, 2, 36)])
    check_submission(ids, prediction, expected=ids, task=SEVERAL)
    change(prediction)
    with pytest.raises(InputError, match=message) as caught:
        check_submission(ids, prediction, expected=ids, task=SEVERAL)
    assert len(caught.value.faults) == 1


def test_clipping_counts_over_all_columns() -> None:
    clipped, count = clip(np.array([[-0.5, 6.0], [1.0, 5.5]]), SEVERAL)
    assert clipped.tolist() == [[0.0, 5.0], [1.0, 5.0]]
    assert count == 3


def test_probabilities_of_classes_sum_to_one_and_a_class_may_never_come(ids: list[str]) -> None:
    raw = np.column_stack([np.linspace(0.2, 1.4, 36), np.full(36, 0.5), np.full(36, -0.1)])
    assert clip(raw, CLASSES)[1] == 0
    table = read_csv(render_submission(ids, raw, expected=ids, task=CLASSES))
    assert list(table.columns) == ["id", "calm", "sad", "wild"]
    written = table[["calm", "sad", "wild"]].astype(float).to_numpy()
    np.testing.assert_allclose(written.sum(axis=1), 1, atol=3e-8)
    np.testing.assert_allclose(written[:, 0] / written[:, 1], raw[:, 0] / 0.5, rtol=1e-6)
    assert set(table["wild"]) == {"0"}
    with pytest.raises(InputError, match=r"refused: all 36 predictions are 0.2 0.5 0.3$"):
        check_submission(ids, np.tile([0.2, 0.5, 0.3], (36, 1)), expected=ids, task=CLASSES)


def test_classes_with_a_column_for_each_share_keep_its_names(ids: list[str]) -> None:
    task = Task(
        name="duel",
        text_columns=("left",),
        score_columns=("won_a", "won_b"),
        classes=("a", "b"),
        metric="multiclass_log_loss",
    )
    raw = np.column_stack([np.linspace(0.1, 0.9, 36), np.linspace(0.9, 0.1, 36)])
    assert list(read_csv(render_submission(ids, raw, expected=ids, task=task))) == ["id", "won_a", "won_b"]


@pytest.mark.parametrize(
    ("metric", "first"), [("multiclass_accuracy", "sad"), ("macro_f1", "sad"), ("map@3", "sad wild calm")]
)
def test_a_metric_that_decides_takes_names_of_classes(ids: list[str], metric: str, first: str, tmp_path: Path) -> None:
    raw = np.column_stack([np.linspace(0.1, 0.2, 36), np.full(36, 0.5), np.full(36, 0.4)])
    task = CLASSES.model_copy(update={"metric": metric})
    assert set(read_csv(render_submission(ids, raw, expected=ids, task=task))["mood"]) == {first}
    form = read_sample_submission(write_sample(tmp_path, sample_text(ids, "id,label")), ids, task)
    assert read_csv(render_submission(ids, raw, expected=ids, task=task, form=form))["label"].tolist() == [first] * 36


def test_levels_that_are_whole_numbers_are_written_without_a_point(ids: list[str]) -> None:
    task = Task(name="toy", text_columns=("left",), score_levels=(1.0, 2.0, 3.0), metric="qwk")
    content = render_submission(ids, np.arange(36) % 3 + 1.0, expected=ids, task=task)
    assert content.decode().splitlines()[1:4] == ["t000,1", "t001,2", "t002,3"]


@pytest.mark.parametrize(
    ("task", "header", "message"),
    [
        (
            SEVERAL,
            "id,form",
            r"task 'essays' has an id and the columns 'form', 'sense', in any order; line 1 lacks 'sense'",
        ),
        (SEVERAL, "id,form,sense,age", r"line 1 has 'age', which the task does not know"),
        (SEVERAL, "id,form,Sense", r"line 1 lacks 'sense' and has 'Sense', which"),
        (CLASSES, "id,mood", r"lacks 'calm', 'sad', 'wild' and has 'mood'"),
        (CLASSES.model_copy(update={"metric": "map@3"}), "id,calm,sad,wild", r"two columns, an id and a score"),
    ],
)
def test_a_sample_with_other_columns_is_refused(
    ids: list[str], tmp_path: Path, task: Task, header: str, message: str
) -> None:
    zeros = ",0" * header.count(",")
    path = write_sample(tmp_path, "\n".join([header, *(f"{name}{zeros}" for name in ids)]))
    with pytest.raises(InputError, match=message):
        read_sample_submission(path, ids, task)


def test_the_sample_decides_on_the_order_of_columns_and_rows(ids: list[str], tmp_path: Path) -> None:
    path = write_sample(tmp_path, "\n".join(["sense,id,form", *(f"0,{name},0" for name in ids[::-1])]))
    form = read_sample_submission(path, ids, SEVERAL)
    prediction = np.column_stack([np.arange(36) / 10, np.arange(36) / 20])
    lines = render_submission(ids, prediction, expected=ids, task=SEVERAL, form=form).decode().splitlines()
    assert lines[:2] == ["sense,id,form", "1.75,t035,3.5"]


def test_all_faults_at_once(ids: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_submission([*ids[:-1], ids[0]], np.full(36, 7.0), expected=ids, task=TASK)
    assert len(caught.value.faults) == 4


def test_clipping_moves_to_the_nearest_legal_score_and_counts() -> None:
    clipped, count = clip(np.array([-0.5, 0.0, 0.3, 1.0, 1.0001]), TASK)
    assert clipped.tolist() == [0.0, 0.0, 0.3, 1.0, 1.0]
    assert count == 2


def test_clipping_does_not_hide_what_is_not_finite(ids: list[str]) -> None:
    prediction = np.linspace(0, 1, 36)
    prediction[:2] = np.inf, np.nan
    clipped, count = clip(prediction, TASK)
    assert count == 0
    with pytest.raises(InputError, match=r"2 predictions are NaN or infinite \(t000, t001\)"):
        render_submission(ids, clipped, expected=ids, task=TASK)


def test_writing_does_not_round_out_of_the_range(ids: list[str]) -> None:
    thirds = Task(name="toy", text_columns=("left",), score_range=(-2 / 3, 2 / 3))
    content = render_submission(ids, np.linspace(-2 / 3, 2 / 3, 36), expected=ids, task=thirds)
    written = [float(line.split(",")[1]) for line in content.decode().splitlines()[1:]]
    assert (written[0], written[-1]) == (-2 / 3, 2 / 3)
    check_submission(ids, np.array(written), expected=ids, task=thirds)


def write_sample(folder: Path, text: str | bytes) -> str:
    path = folder / "sample_submission.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def sample_text(ids: list[str], header: str = "id,worth") -> str:
    return "\n".join([header, *(f"{name},0" for name in ids)]) + "\n"


def test_the_sample_decides_names_and_order(ids: list[str], tmp_path: Path) -> None:
    path = write_sample(tmp_path, "target;\u00fc,ref\r\n" + "".join(f"{name},0\r\n" for name in ids[::-1]))
    form = read_sample_submission(path, ids, TASK)
    assert form == SubmissionFormat("target;\u00fc", ("target;\u00fc", "ref"), tuple(ids[::-1]))
    content = render_submission(ids, np.arange(36) / 100, expected=ids, task=TASK, form=form)
    lines = content.decode().splitlines()
    assert lines[:2] == ["target;\u00fc,ref", "t035,0.35"]
    assert lines[-1] == "t000,0"


def test_the_id_column_may_stand_on_the_right(ids: list[str], tmp_path: Path) -> None:
    path = write_sample(tmp_path, "value,id\n" + "".join(f",{name}\n" for name in ids))
    form = read_sample_submission(path, ids, TASK)
    content = render_submission(ids, np.arange(36) / 100, expected=ids, task=TASK, form=form)
    assert content.decode().splitlines()[:3] == ["value,id", "0,t000", "0.01,t001"]


def test_without_a_sample_the_task_decides(ids: list[str]) -> None:
    prediction = np.arange(36) / 100
    form = SubmissionFormat(TASK.id_column, (TASK.id_column, TASK.score_column), tuple(ids))
    assert render_submission(ids, prediction, expected=ids, task=TASK, form=form) == render_submission(
        ids, prediction, expected=ids, task=TASK
    )


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            lambda ids: sample_text([*ids[2:], "new", ids[5]]),
            [
                r"column id: 2 of 36 test ids are missing \(t000, t001\)",
                r"1 ids are not in the test table \(new\)",
                r"1 ids occur more than once \(t005\)",
            ],
        ),
        (lambda ids: sample_text(ids, "id,worth,extra"), [r"two columns, .* line 1 has 3 \('id', 'worth', 'extra'\)"]),
        (
            lambda ids: sample_text(ids, "id;worth"),
            [r"must have the 2 fields of line 1; quote texts that hold semicolons"],
        ),
        (lambda ids: sample_text(ids, "worth,value"), []),
        (lambda ids: sample_text(ids, "id,id"), ["columns named more than once in line 1: 'id'"]),
        (lambda _: "", ["the file is empty"]),
        (lambda _: "id,worth\n", ["no rows that can be read", "36 of 36 test ids are missing"]),
        (lambda ids: sample_text(ids).encode("utf-16"), ["UTF-16 text; save it as UTF-8"]),
        (lambda ids: sample_text(["\u00fc", *ids[1:]]).encode("latin-1"), ["must be UTF-8 text", "1 of 36 test ids"]),
        (lambda ids: sample_text(ids, "id,w\u00fc").encode("latin-1"), ["column names must be UTF-8 text"]),
        (lambda ids: sample_text(ids).replace("t003,0", "t003,0,0"), ["found 1: line 5 '3 fields'", "t003"]),
    ],
)
def test_a_sample_that_does_not_fit(ids: list[str], tmp_path: Path, text: Any, messages: list[str]) -> None:
    path = write_sample(tmp_path, text(ids))
    if not messages:
        assert read_sample_submission(path, ids, TASK).id_column == "worth", "no name fits, so the first column it is"
        return
    with pytest.raises(InputError) as caught:
        read_sample_submission(path, ids, TASK)
    for message in messages:
        assert caught.match(message)
    assert all(path in fault for fault in caught.value.faults)


def test_a_sample_that_is_not_there(ids: list[str]) -> None:
    with pytest.raises(InputError, match=r"/nowhere.csv: cannot be read"):
        read_sample_submission("/nowhere.csv", ids, TASK)


def test_a_format_of_another_test_is_refused(ids: list[str]) -> None:
    form = SubmissionFormat(TASK.id_column, (TASK.id_column, TASK.score_column), tuple(ids[1:]))
    with pytest.raises(InputError, match=r"in the sample submission 1 of 36 test ids are missing \(t000\)"):
        render_submission(ids, np.arange(36) / 100, expected=ids, task=TASK, form=form)


def manifest_of(content: bytes) -> SubmissionManifest:
    return SubmissionManifest(
        sha256=hash_submission(content),
        rows=content.count(b"\n") - 1,
        clipped=0,
        blend="first",
        method="mean",
        metric="pearson",
        members={"aaa": 0.25, "bbb": 0.75},
        study=("toy", "team"),
        data_hash="d",
        split_hash="s",
        scheme="group",
        n_folds=4,
        cv=0.85,
        nested=0.84,
        version="1",
    )


def test_a_submission_and_its_manifest_come_back(tmp_path: Path) -> None:
    content = b"id,worth\na,0.5\nb,0.25\n"
    write_submission(content, manifest_of(content), str(tmp_path / "blends" / "first"))
    assert read_submission(str(tmp_path / "blends" / "first")) == (content, manifest_of(content))
    assert sorted(path.name for path in (tmp_path / "blends" / "first").iterdir()) == [
        "submission.csv",
        "submission.json",
    ]


def test_a_manifest_of_another_content_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the content has sha256"):
        write_submission(b"id,worth\n", manifest_of(b"other\n"), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_failure_between_the_two_files_is_noticed(tmp_path: Path) -> None:
    old, new = b"id,worth\na,0.5\n", b"id,worth\na,0.6\n"
    folder, manifest = str(tmp_path), tmp_path / "submission.json"
    manifest.mkdir()  # so that the second file cannot be written
    with pytest.raises(OSError, match=r"submission\.json"):
        write_submission(old, manifest_of(old), folder)
    manifest.rmdir()
    with pytest.raises(InputError, match=r"has no submission.json: .* cut off"):
        read_submission(folder)

    write_submission(old, manifest_of(old), folder)
    before = manifest.read_bytes()
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(OSError, match=r"submission\.json"):
        write_submission(new, manifest_of(new), folder)
    manifest.rmdir()
    manifest.write_bytes(before)
    with pytest.raises(InputError, match=r"is not the file that submission.json describes"):
        read_submission(folder)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text('{"rows": 1}')
    with pytest.raises(InputError, match=r"submission.json: is not what this version of blendfold writes"):
        read_submission(str(tmp_path))
