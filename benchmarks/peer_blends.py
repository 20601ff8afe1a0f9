"""Fit ensemble weights with AutoGluon and hillclimbers, for `bench_blend_scale.py --peers`.

    peers/bin/python benchmarks/peer_blends.py FOLDER

Needs neither blendfold nor its dependencies. Reads columns.npy [rows, candidates], score.npy and fold.npy [rows] from
the folder. Each package fits weights without each fold and predicts that fold, then fits them once more on all rows.
Writes each package's nested predictions [rows] as .npy, and seconds.json.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hillclimbers
import numpy as np
import pandas as pd
from autogluon.core.metrics import get_metric
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

Blend = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From columns [rows, candidates] and score [rows] of known rows, and columns of others, to predictions of those."""


def ensemble_selection(columns: np.ndarray, score: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Select greedily, with replacement, 100 steps: AutoGluon's default."""
    selection = EnsembleSelection(100, problem_type="regression", metric=get_metric("pearsonr", "regression"))
    selection.fit(list(np.ascontiguousarray(columns.T)), score)
    return np.asarray(others @ selection.weights_)


def climb_hill(columns: np.ndarray, score: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Add one candidate after the other, each with the best of 50 weights: hillclimbers' defaults."""
    names = [f"c{number}" for number in range(columns.shape[1])]
    with contextlib.redirect_stdout(io.StringIO()):
        return np.asarray(
            hillclimbers.climb_hill(
                train=pd.DataFrame({"score": score}),
                oof_pred_df=pd.DataFrame(columns, columns=names),
                test_pred_df=pd.DataFrame(others, columns=names),
                target="score",
                objective="maximize",
                eval_metric=hillclimbers.partial(pearson),
                plot_hill=False,
            )
        )


def pearson(score: pd.Series, prediction: pd.Series) -> float:
    """Return Pearson's correlation, by numpy's fastest way."""
    x, y = score.to_numpy() - score.to_numpy().mean(), prediction.to_numpy() - prediction.to_numpy().mean()
    return float(x @ y) / float(np.sqrt((x @ x) * (y @ y)))


def main(folder: Path) -> None:
    """Blend with each package and keep what it predicts and how long it took."""
    columns, score, fold = (np.load(folder / f"{name}.npy") for name in ("columns", "score", "fold"))
    blends: dict[str, Blend] = {"AutoGluon ensemble selection": ensemble_selection, "hillclimbers": climb_hill}
    seconds = {}
    for name, blend in blends.items():
        start, nested = time.perf_counter(), np.empty(len(score))
        for held_out in np.unique(fold):
            seen = fold != held_out
            nested[~seen] = blend(columns[seen], score[seen], columns[~seen])
        blend(columns, score, columns[:1])
        seconds[name] = time.perf_counter() - start
        np.save(folder / f"{name}.npy", nested)
    (folder / "seconds.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
