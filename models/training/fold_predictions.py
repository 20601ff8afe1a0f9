"""What a fold run predicts: validation rows, measured, and in the end test and holdout rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.prepared import PreparedManifest
from data_prep.scoring.metrics import Metric, Targets
from data_prep.store.oof_store import Provenance
from data_prep.store.tables import column_names, oof_schema, prediction_schema
from data_prep.targets.target_columns import numbers_of
from models.candidate import Candidate
from models.parts.output_anchor import OutputAnchor
from models.text.fold_pools import FoldPools
from models.text.row_pool import RowPool
from models.training.fold_weights import FoldWeights
from models.training.learner import Learner
from models.training.rung_steps import rung_sample

ANCHOR_ROWS = 4096
"""Training rows that outputs are anchored by: a mean over so many is firm to a hundredth of their deviation."""


@dataclass(frozen=True)
class FoldPredictions:
    """What a finished fold run leaves."""

    candidate: Candidate
    oof: pa.Table
    """`oof_schema`: the fold's rows in prepared order."""
    test: pa.Table | None
    """`prediction_schema`: all test rows in prepared order; None where the data has none."""
    holdout: pa.Table | None
    """`oof_schema`: the holdout rows in prepared order; None where the split has none."""
    metric: float
    """The task's metric on the whole fold; NaN as in `RungReport`, and where other rows' predictions are not finite."""
    epoch: float
    """Epochs trained when the weights that predict were reached."""
    seconds: float
    provenance: Provenance
    weights: FoldWeights | None
    """What predicts, where `keep_weights` is set."""


class FoldPredictor:
    """Predicts the rows that a fold run keeps from training, and measures those with a target."""

    def __init__(
        self, learner: Learner, pools: FoldPools, candidate: Candidate, manifest: PreparedManifest, fold: int
    ) -> None:
        self._learner, self._pools = learner, pools
        self._candidate, self._manifest, self._fold = candidate, manifest, fold

    def predict_validation(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return predictions for some validation rows (None: all)."""
        return self._learner.predict_pool(self._pools.validation, rows)

    def anchor_outputs(self) -> None:
        """Give the outputs the level and scale of the training targets, by a sample of the training rows."""
        rows, targets = rung_sample(len(self._pools.train), ANCHOR_ROWS), self._pools.train.targets
        assert targets is not None
        prediction = self._learner.predict_pool(self._pools.train, rows)
        self._learner.anchor = OutputAnchor.fit(self._learner.scorer.head.last_layers, prediction, targets[rows])

    def measure_validation(self, prediction: NDArray[np.float32], rows: NDArray[np.int64] | None = None) -> float:
        """Return the metric of predictions for some validation rows (None: all); NaN where they say nothing."""
        targets = self._pools.validation.targets
        assert targets is not None
        metric = self._manifest.task.search_measure
        return measure_predictions(metric, targets if rows is None else targets[rows], prediction)

    def predict_rest(
        self,
        validation: NDArray[np.float32],
        *,
        metric: float,
        epoch: float,
        seconds: Callable[[], float],
        keep_weights: bool,
    ) -> FoldPredictions:
        """Predict test and holdout rows; return the whole result of the fold run."""
        oof = self._table(self._pools.validation, validation)
        test, holdout = self._predict(self._pools.test), self._predict(self._pools.holdout)
        others = [numbers_of(table, "prediction") for table in (test, holdout) if table is not None]
        if not all(np.isfinite(prediction).all() for prediction in others):
            metric = math.nan
        provenance = Provenance(
            candidate=self._candidate.id,
            fold=self._fold,
            data_hash=self._manifest.data_hash,
            split_hash=self._manifest.split_hash,
            seed=self._candidate.seed,
            epoch=epoch,
            micro_batches=self._learner.retry.micro_batches,
        )
        weights = None
        if keep_weights:
            weights = FoldWeights(self._candidate, provenance, self._learner.token_ids(), self._learner.weights())
        return FoldPredictions(
            candidate=self._candidate,
            oof=oof,
            test=test,
            holdout=holdout,
            metric=metric,
            epoch=epoch,
            seconds=seconds(),
            provenance=provenance,
            weights=weights,
        )

    def _predict(self, pool: RowPool | None) -> pa.Table | None:
        return None if pool is None else self._table(pool, self._learner.predict_pool(pool))

    def _table(self, pool: RowPool, prediction: NDArray[np.float32]) -> pa.Table:
        names = self._manifest.task.target.names
        schema = prediction_schema(names) if pool.targets is None else oof_schema(names)
        columns = dict(zip(column_names("prediction", names), np.atleast_2d(prediction.T), strict=True))
        columns["fold"] = np.full(len(prediction), self._fold, dtype=np.int8)
        kept = {name: pool.table[name] for name in schema.names if name not in columns}
        return pa.table({**kept, **columns}).select(schema.names).cast(schema)


def describe_fault(prediction: NDArray[np.float32], *, broken: Sequence[str], diverged: bool) -> str:
    """Say why predictions have no metric; `broken` are the tensors of the model that are not all numbers."""
    if broken:
        return f"{len(broken)} tensors of the model hold NaN or infinite numbers, such as {broken[0]}"
    if diverged:
        return "the training loss diverged"
    if not np.isfinite(prediction).all():
        return "predictions are NaN or infinite"
    if _constant(prediction):
        same = ", ".join(f"{number:.4g}" for number in np.atleast_1d(prediction[0]))
        return f"all predictions are the same ({same})"
    return "the metric is undefined for these rows"


def measure_predictions(metric: Metric, targets: NDArray[np.float32], prediction: NDArray[np.float32]) -> float:
    """Return the metric of predictions; NaN where they say nothing: some are not finite, or all rows' are the same.

    Of several numbers those count that have a metric here at all: a few rows may have none of a rare one, or all alike.
    """
    if not np.isfinite(prediction).all() or _constant(prediction):
        return math.nan
    if targets.ndim == 1 or metric.targets is Targets.CLASSES:
        return metric(targets, prediction)
    known = [truth[~np.isnan(truth)] for truth in targets.T]
    measured = [place for place, truth in enumerate(known) if len(truth) and not math.isnan(metric(truth, truth))]
    return metric(targets[:, measured], prediction[:, measured]) if measured else math.nan


def _constant(prediction: NDArray[np.float32]) -> bool:
    """Tell whether all rows have the same prediction."""
    return bool((prediction.min(axis=0) == prediction.max(axis=0)).all())
