"""Logs of experiments; the memo: every name is a candidate, with the settings and scores that were written down."""

from collections import defaultdict
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.prepare.folds import SCHEMES
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared
from memo import load_memo, prepare_options, read_memo
from models.backbones.families import FAMILIES
from models.backbones.tiny_checkpoints import make_tiny
from models.candidate import Candidate
from models.experiment_log import Experiment, find_candidate, read_experiments
from small_models import train as train_fold

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"
NUMBERS = [number for number in range(1, 48) if number != 45]
OF_EACH_FAMILY = {
    "deberta-v2": "exp012",
    "bert": "exp005",
    "roberta": "exp039",
    "mpnet": "exp037",
    "funnel": "exp022",
    "albert": "exp023",
    "electra": "exp029",
    "luke": "exp035",
    "deberta": "exp041",
    "bart": "exp044",
    "ernie": "baseline_ernie",
}
"""Architecture -> the experiment that is trained here for it."""
TYPES = {family.hub: family.model_type for family in FAMILIES.values()}
IN_SMALL = {"epochs": 2, "batch_size": 64, "max_length": 48, "precision": "fp32"}


def split_of(name: str) -> str | None:
    split: str | None = load_memo()[name].record.get("split")
    return split


def settings(name: str) -> dict[str, object]:
    return load_memo()[name].candidate.model_dump(exclude_defaults=True)


def test_every_name_of_the_memo_is_there() -> None:
    names = ["baseline", *(f"exp{number:03d}" for number in NUMBERS), "baseline_ernie"]
    assert list(load_memo()) == names
    assert len(names) == 48


def test_experiments_have_ids_of_their_own_unless_they_differ_by_split_alone() -> None:
    names = defaultdict(list)
    for name, experiment in load_memo().items():
        names[experiment.candidate.id].append(name)
    assert [shared for shared in names.values() if len(shared) > 1] == [["exp011", "exp014"]]
    assert (split_of("exp011"), split_of("exp014")) == ("A", "F")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "exp004",
            {
                "backbone": "microsoft/deberta-v3-large",
                "context": "stripped",
                "max_length": 130,
                "head": "cls",
                "head_layers": 2,
                "head_dropout": 0.1,
                "epochs": 5,
                "batch_size": 16,
                "backbone_lr": 2e-5,
                "head_lr": 2e-5,
                "weight_decay": 1e-6,
                "beta2": 0.98,
                "warmup": 0.01,
                "clip_norm": None,
                "precision": "fp16",
                "keep": "best",
            },
        ),
        ("exp001", {"recipe": "code_embedding", "max_length": 64, "batch_size": 128, "epochs": 10, "head_layers": 2}),
        ("exp005", {"recipe": "two_segments", "segment_ids": False, "batch_size": 8, "context": "stripped"}),
        ("exp032", {"recipe": "two_segments", "segment_ids": False, "batch_size": 8, "max_length": 134}),
        ("exp006", {"loss": "huber", "max_length": 128, "weight_decay": 1e-6}),
        ("exp011", {"head": "cnn", "dropout": 0.0, "backbone_lr": 2e-5, "context": "stripped"}),
        ("exp012", {"head": "cls_last4", "head_layers": 2, "head_dropout": 0.1, "dropout": 0.0}),
        ("exp017", {"mixout": 0.1, "backbone_lr": 5e-6, "head_layers": 2, "epochs": 4, "batch_size": 8}),
        ("exp019", {"reinit_layers": 4, "context": "stripped"}),
        ("exp024", {"head": "attention", "backbone_lr": 6e-6, "separator": "[SEP]", "spell_separator": True}),
        ("exp026", {"head_norm": True, "max_length": 134}),
        ("exp036", {"head_dropout": 0.5, "dropout_samples": 5, "graded_dropout": True}),
        ("exp039", {"head_lr": 0.0, "layer_decay": 0.99, "backbone_lr": 1e-5, "loss": "huber"}),
        ("exp040", {"seed": 17, "epochs": 7, "backbone": "anferico/bert-for-patents"}),
        (
            "exp047",
            {"recipe": "grouped", "own_target": "kept", "shuffle_siblings": False, "max_length": 256, "batch_size": 8},
        ),
    ],
)
def test_settings_are_those_of_the_notebooks(name: str, expected: dict[str, object]) -> None:
    found = load_memo()[name].candidate
    assert {field: getattr(found, field) for field in expected} == expected


def test_experiments_differ_in_what_the_memo_tried() -> None:
    def differ(one: str, other: str) -> set[str]:
        first, second = settings(one), settings(other)
        return {field for field in first | second if first.get(field) != second.get(field)}

    assert differ("exp022", "exp030") == {"weight_decay"}
    assert differ("exp020", "exp034") == {"weight_decay"}
    assert differ("exp018", "exp033") == {"weight_decay", "max_length"}
    assert differ("exp006", "exp007") == {"epochs"}
    assert differ("exp005", "exp008") == {"loss"}
    assert differ("exp018", "exp019") == {"context", "reinit_layers"}


def test_titles_are_damaged_where_they_were() -> None:
    with_title = {name for name, experiment in load_memo().items() if experiment.candidate.context == "stripped"}
    assert with_title == {f"exp{number:03d}" for number in (*range(3, 18), 19)}


def test_a_literal_separator_is_spelled_where_the_tokenizer_has_another() -> None:
    own = {"bert", "deberta", "deberta-v2", "electra", "albert", "ernie"}
    for name, experiment in load_memo().items():
        candidate = experiment.candidate
        one_string = candidate.recipe in ("pair_context", "grouped")
        spelled = one_string and TYPES[candidate.backbone] not in own
        assert candidate.spell_separator is spelled, name


