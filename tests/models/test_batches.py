import numpy as np
import pytest

from models.batches import CHUNK_BATCHES, Encoded, prediction_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(5, 60, size=1003)


@pytest.fixture
def encoded():
    generator = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = generator.integers(3, 99, size=offsets[-1]).astype(np.int32)
    return Encoded(ids, offsets, padding_id=1, scores=generator.random(len(LENGTHS), dtype=np.float32))


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
    assert batch.scores is not None
    assert batch.scores.tolist() == encoded.scores[rows].tolist()


def test_a_batch_moves_with_its_tensors(encoded):
    batch = encoded.batch(np.array([0, 1])).to("meta")
    assert {batch.input_ids.device.type, batch.attention_mask.device.type, batch.scores.device.type} == {"meta"}


def test_rows_without_scores_make_batches_without_scores():
    encoded = Encoded(np.arange(6, dtype=np.int32), np.array([0, 2, 6]), padding_id=0, scores=None)
    assert encoded.batch(np.array([1])).to("cpu").scores is None
