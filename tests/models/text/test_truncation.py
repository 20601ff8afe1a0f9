"""Which tokens of long phrases a model sees: the first, the last, both, or all of them in windows."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from models.candidate import Candidate
from models.cost.token_counts import TokenCounter
from models.part_options import HEAD_OPTIONS, RECIPE_OPTIONS
from models.text.fold_pools import load_fold_pools
from models.text.truncation import Truncation, place_windows
from models.text.unseen_text import cut_warning
from small_models import train

WORDS = [f"{letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
ROOM = 9
"""Tokens that phrases have of a text of 12: two ends and a separator are the rest."""


def with_texts(data, targets, scores=None):
    """Return the data with other targets, and other scores of train rows if given."""

    def replaced(table, texts):
        place = table.schema.get_field_index("target")
        return table.set_column(place, "target", pa.array(texts))

    train_table = replaced(data.train, targets[: data.train.num_rows])
    if scores is not None:
        place = train_table.schema.get_field_index("score")
        train_table = train_table.set_column(place, "score", pa.array(scores, pa.float32()))
    return dataclasses.replace(data, train=train_table, test=replaced(data.test, targets[-data.test.num_rows :]))


@pytest.fixture(scope="session")
def tokenizer(tiny_bert):
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def pool_of(tokenizer, tmp_path):
    def load(data, **options):
        candidate = Candidate(**{"recipe": "pair", "max_length": 12, **options})
        return load_fold_pools(data, 0, candidate=candidate, tokenizer=tokenizer, cache=tmp_path).validation

    return load


@pytest.fixture
def long_data(prepared_tiny):
    """Return data whose targets have 1 to 26 words."""
    n_rows = prepared_tiny.train.num_rows + prepared_tiny.test.num_rows
    texts = [" ".join(WORDS[: 1 + row % 26]) for row in range(n_rows)]
    return with_texts(prepared_tiny, texts)


def phrases_of(pool, tokenizer):
    """Return the token ids of each row's anchor and target, whole."""
    return [
        [tokenizer(row[name], add_special_tokens=False)["input_ids"] for name in ("anchor", "target")]
        for row in pool.table.to_pylist()
    ]


def second_phrases(encoded, tokenizer):
    """Return the token ids of each text's second phrase."""
    found = []
    for start, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
        line = encoded.ids[start:end].tolist()
        found.append(line[line.index(tokenizer.sep_token_id) + 1 : -1])
    return found


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"truncation": "head"}, lambda whole, n: whole[:n]),
        ({"truncation": "tail"}, lambda whole, n: whole[len(whole) - n :]),
        (
            {"truncation": "head_tail", "head_share": 0.3},
            lambda whole, n: whole[: -int(-0.3 * n // 1)] + whole[len(whole) - n - int(-0.3 * n // 1) :],
        ),
    ],
)
def test_a_phrase_that_is_cut_keeps_its_first_or_last_tokens(options, kept, pool_of, long_data, tokenizer):
    pool = pool_of(long_data, **options)
    found = second_phrases(pool.encode(), tokenizer)
    n_cut = 0
    for (anchor, target), second in zip(phrases_of(pool, tokenizer), found, strict=True):
        cut = len(anchor) + len(target) > ROOM
        n_cut += cut
        assert second == (kept(target, len(second)) if cut and len(second) < len(target) else target)
    assert n_cut > 10


@given(
    whole=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8),
    room=st.integers(2, 20),
    overlap=st.floats(0.0, 0.95),
    most=st.integers(2, 9),
)
@settings(max_examples=200, deadline=None)
def test_windows_follow_each_other_to_the_end_of_the_phrase_or_to_the_limit(whole, room, overlap, most):
    whole = np.array(whole, dtype=np.int64)
    left = np.minimum(whole, room)
    found = place_windows(whole, left, Truncation(window_overlap=overlap, max_windows=most))
    for row in range(len(whole)):
        texts = np.flatnonzero(found.row == row)
        column = found.column[texts[0]]
        total, width, starts = whole[row, column], left[row, column], found.start[texts].tolist()
        losses = (whole[row] - left[row])[left[row] > 0]
        assert total - width == max(losses, default=0)
        assert found.first[row] == texts[0]
        assert starts[0] == 0
        assert starts == sorted(set(starts))
        assert len(texts) <= most
        seen = {place for start in starts for place in range(start, start + width)}
        assert seen == set(range(max(seen, default=-1) + 1))
        assert len(seen) - width == found.gained[row]
        if len(texts) < most and width:
            assert max(seen) == total - 1
        step = max(width - int(overlap * width), 1)
        assert all(later - earlier == step for earlier, later in itertools.pairwise(starts[:-1]))


