import pytest

from data_prep.errors import InputError
from data_prep.store.yaml_documents import check_document, read_document
from data_prep.task import PPPM, RESERVED_COLUMNS, Task

GOOD = {"name": "plain", "text_columns": ["one", "two"], "score_range": [0, 5]}

BAD = {
    "no scores": ({"score_range": None}, "give score_levels"),
    "range upside down": ({"score_range": [5, 0]}, r"score_range must be \[least, greatest\]"),
    "endless range": ({"score_range": [0, float("inf")]}, "finite"),
    "infinite as float32": ({"score_range": [0, 1e40]}, "scores must be finite as float32"),
    "equal as float32": ({"score_range": None, "score_levels": [2**24, 2**24 + 1]}, "must differ as float32"),
    "truth as a score": ({"score_range": None, "score_levels": [False, True]}, "true or false does not fit"),
    "levels unsorted": ({"score_levels": [1, 0]}, "score_levels must be at least two, ascend"),
    "one level": ({"score_levels": [1]}, "score_levels must be at least two"),
    "levels out of range": ({"score_levels": [0, 6]}, "must lie in score_range"),
    "same column twice": ({"text_columns": ["one", "one"]}, "must differ"),
    "score is a text": ({"score_column": "two"}, "must differ"),
    "no text": ({"text_columns": []}, "text_columns"),
    "eleven texts": ({"text_columns": list("abcdefghijk")}, "text_columns"),
    "one label for two": ({"text_labels": ["[A]"]}, r"text_labels needs one label for each of the 2 text_columns"),
    "blank label": ({"text_labels": ["[A]", " "]}, "a label is a text without spaces at its ends"),
    "unknown empty": ({"empty": "skip"}, "empty: Input should be 'error', 'keep' or 'drop'"),
    "link without group": ({"link_column": "two"}, "link_column needs group_column"),
    "link not a text": ({"link_column": "x", "group_column": "one"}, "link_column must be one of text_columns"),
    "codes not a text": ({"cpc_column": "x"}, "cpc_column must be one of text_columns"),
    "group is the score": ({"group_column": "score"}, "group_column may not be the id or score column"),
    "metric": ({"metric": "brier"}, "unknown metric 'brier'; known: pearson, spearman"),
    "metric of two levels": ({"metric": "auc"}, "metric auc needs score_levels with two scores, got 0"),
    "metric of levels": ({"metric": "qwk", "score_levels": None, "score_range": [0, 1]}, "qwk needs score_levels"),
    "metric of probabilities": (
        {"metric": "log_loss", "score_levels": None, "score_range": [0, 5]},
        "log_loss needs scores from 0 to 1, got 0 to 5",
    ),
    "unknown key": ({"colour": 1}, "unknown key 'colour'; known keys: classes, cpc_column, empty, group_column"),
    "no name": ({"name": ""}, "a name may not be empty"),
    "control characters": ({"name": "a\x1b[2J"}, "a name may not be empty"),
    "long name": ({"name": "a" * 300}, "at most 100 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_task_says_what_is_wrong(name):
    change, message = BAD[name]
    with pytest.raises(InputError, match=message):
        check_document({**GOOD, **change}, Task, where="task.yaml")


@pytest.mark.parametrize("name", RESERVED_COLUMNS)
def test_texts_may_not_take_the_names_of_prepared_columns(name):
    with pytest.raises(InputError, match=r"text columns may not be called|must differ"):
        check_document({**GOOD, "id_column": "key", "text_columns": ["one", name]}, Task, where="task.yaml")


def test_least_and_greatest_come_from_levels_or_range():
    assert (PPPM.least, PPPM.greatest) == (0, 1)
    ranged = check_document(GOOD, Task, where="here")
    assert (ranged.least, ranged.greatest) == (0, 5)
    assert ranged.measure.name == "pearson"


def test_every_fault_of_a_document_comes_at_once(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("text_columns: 7\nscore_range: [0, x]\ncolour: red\n")
    with pytest.raises(InputError) as error:
        read_document(path, Task)
    text = str(error.value)
    assert all(part in text for part in ("name: is required", "text_columns", "score_range.1", "'colour'"))
    assert text.count(str(path)) == len(error.value.faults) >= 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "must hold `key: value` settings, found list"),
        (b"", "must hold `key: value` settings, found nothing"),
        (b"a: [1\n", "not a YAML file"),
        (b"a: \xff\n", "not a UTF-8 YAML file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "expected a YAML file, found a git-LFS",
        ),
        ("name: plain".encode("utf-16"), "found UTF-16 text; save it as UTF-8"),
    ],
)
def test_what_is_no_document_is_an_input_error(content, message, tmp_path):
    (tmp_path / "task.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_document(tmp_path / "task.yaml", Task)


def test_a_missing_document_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read \(No such file"):
        read_document(tmp_path / "nowhere.yaml", Task)


def test_json_is_a_document_too(tmp_path):
    (tmp_path / "task.json").write_text(PPPM.model_dump_json())
    assert read_document(tmp_path / "task.json", Task) == PPPM
