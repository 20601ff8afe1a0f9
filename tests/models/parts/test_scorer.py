import dataclasses

import numpy as np
import pytest
import torch

from data_prep.task import PPPM
from models.backbones.families import FAMILIES
from models.candidate import Candidate
from models.part_options import HEAD_OPTIONS
from models.parts.build import new_head, new_loss
from models.parts.heads import HEADS
from models.parts.losses import LOSSES
from models.parts.scorer import Scorer, span_places, window_places
from models.text.batches import Batch
from small_models import load

LENGTHS = (9, 4, 3, 1)
SPANS = torch.tensor([[0, 1, 3], [0, 4, 1], [1, 1, 2], [3, 0, 1], [0, 0, 9]])
"""Text, first token, tokens; the last spans a whole text."""


@pytest.fixture(scope="module")
def backbone(tiny_bert):
    loaded = load(tiny_bert)
    loaded.model.eval()
    return loaded


@pytest.fixture(params=HEADS)
def head_name(request):
    return request.param


def new_scorer(backbone, head_name, loss_name="mse", **settings):
    candidate = Candidate(head=head_name, loss=loss_name, **settings)
    loss = new_loss(candidate, PPPM)
    torch.manual_seed(3)
    size = {"hidden_size": backbone.hidden_size, "n_states": backbone.n_states, "n_outputs": loss.n_outputs}
    return Scorer(backbone.model, new_head(candidate, **size)).eval(), loss


def batch_of(backbone, n_rows=4, **fields):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(backbone.tokenizer), (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = torch.tensor([[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS])
    groups = torch.arange(n_rows) // 2
    targets = (torch.arange(n_rows) % 5) / 4
    return Batch(ids * mask, mask, np.arange(n_rows), targets, groups=groups, **fields)


@pytest.mark.parametrize("loss_name", LOSSES)
def test_every_head_learns_by_every_loss(backbone, head_name, loss_name):
    options = {"head_dropout": 0.2, "dropout_samples": 3, "recipe": "code_embedding"}
    scorer, loss = new_scorer(backbone, head_name, loss_name, **options)
    scorer.train()
    batch = batch_of(backbone, codes=torch.tensor([[0, 61], [5, 16], [7, 1], [8, 2]]))
    scorer.zero_grad()
    outputs = scorer(batch)
    assert outputs.shape == (len(LENGTHS), loss.n_outputs)
    assert outputs.dtype == torch.float32
    value = loss(outputs, batch.targets, batch.groups)
    value.backward()
    assert value.isfinite()
    gradients = [parameter.grad for parameter in scorer.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    scorer.eval()
    with torch.inference_mode():
        predictions = loss.to_predictions(scorer(batch))
        assert predictions.shape == (len(LENGTHS),)
        assert torch.equal(predictions, loss.to_predictions(scorer(batch)))


def test_padding_takes_no_part(backbone, head_name):
    scorer, _ = new_scorer(backbone, head_name)
    batch = batch_of(backbone)
    with torch.inference_mode():
        outputs = scorer(batch)
        for row, length in enumerate(LENGTHS):
            ids = batch.input_ids[row : row + 1, :length]
            alone = scorer(Batch(ids, torch.ones_like(ids), np.arange(1), None))
            torch.testing.assert_close(outputs[row : row + 1], alone, rtol=0, atol=1e-5)


def test_a_span_is_scored_by_its_own_tokens(backbone, head_name):
    scorer, _ = new_scorer(backbone, head_name)
    batch = batch_of(backbone, n_rows=len(SPANS), spans=SPANS)
    with torch.inference_mode():
        outputs = scorer(batch)
        states = backbone.model(batch.input_ids, batch.attention_mask, n_states=scorer.head.n_states)
        assert outputs.shape == (len(SPANS), 1)
        for row, (text, start, length) in enumerate(SPANS.tolist()):
            own = [state[text : text + 1, start : start + length] for state in states]
            alone = scorer.head(own, torch.ones(1, length, dtype=torch.int64))
            torch.testing.assert_close(outputs[row : row + 1], alone, rtol=0, atol=1e-6)


def test_a_span_over_a_whole_text_changes_nothing(backbone, head_name):
    scorer, _ = new_scorer(backbone, head_name)
    whole = torch.tensor([[text, 0, length] for text, length in enumerate(LENGTHS)])
    with torch.inference_mode():
        plain, spanned = scorer(batch_of(backbone)), scorer(batch_of(backbone, spans=whole))
    torch.testing.assert_close(spanned, plain, rtol=0, atol=1e-6)


def test_span_places():
    (text, token), mask = span_places(torch.tensor([[0, 2, 3], [1, 5, 1]]))
    assert text.tolist() == [[0], [1]]
    assert token.tolist() == [[2, 3, 4], [5, 5, 5]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_segments_reach_the_backbone(backbone):
    scorer, _ = new_scorer(backbone, "mean")
    segments = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
    segments[:, 2:] = 1
    with torch.inference_mode():
        plain, told_apart = scorer(batch_of(backbone)), scorer(batch_of(backbone, segments=segments))
    assert (plain - told_apart).abs().max() > 1e-5


@pytest.mark.parametrize("family", {family.model_type: name for name, family in FAMILIES.items()}.values())
def test_padding_changes_no_prediction_of_any_family(family, tiny, head_name):
    backbone = load(tiny(family))
    backbone.model.eval()
    around = {} if head_name == "cnn" else {"head_norm": True, "head_layers": 1, "head_width": 16}
    scorer, loss = new_scorer(backbone, head_name, "bce", **around)
    batch = batch_of(backbone)
    ids = torch.where(batch.attention_mask == 1, batch.input_ids, backbone.tokenizer.pad_token_id)
    with torch.inference_mode():
        together = loss.to_predictions(scorer(Batch(ids, batch.attention_mask, batch.rows, None)))
        for row, length in enumerate(LENGTHS):
            part = ids[row : row + 1, :length]
            alone = loss.to_predictions(scorer(Batch(part, torch.ones_like(part), np.arange(1), None)))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head_name", [name for name, option in HEAD_OPTIONS.items() if not option.no_windows])
def test_the_head_sees_the_tokens_of_all_windows_of_a_row(backbone, head_name):
    scorer, _ = new_scorer(backbone, head_name)
    windows = torch.tensor([0, 0, 1, 1])
    found = scorer(dataclasses.replace(batch_of(backbone, n_rows=2), windows=windows))
    batch = batch_of(backbone)
    states = scorer.backbone(batch.input_ids, batch.attention_mask, n_states=scorer.head.n_states)
    for row, (first, second) in enumerate([(0, 1), (2, 3)]):
        joined = tuple(
            torch.cat([state[first, : LENGTHS[first]], state[second, : LENGTHS[second]]]).unsqueeze(0)
            for state in states
        )
        alone = scorer.head(joined, torch.ones(1, joined[0].shape[1], dtype=torch.int64))
        torch.testing.assert_close(found[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_places_of_windows_are_the_tokens_without_padding():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    (text, token), found = window_places(torch.tensor([0, 0, 1]), mask)
    assert text.tolist() == [[0, 0, 1], [2, 2, 2]]
    assert token.tolist() == [[0, 1, 0], [0, 1, 2]]
    assert found.tolist() == [[1, 1, 1], [1, 1, 1]]