def test_scores_stand_beside_the_settings() -> None:
    memo = load_memo()
    noted = {"split": "A", "cv": 0.8119, "lb": 0.8282, "notebook_cv": 0.8119}
    assert memo["exp005"].record == noted
    assert memo["exp005"].note == "Recorded: split A, cv 0.8119, lb 0.8282, notebook_cv 0.8119"
    assert (memo["baseline"].record["cv"], memo["baseline"].record["lb"]) == (0.82968, 0.8376)
    assert "cv" not in memo["exp047"].record
    assert memo["exp047"].record["notebook_cv"] == 0.84385
    assert sum("cv" in experiment.record for experiment in memo.values()) == 31
    assert sum("lb" in experiment.record for experiment in memo.values()) == 28
    known = {"split", "cv", "lb", "notebook_cv", "unknown", "remark"}
    assert {key for experiment in memo.values() for key in experiment.record} == known


def test_what_is_not_known_says_so() -> None:
    unknown = {name for name, experiment in load_memo().items() if "unknown" in experiment.record}
    assert unknown == {"baseline", "baseline_ernie"}
    unsplit = {name for name, experiment in load_memo().items() if "split" not in experiment.record}
    assert unsplit == unknown


def test_splits_and_ensembles_name_what_is_there() -> None:
    memo = read_memo()
    assert {split_of(name) for name in load_memo()} - {None} == set(memo["splits"])
    assert {split["scheme"] for split in memo["splits"].values()} <= set(SCHEMES)
    assert prepare_options("C") == "--scheme stratified_group --folds 7 --seed 0"
    assert len({prepare_options(split) for split in memo["splits"]}) == len(memo["splits"])
    assert [ensemble["members"] for ensemble in memo["ensembles"].values()] == [
        ["exp004", "exp005"],
        ["exp012", "exp004", "exp006", "exp005"],
        ["exp005", "exp018", "exp020", "exp022"],
    ]


def test_every_backbone_of_the_memo_is_a_known_family_and_one_of_each_is_trained_here() -> None:
    backbones = {experiment.candidate.backbone for experiment in load_memo().values()}
    assert backbones <= set(TYPES)
    assert {TYPES[backbone] for backbone in backbones} == set(OF_EACH_FAMILY)
    for family, name in OF_EACH_FAMILY.items():
        assert TYPES[load_memo()[name].candidate.backbone] == family


@pytest.fixture(scope="module")
def sample_part(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return the first rows of the shipped sample, prepared on split A with a holdout."""
    folder = tmp_path_factory.mktemp("part")
    for name, n_rows in (("train.csv", 240), ("test.csv", 20)):
        lines = (SAMPLE / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[: n_rows + 1]))
    split = read_memo()["splits"]["A"]
    return prepare(
        train=folder / "train.csv",
        test=folder / "test.csv",
        out=str(folder / "prepared"),
        scheme=split["scheme"],
        n_folds=split["folds"],
        seed=split["seed"],
        holdout=0.15,
    )


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with a tiny checkpoint of every backbone of the memo."""
    folder = tmp_path_factory.mktemp("tiny")
    for backbone in sorted({load_memo()[name].candidate.backbone for name in OF_EACH_FAMILY.values()}):
        make_tiny(backbone, folder / backbone)
    return str(folder)


@pytest.mark.parametrize("name", OF_EACH_FAMILY.values())
def test_one_experiment_of_each_family_trains_and_predicts(name: str, tiny_folder: str, sample_part: Prepared) -> None:
    candidate = Candidate.model_validate(settings(name) | IN_SMALL)
    found = train_fold(candidate, sample_part, 0, rungs=(0.5,), folder=tiny_folder)
    assert found is not None
    for table in (found.oof, found.test, found.holdout):
        assert table is not None
        prediction = table["prediction"].to_numpy()
        assert len(set(prediction.tolist())) > 1, "not all rows get the same prediction"
    assert found.test.num_rows == sample_part.test.num_rows


def test_an_experiment_is_frozen() -> None:
    experiment = load_memo()["exp004"]
    assert isinstance(experiment, Experiment)
    with pytest.raises(AttributeError):
        experiment.record = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "experiments: {a: {candidate: {learning_rate: 1}}}",
            r"experiments\.a\.candidate: unknown key 'learning_rate'",
        ),
        ("experiments: {a: {cv: 0.8}}", r"experiments\.a: needs `candidate:` with settings"),
        ("experiments: [a]", r"experiments: must be `name: \{candidate: \.\.\.\}`"),
        (
            "experiments:\n  a: {candidate: {}}\n  a: {candidate: {layers: 2}}\n",
            "lines 2 and 3: the key 'a' stands twice",
        ),
    ],
)
def test_faults_of_a_log_name_the_experiment(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "log.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_experiments(path)


def test_a_name_in_two_logs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.experiment_log.LOGS", tmp_path)
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("experiments: {a: {candidate: {}}}")
    with pytest.raises(InputError, match=r"--candidate a: .*two\.yaml and another log .* rename one"):
        find_candidate("a")


def test_a_candidate_is_a_file_or_an_experiment_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "exp.yaml"
    path.write_text("layers: 2\n")
    assert find_candidate(str(path)) == (Candidate(layers=2), None)
    candidate, note = find_candidate("exp018")
    assert candidate == load_memo()["exp018"].candidate
    assert note is not None
    assert note.startswith("Recorded: split B, cv 0.8303, lb 0.8376")
    with pytest.raises(
        InputError, match=r"--candidate exp999: no such file, and no experiment .*known: baseline, exp001"
    ):
        find_candidate("exp999")
