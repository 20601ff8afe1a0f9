from dataclasses import replace

import numpy as np
import pytest

from models.text.batches import CHUNK_BATCHES, Encoded, Spans, prediction_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(5, 60, size=1003)


@pytest.fixture
def encoded():
    generator = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = generator.integers(3, 99, size=offsets[-1]).astype(np.int32)
    return Encoded(ids, offsets, padding_id=1, targets=generator.random(len(LENGTHS), dtype=np.float32))


@pytest.mark.parametrize("batch_size", [1, 4, 32, 2000])
def test_each_row_is_in_one_batch_and_one_batch_at_most_is_short(batch_size):
    for batches in (
        training_batches(LENGTHS, batch_size, seed=3, epoch=0),
        prediction_batches(LENGTHS, batch_size),
    ):
        assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
        assert len(batches) == -(-len(LENGTHS) // batch_size)
        assert sum(len(batch) < batch_size for batch in batches) <= 1


def test_training_batches_are_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(training_batches(LENGTHS, 4, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_training_pads_little_and_mixes_lengths_over_time():
    batches = training_batches(LENGTHS, 4, seed=1, epoch=0)
    padded = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()
    means = np.array([LENGTHS[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_training_rows_of_a_chunk_are_drawn_from_everywhere():
    same = np.full(100_000, 7)
    first = np.concatenate(training_batches(same, 4, seed=1, epoch=0)[:CHUNK_BATCHES])
    assert abs(first.mean() / len(same) - 0.5) < 0.1


GROUPS = np.random.default_rng(2).integers(0, 90, size=len(LENGTHS))


@pytest.mark.parametrize("batch_size", [4, 32, 2000])
def test_groups_meet_in_batches_that_stay_full(batch_size):
    batches = training_batches(LENGTHS, batch_size, seed=3, epoch=0, groups=GROUPS)
    assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
    assert len(batches) == -(-len(LENGTHS) // batch_size)
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    parts = sum(len(np.unique(GROUPS[batch])) for batch in batches)
    assert parts <= len(np.unique(GROUPS)) + len(batches) - 1
    apart = training_batches(LENGTHS, batch_size, seed=3, epoch=0)
    assert batch_size == 2000 or parts < sum(len(np.unique(GROUPS[batch])) for batch in apart) / 2


def test_grouped_batches_are_a_function_of_seed_and_epoch():
    def batches(seed, epoch):
        return [batch.tolist() for batch in training_batches(LENGTHS, 16, seed=seed, epoch=epoch, groups=GROUPS)]

    assert batches(1, 0) == batches(1, 0)
    neighbours = [{frozenset(GROUPS[batch].tolist()) for batch in batches(1, epoch)} for epoch in (0, 1)]
    assert len(neighbours[0] & neighbours[1]) < len(neighbours[0]) / 4


def test_grouped_batches_sort_by_length_too():
    lengths = np.clip(GROUPS + np.random.default_rng(4).integers(0, 5, size=len(GROUPS)), 5, None)
    batches = training_batches(lengths, 16, seed=1, epoch=0, groups=GROUPS)
    assert sum(lengths[batch].max() * len(batch) for batch in batches) < 1.15 * lengths.sum()


def test_prediction_starts_with_the_longest():
    batches = prediction_batches(LENGTHS, 32)
    longest = [LENGTHS[batch].max() for batch in batches]
    assert longest[0] == LENGTHS.max()
    assert longest == sorted(longest, reverse=True)


def test_a_batch_holds_its_rows_padded_on_the_right(encoded):
    rows = np.array([5, 2, 700])
    batch = encoded.batch(rows)
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, LENGTHS[rows].max())
    for line, row in enumerate(rows):
        expected = encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
        rest = LENGTHS[rows].max() - LENGTHS[row]
        assert batch.input_ids[line].tolist() == expected + [1] * rest
        assert batch.attention_mask[line].tolist() == [1] * LENGTHS[row] + [0] * rest
    assert batch.rows.tolist() == rows.tolist()
    assert batch.targets is not None
    assert batch.targets.tolist() == encoded.targets[rows].tolist()


def test_segments_codes_and_groups_follow_the_rows(encoded):
    n_rows = len(LENGTHS)
    second, codes, groups = LENGTHS // 2, np.stack([np.arange(n_rows) % 9, np.arange(n_rows)], axis=1), GROUPS
    rows = np.array([5, 2, 700])
    batch = replace(encoded, second_segments=second, codes=codes, groups=groups).batch(rows)
    for line, row in enumerate(rows):
        rest = LENGTHS[rows].max() - LENGTHS[row]
        assert batch.segments[line].tolist() == [0] * second[row] + [1] * (LENGTHS[row] - second[row]) + [0] * rest
    assert batch.codes.tolist() == codes[rows].tolist()
    assert batch.groups.tolist() == groups[rows].tolist()


def test_a_shared_text_has_the_group_of_its_rows(encoded):
    assert encoded.text_groups is None
    assert replace(encoded, groups=GROUPS).text_groups is GROUPS
    order = np.argsort(GROUPS, kind="stable")
    _, first = np.unique(GROUPS[order], return_index=True)
    spans = Spans(order, np.append(first, len(order)), np.zeros(len(order), int), np.ones(len(order), int))
    shared = replace(encoded, groups=GROUPS, spans=spans)
    assert shared.text_groups.tolist() == np.unique(GROUPS).tolist()


def test_a_batch_moves_with_its_tensors(encoded):
    batch = encoded.batch(np.array([0, 1])).to("meta")
    assert {batch.input_ids.device.type, batch.attention_mask.device.type, batch.targets.device.type} == {"meta"}


def test_rows_without_scores_make_batches_without_scores():
    encoded = Encoded(np.arange(6, dtype=np.int32), np.array([0, 2, 6]), padding_id=0, targets=None)
    assert encoded.batch(np.array([1])).to("cpu").targets is None
