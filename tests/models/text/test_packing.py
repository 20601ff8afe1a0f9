import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.candidate import Candidate
from models.parts.build import new_head
from models.parts.heads import HEADS
from models.parts.scorer import Scorer
from models.text.fold_pools import load_fold_pools
from models.text.packing import pack_rows
from small_models import load


@given(st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=40), min_size=1, max_size=6), st.integers(20, 60))
@settings(deadline=None, max_examples=200)
def test_every_text_fits_and_none_is_empty(sizes, room):
    group = np.repeat(np.arange(len(sizes)), [len(part) for part in sizes])
    size = np.concatenate(sizes)
    text = pack_rows(group, size, np.full(len(sizes), room))
    assert (np.diff(text) >= 0).all()
    assert np.array_equal(np.unique(text), np.arange(text[-1] + 1))
    assert all(len(np.unique(group[text == number])) == 1 for number in range(text[-1] + 1))
    assert np.bincount(text, weights=size).max() <= room


@given(st.lists(st.integers(1, 10), min_size=1, max_size=40), st.randoms())
@settings(deadline=None)
def test_the_number_of_texts_does_not_depend_on_the_order(sizes, random):
    shuffled = random.sample(sizes, len(sizes))
    counts = [pack_rows(np.zeros(len(sizes), int), np.array(part), np.array([25]))[-1] for part in (sizes, shuffled)]
    assert counts[0] == counts[1]


@pytest.fixture(scope="module")
def packed(tiny_bert, prepared_tiny, tmp_path_factory):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    pools = load_fold_pools(
        prepared_tiny,
        0,
        candidate=Candidate(recipe="packed", max_length=40, seed=3),
        tokenizer=tokenizer,
        cache=tmp_path_factory.mktemp("tokens"),
    )
    return pools, tokenizer


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("pool", ["train", "validation", "test", "holdout"])
def test_a_row_is_scored_from_its_own_target_in_a_text_of_its_group(packed, pool, epoch):
    pools, tokenizer = packed
    rows = getattr(pools, pool)
    encoded = rows.encode(epoch)
    table = rows.table.to_pylist()
    batch = encoded.batch(np.arange(len(encoded)))
    assert sorted(batch.rows.tolist()) == list(range(len(rows)))
    assert batch.input_ids.shape[1] <= 40
    for row, (text, start, length) in zip(batch.rows, batch.spans.tolist(), strict=True):
        tokens = batch.input_ids[text].tolist()
        entry = table[row]
        assert tokenizer.decode(tokens[start : start + length]) == entry["target"]
        assert tokens[start - 1] == tokens[start + length] == tokenizer.sep_token_id
        joined = tokenizer.decode([token for token in tokens if token != tokenizer.pad_token_id])
        assert joined.startswith(f"[CLS] {entry['anchor']} [SEP] {entry['context_text']} [SEP] ")


def test_epochs_deal_other_hands_of_the_same_number(packed):
    pools, _ = packed
    first, second = (pools.train.encode(epoch) for epoch in (0, 1))
    assert len(first) == len(second) < len(pools.train)
    assert not np.array_equal(first.ids, second.ids)
    assert np.array_equal(first.ids, pools.train.encode(0).ids)


def test_hands_differ_between_epochs_and_seeds(packed, prepared_tiny, tmp_path):
    pools, tokenizer = packed

    def partners(seed, epoch):
        candidate = Candidate(recipe="packed", max_length=24, seed=seed)
        rows = load_fold_pools(prepared_tiny, 0, candidate=candidate, tokenizer=tokenizer, cache=tmp_path).train
        spans = rows.encode(epoch).spans
        return frozenset(
            frozenset(spans.order[start:end].tolist()) for start, end in itertools.pairwise(spans.first.tolist())
        )

    hands = [partners(seed, epoch) for seed in (3, 4) for epoch in (0, 1, 2)]
    assert len(set(hands)) == 6
    assert hands[0] == partners(3, 0)
    assert {frozenset.union(*hand) for hand in hands} == {frozenset(range(len(pools.train)))}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_sees_the_span_alone(head, packed, tiny_bert):
    pools, _ = packed
    batch = pools.validation.encode().batch(np.arange(3))
    backbone = load(tiny_bert, dropout=0.0)
    module = new_head(Candidate(head=head), hidden_size=backbone.hidden_size, n_states=backbone.n_states, n_outputs=1)
    scorer = Scorer(backbone.model, module).eval()
    with torch.inference_mode():
        together = scorer(batch)
        states = scorer.backbone(batch.input_ids, batch.attention_mask, n_states=module.n_states)
        for output, (text, start, length) in zip(together, batch.spans.tolist(), strict=True):
            part = [state[text : text + 1, start : start + length] for state in states]
            assert torch.allclose(output, module(part, torch.ones(1, length, dtype=torch.int64))[0], atol=1e-6)