def test_windows_hold_every_token_of_the_phrase(pool_of, long_data, tokenizer):
    pool = pool_of(long_data, truncation="windows", window_overlap=0.0, max_windows=20)
    encoded = pool.encode()
    found = second_phrases(encoded, tokenizer)
    assert len(encoded) == encoded.n_rows == len(pool)
    sizes = np.diff(encoded.windows)
    assert sizes.max() > 2
    assert np.diff(encoded.offsets).max() <= 12
    for row, (_, target) in enumerate(phrases_of(pool, tokenizer)):
        windows = found[encoded.windows[row] : encoded.windows[row + 1]]
        if len(windows) > 1:
            assert set(itertools.chain.from_iterable(windows)) == set(target)
            assert windows[0] == target[: len(windows[0])]
            assert windows[-1] == target[-len(windows[-1]) :]
    kept, lost = pool.kept_and_lost
    assert not lost.any()
    head_kept, head_lost = pool_of(long_data).kept_and_lost
    np.testing.assert_array_equal(kept, head_kept + head_lost)


def test_a_batch_tells_which_windows_are_whose(pool_of, long_data):
    encoded = pool_of(long_data, truncation="windows").encode()
    texts = np.array([7, 3, 30])
    batch = encoded.batch(texts)
    assert batch.rows.tolist() == texts.tolist()
    assert batch.n_texts == 3
    assert np.bincount(batch.windows).tolist() == np.diff(encoded.windows)[texts].tolist()
    own = encoded.batch(np.array([3]))
    width = own.input_ids.shape[1]
    assert batch.input_ids[batch.windows == 1][:, :width].equal(own.input_ids)


def test_without_a_cut_windows_change_no_prediction(tiny_bert, prepared_tiny, tmp_path):
    settings = {"backbone": tiny_bert, "recipe": "pair", "max_length": 64, "batch_size": 16}
    plain, windowed = (
        train(Candidate(**settings, truncation=name), prepared_tiny, 0, cache=tmp_path) for name in ("head", "windows")
    )
    assert plain.oof.equals(windowed.oof)
    assert plain.test.equals(windowed.test)


@pytest.mark.parametrize("name", ["head", "tail", "head_tail", "windows"])
def test_the_last_word_decides_and_is_seen_or_not(name, tiny_bert, prepared_tiny, tmp_path):
    n_train, n_test = prepared_tiny.train.num_rows, prepared_tiny.test.num_rows
    random = np.random.default_rng(0)
    good = random.integers(0, 2, n_train + n_test)
    texts = [" ".join(random.choice(WORDS, 22)) + (" yes" if one else " no") for one in good]
    data = with_texts(prepared_tiny, texts, good[:n_train].astype(np.float32))
    options = {"max_length": 16, "epochs": 12, "batch_size": 16, "backbone_lr": 2e-3, "head_lr": 1e-2}
    candidate = Candidate(backbone=tiny_bert, recipe="pair", head="max", truncation=name, **options)
    found = train(candidate, data, 0, cache=tmp_path)
    assert found.metric < 0.5 if name == "head" else found.metric > 0.8


def test_what_is_never_seen_is_said(pool_of, tokenizer, long_data, tmp_path):
    def said(**options):
        candidate = Candidate(recipe="pair", max_length=12, **options)
        pools = load_fold_pools(long_data, 0, candidate=candidate, tokenizer=tokenizer, cache=tmp_path)
        kept, lost = (np.concatenate(each) for each in zip(*(pool.kept_and_lost for pool in pools.every), strict=True))
        return cut_warning(pools, candidate), lost.sum() / (kept + lost).sum()

    warning, share = said()
    assert share > 0.1
    assert f"{share:.0%} of all tokens are never seen; a greater max_length keeps more" in warning
    assert said(truncation="windows", max_windows=30) == (None, 0.0)
    assert said(truncation="windows", max_windows=2)[1] < share


def test_the_memory_plan_counts_windows(long_data):
    counter = TokenCounter(long_data, rung_rows=None)
    head = counter.of(Candidate(recipe="pair", max_length=12, batch_size=8))
    windows = counter.of(Candidate(recipe="pair", max_length=12, batch_size=8, truncation="windows"))
    assert head.largest[0] == 8
    assert windows.largest[0] > 16
    assert windows.tokens > 1.5 * head.tokens
    assert windows.steps == head.steps


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"head": name}, "reads a token that stands in one window alone; use mean, max, attention")
        for name, option in HEAD_OPTIONS.items()
        if option.no_windows
    ]
    + [({"recipe": name}, "use pair, pair_context") for name, option in RECIPE_OPTIONS.items() if option.no_windows],
)
def test_what_cannot_be_scored_from_windows_is_refused_with_what_can(options, reason):
    with pytest.raises(ValidationError, match=reason):
        Candidate(truncation="windows", **options)


def test_settings_without_effect_are_refused():
    with pytest.raises(ValidationError, match=r"head_share has no effect with truncation='head'; it needs head_tail"):
        Candidate(head_share=0.3)
    with pytest.raises(ValidationError, match=r"max_windows has no effect with truncation='tail'; it needs windows"):
        Candidate(truncation="tail", max_windows=3)
