"""Weights that several targets share: held to scipy's solver, honest where they are nested, refused where idle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import nnls

import blendfold as bf
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.fit.shared_weights import shared_weights
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS
from wide_run import CLASSES, SEVERAL, wide_data, wide_run

N_ROWS, N_FOLDS, SPREADS = 200, 4, (0.4, 0.5, 0.9)
SCALES = (1.0, 50.0)


def predictions(seed: int, scale: float, missing: float = 0.0) -> MemberPredictions:
    """Return three candidates for one target, whose scale is given."""
    random = np.random.default_rng(seed)
    target = scale * random.normal(size=N_ROWS)
    columns = target[:, None] + scale * random.normal(size=(N_ROWS, 3)) * SPREADS
    fold = (np.arange(N_ROWS) * N_FOLDS // N_ROWS).astype(np.int8)
    there = random.random(N_ROWS) >= missing
    target, columns, fold, row = target[there], columns[there], fold[there], np.arange(N_ROWS)[there]
    return MemberPredictions(
        tuple(Member(name, name, "tiny", "run", "split") for name in "abc"),
        (),
        tuple(
            MemberColumns(tuple(column[fold == k].astype(np.float32) for k in range(N_FOLDS)), (), ())
            for column in columns.T
        ),
        pa.array(row.astype(str)),
        target,
        fold,
        row.astype(np.int32),
        None,
    )


def standardized(rows: MemberPredictions, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and target of some rows as least squares takes them: each fold centred, target of length 1."""
    columns, target = rows.oof(range(3))[chosen], rows.target[chosen]
    columns, target = columns - columns.mean(axis=0), target - target.mean()
    return columns / np.linalg.norm(target), target / np.linalg.norm(target)


def test_shared_weights_are_the_least_squares_of_all_targets_each_counted_the_same() -> None:
    targets = [predictions(seed, scale, missing=0.2) for seed, scale in enumerate(SCALES)]
    making = shared_weights(targets, 0, METRICS["pearson"])
    assert making is not None
    fit = fit_blend(targets[0], METRICS["pearson"], BlendSettings(), None, making)
    place = fit.tournament.names.index("shared+line")
    tables = [standardized(rows, np.ones(len(rows.target), bool)) for rows in targets]
    expected = nnls(np.vstack([x for x, _ in tables]), np.concatenate([y for _, y in tables]))[0]
    assert fit.tournament.formulas[place].search.weights == pytest.approx(expected / expected.sum(), rel=1e-6)

    unit = 2
    parts = [standardized(rows, rows.fold != unit) for rows in targets]
    apart = nnls(np.vstack([x for x, _ in parts]), np.concatenate([y for _, y in parts]))[0]
    assert fit.tournament.without[unit][place].search.weights == pytest.approx(apart / apart.sum(), rel=1e-6)


def test_what_is_left_out_is_left_out_of_the_other_targets_too() -> None:
    own, other = (predictions(seed, scale) for seed, scale in enumerate(SCALES))
    wild = replace(other, target=np.where(other.fold == 2, -9 * other.target, other.target))
    fits = [
        fit_blend(own, METRICS["rmse"], BlendSettings(), None, shared_weights([own, one], 0, METRICS["rmse"]))
        for one in (other, wild)
    ]
    place = fits[0].tournament.names.index("shared+line")
    calm, moved = (fit.tournament.without for fit in fits)
    assert (calm[2][place].search.weights == moved[2][place].search.weights).all()
    assert (calm[1][place].search.weights != moved[1][place].search.weights).any()


def test_units_are_told_apart_by_group_where_groups_are_few_and_by_the_first_repeat() -> None:
    own, other = (predictions(seed, scale) for seed, scale in enumerate(SCALES))
    few = [replace(rows, group=(rows.group % 5).astype(np.int32)) for rows in (own, other)]
    making = shared_weights(few, 0, METRICS["rmse"])
    assert making is not None
    assert sorted(making.others[0]) == [0, 1, 2, 3, 4]
    assert making.others[0][3].count == (few[1].group == 3).sum()
    assert shared_weights([few[0], other], 0, METRICS["rmse"]) is None, "one is split by groups, the other by folds"
    twice = replace(other, row=np.arange(N_ROWS) % (N_ROWS // 2))
    repeated = shared_weights([replace(own, row=twice.row), twice], 0, METRICS["rmse"])
    assert repeated is not None
    assert sorted(repeated.others[0]) == [0, 1], "folds 2 and 3 are the second repeat of the rows of folds 0 and 1"


def test_targets_without_the_same_candidates_share_nothing() -> None:
    own, other = (predictions(seed, scale) for seed, scale in enumerate(SCALES))
    fewer = replace(other, members=other.members[:2], columns=other.columns[:2])
    assert shared_weights([own, fewer], 0, METRICS["rmse"]) is None
    assert shared_weights([own, fewer], 1, METRICS["rmse"]) is not None


def test_they_compete_where_they_are_asked_for(tmp_path: Path) -> None:
    wide_run(tmp_path / "run", wide_data(tmp_path, SEVERAL, missing=0.2), [0.5, 0.6, 0.9])
    run = bf.Run(tmp_path / "run")
    ways = run.blend(name="both", shared_weights=True).whole.by_target
    assert all("shared+line" in blend.makings for blend in ways.values())
    assert "shared+line" not in run.blend(name="apart").ways.index
    with pytest.raises(InputError, match="--shared-weights: does not go with --method, --parsimony"):
        run.blend(name="x", shared_weights=True, method="nnls", parsimony=True)


def test_they_are_refused_where_there_is_one_blend(tmp_path: Path) -> None:
    wide_run(tmp_path / "run", wide_data(tmp_path, CLASSES), [0.5])
    with pytest.raises(InputError, match="one set of weights anyway"):
        bf.Run(tmp_path / "run").blend(shared_weights=True)
