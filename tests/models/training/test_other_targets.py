import functools

import numpy as np
import pyarrow.compute as pc
import pytest

from data_prep.store.tables import column_names, oof_schema, prediction_schema
from data_prep.targets.target_columns import numbers_of
from models.candidate import Candidate
from other_targets import several_numbers, three_classes
from small_models import train as train_fold

FOLD = 1
LEARNING = {"max_length": 48, "batch_size": 8, "backbone_lr": 3e-3, "epochs": 4, "dropout": 0.0, "head": "max"}
KINDS = {
    "several numbers": functools.partial(several_numbers, metric="pearson"),
    "classes": functools.partial(three_classes, metric="multiclass_accuracy"),
}
LOSSES = {"several numbers": "mse", "classes": "cross_entropy"}


@pytest.fixture
def train(tiny_bert, prepared_tiny, tmp_path):
    def run(kind, settings=None, *, data=None, **options):
        candidate = Candidate(backbone=tiny_bert, **{**LEARNING, "loss": LOSSES[kind], **(settings or {})})
        data = KINDS[kind](prepared_tiny) if data is None else data
        return train_fold(candidate, data, FOLD, cache=tmp_path / "cache", **options)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_gives_wide_tables_in_prepared_order(train, kind, prepared_tiny):
    data = KINDS[kind](prepared_tiny)
    found = train(kind, data=data)
    names = data.task.target.names
    own, held_out = (data.train.filter(pc.equal(data.train["fold"], fold)) for fold in (FOLD, -1))
    for table, rows, schema in [
        (found.oof, own, oof_schema(names)),
        (found.test, data.test, prediction_schema(names)),
        (found.holdout, held_out, oof_schema(names)),
    ]:
        assert table.num_rows > 20
        assert table.schema.equals(schema)
        assert table["id"].to_pylist() == rows["id"].to_pylist()
        assert np.isfinite(numbers_of(table, "prediction")).all()
    assert found.oof.select(column_names("score", names)).equals(own.select(column_names("score", names)))
    targets, predictions = (numbers_of(found.oof, quantity) for quantity in ("score", "prediction"))
    assert found.metric == data.task.measure(targets, predictions)
    assert found.metric > 0.7
    if kind == "classes":
        np.testing.assert_allclose(predictions.sum(axis=1), 1, rtol=1e-5)
