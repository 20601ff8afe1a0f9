from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from blend.members.load_predictions import load_predictions
from data_prep.prepared import Prepared
from data_prep.store.tables import HOLDOUT_FOLD


def add_column(data: Prepared, name: str, train: Any, test: Any) -> Prepared:
    return replace(data, train=data.train.append_column(name, train), test=data.test.append_column(name, test))


def test_numeric_columns_stand_in_the_order_of_the_predictions(full_run: Any) -> None:
    data, random = full_run.data, np.random.default_rng(0)
    n_train, n_test = len(data.train), len(data.test)
    train = {
        "length": pa.array(random.integers(1, 9, n_train)),
        "share": pa.array(random.random(n_train), pa.float32()),
    }
    test = {"length": pa.array(random.integers(1, 9, n_test)), "share": pa.array(random.random(n_test), pa.float32())}
    for name in ("length", "share"):
        data = add_column(data, name, pa.chunked_array([train[name]]), pa.chunked_array([test[name]]))
    found = load_predictions([full_run.path], data)
    table = data.train.to_pandas()
    expected = table[table["fold"] != HOLDOUT_FOLD].sort_values("fold", kind="stable")
    assert list(found.numeric.oof) == ["length", "share"]
    for name in ("length", "share"):
        np.testing.assert_array_equal(found.numeric.oof[name], expected[name])
        np.testing.assert_array_equal(found.numeric.test[name], test[name])
        np.testing.assert_array_equal(found.numeric.holdout[name], table.loc[table["fold"] == HOLDOUT_FOLD, name])
    assert found.ids.to_pylist() == expected["id"].tolist()
    some = expected["length"].to_numpy() > 4
    np.testing.assert_array_equal(found.take(some).numeric.oof["length"], expected["length"][some])


def test_what_is_text_or_lacks_numbers_or_stands_in_one_table_is_no_numeric_column(full_run: Any) -> None:
    data = full_run.data
    n_train, n_test = len(data.train), len(data.test)
    holes = pa.array([None, float("nan"), *[1.0] * (n_train - 2)])
    data = add_column(data, "holes", holes, pa.array([*[1.0] * (n_test - 1), float("inf")]))
    data = add_column(data, "words", pa.array(["a"] * n_train), pa.array(["b"] * n_test))
    data = replace(data, train=data.train.append_column("alone", pa.array(np.arange(n_train))))
    found = load_predictions([full_run.path], data)
    assert dict(found.numeric.oof) == {}
    assert found.left_out == ("column holes: 3 rows have no finite number in it",)
    assert load_predictions([full_run.path], full_run.data).left_out == ()
