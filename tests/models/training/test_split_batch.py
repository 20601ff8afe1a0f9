import dataclasses

import numpy as np
import pytest
import torch

from models.text.batches import Batch
from models.training.split_batch import split_batch


def batch_of(n_texts, *, packed):
    generator = torch.Generator().manual_seed(3)
    text = torch.repeat_interleave(torch.arange(n_texts), torch.arange(n_texts) % 3 + 1 if packed else 1)
    n_rows = len(text)
    return Batch(
        input_ids=torch.randint(9, (n_texts, 7), generator=generator),
        attention_mask=torch.ones(n_texts, 7, dtype=torch.int64),
        rows=np.arange(100, 100 + n_rows),
        targets=torch.rand(n_rows, generator=generator),
        spans=torch.stack([text, torch.ones(n_rows).long(), torch.arange(n_rows) % 4 + 1], dim=1) if packed else None,
        codes=torch.randint(5, (n_rows, 2), generator=generator),
        weights=torch.rand(n_rows, generator=generator),
        groups=torch.arange(n_rows) // 2,
    )


def what_rows_see(batch):
    """Return everything about each row, in order."""
    text = torch.arange(len(batch.input_ids)) if batch.spans is None else batch.spans[:, 0]
    spans = [None] * len(text) if batch.spans is None else batch.spans[:, 1:].tolist()
    ids = batch.input_ids[text].tolist()
    columns = (batch.targets.tolist(), batch.weights.tolist(), batch.codes.tolist(), batch.groups.tolist())
    return list(zip(batch.rows.tolist(), ids, spans, *columns, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 5, 99])
def test_every_row_is_in_one_part_with_all_that_belongs_to_it(packed, n_parts):
    batch = batch_of(5, packed=packed)
    parts = split_batch(batch, n_parts)
    assert len(parts) == min(n_parts, 5)
    sizes = [len(part.input_ids) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [row for part in parts for row in what_rows_see(part)] == what_rows_see(batch)


def test_every_tensor_of_a_batch_is_cut():
    batch = dataclasses.replace(batch_of(4, packed=True), segments=torch.zeros(4, 7, dtype=torch.int64))
    first = split_batch(batch, 2)[0]
    for field in dataclasses.fields(Batch):
        if field.name != "windows":
            assert len(getattr(first, field.name)) < len(getattr(batch, field.name)), field.name


@pytest.mark.parametrize("n_parts", [2, 3, 99])
def test_the_windows_of_a_row_stay_together(n_parts):
    whole = batch_of(6, packed=False)
    windows = torch.tensor([0, 0, 1, 2, 2, 2])
    rows = {name: getattr(whole, name)[:3] for name in ("rows", "targets", "weights", "codes", "groups")}
    batch = dataclasses.replace(whole, **rows, windows=windows)
    parts = split_batch(batch, n_parts)
    assert len(parts) == min(n_parts, 3)
    assert torch.cat([part.input_ids for part in parts]).equal(batch.input_ids)
    assert np.concatenate([part.rows for part in parts]).tolist() == batch.rows.tolist()
    found = [part.rows[row] for part in parts for row in part.windows]
    assert found == [batch.rows[row] for row in windows]
    assert all(part.windows[0] == 0 and part.windows[-1] == len(part.rows) - 1 for part in parts)


def test_one_part_is_the_batch_itself():
    batch = batch_of(4, packed=True)
    assert split_batch(batch, 1)[0] is batch
