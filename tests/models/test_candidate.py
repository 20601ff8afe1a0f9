import json

import pytest
from pydantic import ValidationError

from data_prep.errors import InputError
from data_prep.store.yaml_documents import read_document
from models.candidate import Candidate


def test_id_is_the_same_on_every_machine():
    assert Candidate().id == "44136fa355b3"
    assert Candidate(layers=2, recipe="grouped", backbone_lr=2e-4).id == "49f1d6b674e3"


def test_defaults_spelled_out_or_not_give_the_same_id():
    spelled = Candidate.model_validate(json.loads(Candidate(layers=2).model_dump_json()))
    assert spelled == Candidate(layers=2)
    assert spelled.id == Candidate(layers=2).id
    assert Candidate(clip_norm=1).id == Candidate(clip_norm=1.0).id == Candidate().id


OTHER = {
    "backbone": "org/name",
    "layers": 3,
    "recipe": "pair",
    "max_length": 32,
    "head": "cls",
    "loss": "bce",
    "epochs": 2,
    "batch_size": 16,
    "backbone_lr": 3e-5,
    "head_lr": 1e-4,
    "layer_decay": 0.9,
    "weight_decay": 0.0,
    "warmup": 0.1,
    "schedule": "cosine",
    "clip_norm": None,
    "dropout": 0.0,
    "head_dropout": 0.2,
    "freeze_embeddings": True,
    "freeze_layers": 1,
    "precision": "fp32",
    "keep": "best",
    "seed": 7,
    "context": "class",
    "separator": "[s]",
    "spell_separator": True,
    "segment_ids": False,
    "sibling_scope": "section",
    "max_siblings": 3,
    "shuffle_siblings": False,
    "own_target": "kept",
    "prediction_shuffles": 2,
    "head_norm": True,
    "head_layers": 2,
    "head_width": 64,
    "dropout_samples": 5,
    "graded_dropout": True,
    "separate_heads": True,
    "loss_delta": 0.5,
    "label_width": 1.0,
    "label_smoothing": 0.1,
    "truncation": "tail",
    "head_share": 0.3,
    "window_overlap": 0.5,
    "max_windows": 3,
    "pearson_weight": 0.3,
    "accumulation": 2,
    "checkpointing": True,
    "beta2": 0.98,
    "mixout": 0.1,
    "reinit_layers": 1,
    "adversary": "awp",
    "adversary_start": 0.5,
    "adversary_eps": 0.1,
    "adversary_lr": 0.1,
    "ema": 0.99,
}
COMPANY = {
    "spell_separator": {"separator": "[s]"},
    "segment_ids": {"recipe": "two_segments"},
    **{field: {"recipe": "grouped"} for field in ("sibling_scope", "max_siblings", "shuffle_siblings", "own_target")},
    "prediction_shuffles": {"recipe": "grouped"},
    "head_width": {"head_layers": 1},
    "dropout_samples": {"head_dropout": 0.5},
    "graded_dropout": {"head_dropout": 0.5, "dropout_samples": 3},
    "loss_delta": {"loss": "huber"},
    "label_width": {"loss": "kl"},
    "label_smoothing": {"loss": "cross_entropy"},
    "head_share": {"truncation": "head_tail"},
    "window_overlap": {"truncation": "windows"},
    "max_windows": {"truncation": "windows"},
    "pearson_weight": {"loss": "mse_pearson"},
    **{field: {"adversary": "awp"} for field in ("adversary_start", "adversary_eps", "adversary_lr")},
}
"""What must be set for a field to have an effect."""


def test_every_field_counts_in_the_id():
    assert set(OTHER) == set(Candidate.model_fields)
    for field, value in OTHER.items():
        company = COMPANY.get(field, {})
        assert Candidate(**company, **{field: value}).id != Candidate(**company).id, field
    ids = {Candidate(**COMPANY.get(field, {}), **{field: value}).id for field, value in OTHER.items()}
    assert len(ids) == len(OTHER)


@pytest.mark.parametrize("field", COMPANY)
def test_a_setting_without_effect_is_refused(field):
    with pytest.raises(ValidationError, match=f"{field} has no effect"):
        Candidate(**{field: OTHER[field]})


def test_a_candidate_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Candidate().layers = 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1e-4}, "Extra inputs"),
        ({"recipe": "triple"}, "unknown recipe 'triple'; known: pair, pair_context, .*grouped"),
        ({"head": "tail"}, "unknown head 'tail'; known: .*mean"),
        ({"loss": "gain"}, "unknown loss 'gain'; known: .*mse"),
        ({"layers": 2, "freeze_layers": 3}, "freeze_layers=3 exceeds the kept layers=2"),
        ({"backbone_lr": 0}, "greater than 0"),
        ({"backbone_lr": float("nan")}, "finite|greater than"),
        ({"dropout": 1.0}, "less than 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Candidate(**settings)


def test_a_file_with_a_misspelt_key_lists_the_known_ones(tmp_path):
    path = tmp_path / "candidate.yaml"
    path.write_text("backbone: minilm-l6\nlearning_rate: 1.0e-4\n")
    with pytest.raises(InputError, match=r"candidate\.yaml: unknown key 'learning_rate'; known keys: .*backbone_lr"):
        read_document(path, Candidate)


def test_label_says_what_a_person_wants_to_know():
    assert Candidate(layers=2).label == "minilm-l6-k2-pair_context-mean-mse"
    assert Candidate(backbone="microsoft/deberta-v3-large").label == "deberta-v3-large-pair_context-mean-mse"
    assert Candidate(backbone="/weights/deberta-v3-large/").family == "/weights/deberta-v3-large/"
