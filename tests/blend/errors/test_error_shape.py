from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from blend.errors.error_shape import calibration, confusion, error_histogram, worst_rows
from data_prep.task import Task


def test_worst_rows_have_the_greatest_absolute_errors(rows):
    found = worst_rows(rows, 7)
    size = (rows.frame["prediction"] - rows.frame["score"]).abs()
    assert list(found["id"]) == list(rows.frame["id"][size.sort_values(ascending=False).index[:7]])
    assert found["error"].min() < 0 < found["error"].max()


def test_the_worst_row_of_each_value_comes_once(rows):
    found = worst_rows(rows, 3, by="context")
    expected = rows.frame.assign(size=rows.frame["error"].abs()).groupby("context")["size"].max().nlargest(3)
    assert list(found["context"]) == list(expected.index)
    assert list(found["error"].abs()) == list(expected)


def test_confusion_counts_nearest_levels_as_scikit_learn_does(rows):
    levels = np.array(rows.task.score_levels)
    nearest = np.abs(rows.frame["prediction"].to_numpy()[:, None] - levels).argmin(axis=1)
    found = confusion(rows)
    assert found.to_numpy().tolist() == confusion_matrix((rows.frame["score"] * 4).astype(int), nearest).tolist()
    assert list(found.index) == list(found.columns) == list(levels)


def test_a_task_without_levels_has_a_confusion_only_of_few_scores(rows):
    task = Task(name="toy", text_columns=("anchor", "target"), score_range=(0, 1))
    manifest = rows.data.manifest.model_copy(update={"task": task})
    free = replace(rows, data=replace(rows.data, manifest=manifest))
    assert confusion(free).equals(confusion(rows))
    assert confusion(replace(free, frame=rows.frame.assign(score=np.linspace(0, 1, 400)))).empty


def test_calibration_compares_means_in_tenths_of_the_rows(rows):
    found, frame = calibration(rows), rows.frame
    tenth = pd.qcut(frame["prediction"], 10, labels=False)
    assert list(found["n"]) == [40] * 10
    np.testing.assert_allclose(found["mean_score"], frame["score"].groupby(tenth).mean())
    np.testing.assert_allclose(found["mean_prediction"], frame["prediction"].groupby(tenth).mean())
    assert (found["standard_error"] > 0).all()


def test_rows_predicted_equal_stay_together(rows):
    found = calibration(replace(rows, frame=rows.frame.assign(prediction=0.5)))
    assert found[["n", "low", "high"]].to_numpy().tolist() == [[400, 0.5, 0.5]]


def test_the_histogram_holds_every_row_around_zero(rows):
    found = error_histogram(rows, 10)
    assert found["n"].sum() == len(rows.frame)
    assert found["low"][5] == pytest.approx(0.0)
    assert found["n"][5:].sum() == (rows.frame["error"] >= 0).sum()
