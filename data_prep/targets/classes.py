"""`Classes`: a row belongs to one of several classes, or to each of them with a share; probabilities are predicted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import quote
from data_prep.scoring.class_metrics import to_shares
from data_prep.scoring.metrics import Metric, Targets
from data_prep.scoring.own_metric import own_metric
from data_prep.targets.target_kind import MISSING, Floats32, TargetKind
from data_prep.wording import count

DECIDED = ("multiclass_accuracy", "macro_f1")
"""Metrics of which a submission names the most probable class."""
RANKED = "map@"
"""Metrics of which a submission names so many classes, the most probable first."""
ROUNDING = 0.02
"""Shares of a row may sum to 1 up to this."""
SHOWN = 20
"""Classes in a message, at most."""


@dataclass(frozen=True, kw_only=True)
class Classes(TargetKind):
    """Classes, by name; a file has the name in one column, or a column with the share of each class."""

    classes: tuple[str, ...]
    least: float = 0.0
    greatest: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the classes."""
        return self.classes

    @property
    def named(self) -> bool:
        """Whether files name a row's class, rather than have a share in each column."""
        return len(self.columns) == 1

    @property
    def usual_metric(self) -> str:
        """The metric of a search where the task has one of its own."""
        return "multiclass_log_loss"

    def own_metric(self, name: str, source: str) -> Metric:
        """Return a metric that a person wrote, of tables [rows, classes]; InputError."""
        return own_metric(name, source, Targets.CLASSES).for_classes(len(self.classes))

    def made_up(self, n_rows: int = 60) -> NDArray[np.float64]:
        """Return one-hot rows [rows, classes]."""
        return np.resize(np.eye(len(self.classes)), (n_rows, len(self.classes)))

    def _suited(self, metric: Metric) -> Metric:
        if metric.targets is not Targets.CLASSES:
            raise ValueError(f"metric {metric.name} does not suit classes; use multiclass_log_loss, for example")
        if metric.name.startswith(RANKED) and any(" " in name for name in self.classes):
            raise ValueError(f"metric {metric.name} needs classes without spaces: a submission lists them with spaces")
        return metric.for_classes(len(self.classes))

    def read_cell(self, text: str) -> float | str:
        """Return the number of the class that `text` names, or the share that it spells; else the rule it breaks."""
        if not self.named:
            return super().read_cell(text)
        if text in self.classes:
            return float(self.classes.index(text))
        shown = ", ".join(quote(name) for name in self.classes[:SHOWN])
        more = f" and {len(self.classes) - SHOWN} more" if len(self.classes) > SHOWN else ""
        return f"must be one of the classes {shown}{more}" if text.strip() else MISSING

    def read_rows(self, cells: Floats32) -> tuple[Floats32, NDArray[np.intp], str]:
        """Return shares; rows whose shares do not sum to 1 are at fault."""
        if self.named:
            numbers = np.nan_to_num(cells[:, 0]).astype(np.intp)
            one_hot: Floats32 = np.eye(len(self.classes), dtype=np.float32)[numbers]
            return one_hot, np.empty(0, dtype=np.intp), ""
        total = cells.sum(axis=1)
        shares = np.asarray(cells / np.where(total > 0, total, 1)[:, None], dtype=np.float32)
        return shares, np.flatnonzero(np.abs(total - 1) > ROUNDING), f"shares of a row must sum to 1 (± {ROUNDING})"

    def remarks(self, targets: Floats32, n_folds: int) -> list[str]:
        """Say which classes have fewer rows than there are folds."""
        rows = np.bincount(targets.argmax(axis=1), minlength=len(self.classes)).tolist()
        rare = [(name, n_rows) for name, n_rows in zip(self.classes, rows, strict=True) if n_rows < n_folds]
        found = ", ".join(f"{quote(name)} ({count(n_rows, 'row')})" for name, n_rows in rare[:SHOWN])
        return [f"{count(len(rare), 'class', 'classes')} with fewer rows than folds: {found}."] if rare else []

    def one_number(self, targets: Floats32) -> Floats32:
        """Return the number of the class with the greatest share."""
        return np.asarray(targets.argmax(axis=1), dtype=np.float32)

    def finished(self, prediction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities that sum to 1 in each row."""
        return to_shares(prediction)

    def submitted(self, prediction: NDArray[np.float64], metric: str) -> dict[str, NDArray[np.float64] | list[str]]:
        """Return a column of probabilities for each class, or one with the classes that the metric asks for."""
        shares = self.finished(prediction)
        if metric in DECIDED or metric.startswith(RANKED):
            most = 1 if metric in DECIDED else int(metric.removeprefix(RANKED))
            order = np.argsort(-shares, axis=1, kind="stable")[:, :most]
            name = self.columns[0] if self.named else "prediction"
            return {name: [" ".join(self.classes[place] for place in row) for row in order.tolist()]}
        return dict(zip(self.classes if self.named else self.columns, shares.T, strict=True))
