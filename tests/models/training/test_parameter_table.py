import io

import pytest

from data_prep.console import EscapingConsole
from models.candidate import Candidate
from models.parts.heads import HEADS
from models.training.parameter_table import describe_groups, parameter_table
from small_models import load

SETTINGS = {"backbone_lr": 1e-4, "head_lr": 1e-3, "layer_decay": 0.5, "weight_decay": 0.1}


@pytest.mark.parametrize("head", HEADS)
def test_rows_count_every_parameter_once(tiny_bert, head):
    rows = describe_groups(Candidate(backbone=tiny_bert, head=head, **SETTINGS))
    whole = sum(parameter.numel() for parameter in load(tiny_bert).model.parameters())
    assert sum(row.n_parameters for row in rows if not row.name.startswith("head")) == whole
    assert sum(row.n_parameters for row in rows if row.name.startswith("head")) > 32


def test_rows_tell_rates_decay_and_what_is_frozen(tiny_bert):
    settings = Candidate(backbone=tiny_bert, freeze_embeddings=True, **SETTINGS)
    rows = {row.name: row for row in describe_groups(settings)}
    assert list(rows) == [
        *("head", "head, biases and norms"),
        *("layer 2", "layer 2, biases and norms"),
        *("layer 1", "layer 1, biases and norms"),
        "embeddings, frozen",
    ]
    assert [(row.rate, row.weight_decay, row.learns) for row in rows.values()] == [
        *((1e-3, 0.1, True), (1e-3, 0.0, True)),
        *((1e-4, 0.1, True), (1e-4, 0.0, True)),
        *((0.5e-4, 0.1, True), (0.5e-4, 0.0, True)),
        (0.0, 0.0, False),
    ]
    assert (len(rows["layer 2"].parameters), rows["layer 2"].n_parameters) == (6, 4 * 32 * 32 + 2 * 32 * 64)
    assert len(rows["embeddings, frozen"].parameters) == 5


def test_a_head_with_rate_0_is_shown_as_frozen(tiny_bert):
    rows = describe_groups(Candidate(backbone=tiny_bert, head_lr=0.0))
    assert [row.name for row in rows if row.name.startswith("head")] == ["head, frozen"]


def test_the_table_shows_every_group_and_the_totals(tiny_bert):
    candidate = Candidate(backbone=tiny_bert, freeze_layers=1, **SETTINGS)
    console = EscapingConsole(width=120, record=True, file=io.StringIO())
    console.print(parameter_table(candidate))
    text = console.export_text()
    rows = describe_groups(candidate)
    assert candidate.id in text
    for row in rows:
        line = next(line for line in text.splitlines() if line.startswith(f"{row.name}  "))
        assert f"{row.n_parameters:,}" in line
        assert f"  {len(row.parameters)}  " in line
        assert ("trained" if row.learns else "frozen") in line
    trained = sum(row.n_parameters for row in rows if row.learns)
    assert f"{trained:,} of {sum(row.n_parameters for row in rows):,} parameters are trained" in text
