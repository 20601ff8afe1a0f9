"""The search space: what it accepts, what it refuses, and that both are said at once."""

import itertools

import optuna
import pytest

from data_prep.errors import InputError
from models.candidate import Candidate
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.space import Choice, Real, Whole


def test_entries_become_domains() -> None:
    space = read_space(
        {
            "head": "cls",
            "loss": ["mse", "bce"],
            "dropout": {"uniform": [0.0, 0.2]},
            "backbone_lr": {"loguniform": [1e-5, 1e-3]},
            "epochs": {"int": [1, 3]},
            "layers": None,
        }
    )
    assert {dimension.name: dimension.domain for dimension in space.dimensions} == {
        "head": Choice(("cls",)),
        "loss": Choice(("mse", "bce")),
        "dropout": Real(0.0, 0.2, log=False),
        "backbone_lr": Real(1e-5, 1e-3, log=True),
        "epochs": Whole(1, 3),
        "layers": Choice((None,)),
    }


@pytest.mark.parametrize(
    ("entries", "messages"),
    [
        ({"learning_rate": 1}, ["learning_rate: unknown field", "backbone_lr"]),
        ({"head": "median"}, ["head", "median", "known: "]),
        ({"dropout": {"uniform": [0.2, 0.1]}}, ["less than the second"]),
        ({"dropout": {"uniform": [0.1, 1.5]}}, ["dropout", "less than 1", "1.5"]),
        ({"backbone_lr": {"loguniform": [0, 1]}}, ["greater than 0"]),
        ({"backbone_lr": {"loguniform": ["1e-5", 1]}}, ["two numbers"]),
        ({"epochs": {"int": [1.5, 2]}}, ["whole numbers"]),
        ({"epochs": {"normal": [1, 2]}}, ["exactly one of choice, uniform, loguniform, int"]),
        ({"epochs": []}, ["non-empty"]),
        ({"epochs": [1, True]}, ["epochs", "differ"]),
        ({"epochs": [True]}, ["epochs: true or false does not fit"]),
        ({"head_norm": ["on"]}, ["head_norm: must be true or false"]),
        ({"epochs": [1, 1]}, ["differ"]),
        ({"epochs": {"choice": [1, 2], "when": {"head": "cls"}}}, ["'head' is not in the space"]),
        ({"head": ["cls"], "epochs": {"choice": [1], "when": {"head": "mean"}}}, ["head is never 'mean'"]),
        ({"dropout": {"uniform": [0, 0.1]}, "epochs": {"choice": [1], "when": {"dropout": 0}}}, ["is a range"]),
        (
            {
                "head": {"choice": ["cls"], "when": {"loss": "mse"}},
                "loss": {"choice": ["mse"], "when": {"head": "cls"}},
            },
            ["circle"],
        ),
        ({"layers": [2, 4], "freeze_layers": [0, 3]}, ["freeze_layers=3 exceeds", "layers=2"]),
    ],
)
def test_mistakes_are_named(entries: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read_space(entries, where="study.yaml: space")
    assert "study.yaml: space." in str(error.value)
    for message in messages:
        assert message in str(error.value)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(InputError) as error:
        read_space({"nonsense": 1, "epochs": [], "dropout": {"uniform": [2, 1]}})
    assert [fault.split(":")[0] for fault in error.value.faults] == ["space.nonsense", "space.epochs", "space.dropout"]


def test_conditions_hold_in_every_combination_whatever_their_order() -> None:
    space = read_space(
        {
            "freeze_layers": {"choice": [1, 2], "when": {"layers": 2}},
            "layers": [2, 4],
            "head": {"choice": ["cls", "mean"], "when": {"freeze_layers": [1, 2]}},
        }
    )
    combinations = list(space.combinations(lambda domain: domain.grid() or ()))
    expected = [{"layers": 2, "freeze_layers": f, "head": h} for f, h in itertools.product([1, 2], ["cls", "mean"])]
    assert combinations == [*expected, {"layers": 4}]


@pytest.mark.parametrize("loss", [["mse", "huber", "smooth_l1"], ["huber"]])
def test_a_setting_that_only_some_heed_is_searched_where_they_are(loss: list[str]) -> None:
    when = {"when": {"loss": ["huber", "smooth_l1"]}} if len(loss) > 1 else {}
    space = read_space({"loss": loss, "loss_delta": {"uniform": [0.1, 0.5], **when}})
    for settings in space.corners():
        assert ("loss_delta" in settings) == (Candidate.model_validate(settings).loss != "mse")


def test_a_setting_without_effect_is_refused_once_with_an_example() -> None:
    with pytest.raises(InputError) as error:
        read_space({"loss": ["mse", "huber"], "loss_delta": [0.1, 0.5], "epochs": [1, 2]})
    assert error.value.faults == (
        "space.combination: loss_delta has no effect with loss='mse'; it needs huber, smooth_l1, "
        "as with loss=mse, loss_delta=0.1, epochs=1",
    )


def test_every_sampled_candidate_lies_in_its_domains() -> None:
    space = read_space(
        {
            "loss": ["mse", "bce"],
            "head_dropout": {"uniform": [0.1, 0.2], "when": {"loss": "bce"}},
            "epochs": {"int": [1, 3]},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        settings = space.settings(lambda dimension, trial=trial: dimension.domain.suggest(trial, dimension.name))
        candidate = Candidate.model_validate(settings)
        assert candidate.epochs in (1, 2, 3)
        assert (0.1 <= candidate.head_dropout <= 0.2) if candidate.loss == "bce" else candidate.head_dropout == 0.0
        seen.add((candidate.loss, candidate.epochs))
    assert len(seen) == 6


def test_explicit_candidates_are_checked_together() -> None:
    with pytest.raises(InputError) as error:
        read_candidates({"a": {"epochs": 0}, "b": {"colour": "red"}, "c": {}, "d": {"epochs": 1}})
    text = str(error.value)
    assert "candidates.a: epochs" in text
    assert "candidates.b: unknown key 'colour'; known keys: accumulation" in text
    assert "candidates.d: the same model as candidates.c" in text
