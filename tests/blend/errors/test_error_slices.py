from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import root_mean_squared_error

from blend.errors.error_slices import clustered_error, quantile_bins, slice_columns, slices
from data_prep.errors import InputError


def test_slices_by_context_measure_what_pandas_and_scipy_do(rows):
    found = slices(rows, "context").set_index("value")
    assert list(found.index) == ["A01", "B23", "B60", "Y10"]
    for context, part in rows.frame.groupby("context"):
        one = found.loc[context]
        assert (one["n"], one["groups"]) == (len(part), part["group"].nunique())
        assert one["metric"] == pytest.approx(pearsonr(part["score"], part["prediction"]).statistic)
        assert one["bias"] == pytest.approx((part["prediction"] - part["score"]).mean())
        assert one["rmse"] == pytest.approx(root_mean_squared_error(part["score"], part["prediction"]))
    assert found["bias"].idxmax() == "B60"
    assert found["few"].to_dict() == {"A01": False, "B23": False, "B60": False, "Y10": True}


def test_every_row_is_in_one_slice_of_each_column_worth_slicing_by(rows):
    found = slices(rows)
    assert list(dict.fromkeys(found["column"])) == slice_columns(rows)
    assert slice_columns(rows) == ["context", "year", "section", "length", "fold", "score"]
    assert (found.groupby("column")["n"].sum() == len(rows.frame)).all()


def test_numbers_are_sliced_by_value_or_between_quantiles_in_their_order(rows):
    assert list(slices(rows, "year")["value"]) == ["2000", "2001", "2002"]
    lengths = slices(rows, "length")
    ends = [tuple(map(float, value.split(" to "))) for value in lengths["value"]]
    assert len(ends) == 5
    assert ends == sorted(ends)
    low, high = ends[1]
    assert rows.frame["length"].between(low, high).sum() == lengths["n"][1]


def test_numbers_that_are_nearly_equal_stay_apart(rows):
    frame = rows.frame.assign(year=np.where(np.arange(400) % 2, 1_000_001.0, 1_000_002.0), zero=[0.0, -0.0] * 200)
    found = slices(replace(rows, frame=frame), ["year", "zero"])
    assert found[["value", "n"]].to_numpy().tolist() == [["1000001.0", 200], ["1000002.0", 200], ["0", 400]]


def test_a_score_level_has_a_bias_but_no_correlation(rows):
    found = slices(rows, "score")
    assert found["metric"].isna().all()
    assert found["bias"].notna().all()


def test_missing_values_are_a_slice_of_texts_and_none_of_numbers(rows):
    frame = rows.frame.assign(note=["x", None] * 200, weight=[1.0, np.nan] * 200)
    found = slices(replace(rows, frame=frame), ["note", "weight"])
    assert found[["column", "value", "n"]].to_numpy().tolist() == [
        ["note", "(none)", 200],
        ["note", "x", 200],
        ["weight", "1", 200],
    ]


def test_the_clustered_error_is_how_much_the_mean_varies_between_draws_of_groups():
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(400), 5)
    error = random.normal(size=400)[group] + 0.1 * random.normal(size=2000)
    means = pd.Series(error).groupby(group).mean().to_numpy()
    drawn = [means[random.integers(0, 400, 400)].mean() for _ in range(2000)]
    assert clustered_error(error, group) == pytest.approx(np.std(drawn), rel=0.05)
    assert clustered_error(error, np.arange(2000)) == pytest.approx(error.std(ddof=1) / np.sqrt(2000))
    assert np.isnan(clustered_error(error, np.zeros(2000)))


def test_the_error_of_the_metric_is_that_of_drawing_groups(rows):
    random, frame = np.random.default_rng(0), rows.frame
    parts = [part[["score", "prediction"]].to_numpy() for _, part in frame.groupby("group")]
    drawn = []
    for _ in range(500):
        chosen = np.concatenate([parts[k] for k in random.integers(0, len(parts), len(parts))])
        drawn.append(np.corrcoef(chosen.T)[0, 1])
    found = slices(replace(rows, frame=frame.assign(all="all")), "all")
    assert found["metric_error"][0] == pytest.approx(np.std(drawn), rel=0.2)


def test_equal_values_are_in_the_same_part():
    values = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 3.0, np.nan])
    number, edges = quantile_bins(values, 3)
    assert number.tolist() == [0, 0, 0, 0, 1, 1, -1]
    assert edges == [(1.0, 1.0), (2.0, 3.0)]
    assert quantile_bins(np.ones(5), 10)[1] == [(1.0, 1.0)]


def test_an_unknown_column_is_refused_with_those_there_are(rows):
    with pytest.raises(InputError, match=r"no column 'contxt' to slice by; known: context, year, section"):
        slices(rows, "contxt")
