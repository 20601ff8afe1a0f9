"""`Task`: the columns, legal scores and metric of a competition."""

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from data_prep.errors import InputError
from data_prep.frozen_record import FrozenSettings, GrowingRecord
from data_prep.given_name import GivenName
from data_prep.scoring.metrics import Metric
from data_prep.scoring.own_metric import SIGN
from data_prep.store.tables import column_names
from data_prep.targets.classes import Classes
from data_prep.targets.one_number import OneNumber
from data_prep.targets.several_numbers import SeveralNumbers
from data_prep.targets.target_kind import TargetKind

GREATEST_SCORE = float(np.finfo(np.float32).max)
"""Prepared tables hold scores as float32."""
MOST_TEXTS = 10
MOST_TARGETS = 30
MOST_CLASSES = 100
RESERVED_COLUMNS = ("id", "score", "group", "fold", "context_text", "prediction")


ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]


class Task(GrowingRecord, FrozenSettings):
    """The columns, legal scores and metric of one competition; tasks other than PPPM come from a YAML file.

    A table of a task has texts, mostly an id and, in training, a score, which is the target. What the target may be,
    `data_prep.targets` says. Prepared tables call the id `id` and the target `score`, or `score_<name>` where it is
    more than a number; text columns keep the names given here.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"text_labels", "empty", "score_columns", "classes", "weight_column", "metric_source", "search_metric"}
    )

    name: GivenName
    id_column: str | None = "id"
    """Where a file lacks it and it was not named, and where it is None, rows have their number as id, from 0."""
    text_columns: tuple[str, ...] = Field(min_length=1, max_length=MOST_TEXTS)
    """In reading order: the first is the phrase compared with (anchor), the second the phrase scored (target),
    the third the context; recipe `texts` reads all of them."""
    text_labels: tuple[str, ...] | None = None
    """What recipe `texts` puts ahead of each text, such as `[ESSAY]`; None: a separator stands between them."""
    empty: Literal["error", "keep", "drop"] = "error"
    """Whether rows with an empty text are faults, are kept, or are dropped from train (test rows are always kept)."""
    score_column: str = "score"
    score_columns: tuple[str, ...] | None = None
    """In place of `score_column`: a number in each, some may be missing; with `classes`, the share of each class."""
    classes: tuple[ClassName, ...] | None = None
    """The texts that may stand in `score_column`, or a name for each of `score_columns`."""
    weight_column: str | None = None
    """How much each train row counts in the loss, above 0; None: all the same."""
    score_levels: tuple[float, ...] | None = None
    """The legal scores, ascending; None: any score in `score_range`."""
    score_range: tuple[float, float] | None = None
    """Least and greatest legal score, both included; None: from the levels."""
    group_column: str | None = None
    """Rows with the same value are never on both sides of a split; None: every row is its own group."""
    link_column: str | None = None
    """A text column that joins groups: a value that is the name of a group links the row's group to it."""
    cpc_column: str | None = None
    """The text column with CPC codes, if there is one; their titles become `context_text`."""
    metric: str = "pearson"
    """A name in `data_prep.scoring.metrics.METRICS`, or `file.py:function`: one of your own, beside the task file."""
    metric_source: str | None = None
    """The text of that file."""
    search_metric: str | None = None
    """With a metric of your own: the one in `METRICS` that a search compares by; None: pearson, of classes log loss."""

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        columns = [*([] if self.id_column is None else [self.id_column]), *self.text_columns, *self.target_columns]
        columns += [] if self.weight_column is None else [self.weight_column]
        if len(set(columns)) != len(columns):
            raise ValueError(f"id, text, score and weight columns must differ, got {columns}")
        if taken := sorted(set(self.text_columns) & self.reserved_columns):
            raise ValueError(f"text columns may not be called {taken}: prepared tables use these names")
        for role in ("link_column", "cpc_column"):
            column = getattr(self, role)
            if column is not None and column not in self.text_columns:
                raise ValueError(f"{role} must be one of text_columns {list(self.text_columns)}, got {column!r}")
        if self.text_labels is not None and len(self.text_labels) != len(self.text_columns):
            raise ValueError(
                f"text_labels needs one label for each of the {len(self.text_columns)} text_columns, got "
                f"{list(self.text_labels)}"
            )
        if self.text_labels is not None and not all(label.strip() == label and label for label in self.text_labels):
            raise ValueError(f"a label is a text without spaces at its ends, got {list(self.text_labels)}")
        if self.link_column is not None and self.group_column is None:
            raise ValueError("link_column needs group_column: there are no groups to link without it")
        if self.group_column and self.group_column in (self.id_column, *self.target_columns):
            raise ValueError(f"group_column may not be the id or score column, got {self.group_column!r}")
        return self

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if self.score_columns is not None and self.score_column != "score":
            raise ValueError("give score_column (one target) or score_columns (several), not both")
        if self.score_columns is not None and not 2 <= len(self.score_columns) <= MOST_TARGETS:
            raise ValueError(
                f"score_columns must be 2 to {MOST_TARGETS}, got {len(self.score_columns)}; one is a score_column"
            )
        if self.classes is None:
            return self
        if not 2 <= len(self.classes) <= MOST_CLASSES or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be 2 to {MOST_CLASSES} different names, got {list(self.classes)}")
        if not all(name.strip() == name and name and name.isprintable() for name in self.classes):
            raise ValueError(f"a class is a text on one line, without spaces at its ends, got {list(self.classes)}")
        if self.score_columns is None and self.submission_id in self.classes:
            raise ValueError(f"a class may not be called like the id column, {self.submission_id!r}")
        if self.score_columns is not None and len(self.score_columns) != len(self.classes):
            raise ValueError(
                f"classes needs a name for each of the {len(self.score_columns)} score_columns, got "
                f"{list(self.classes)}"
            )
        if self.score_levels is not None or self.score_range is not None:
            raise ValueError("classes have no score_levels and no score_range: leave them out")
        return self

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        if self.classes is not None:
            return self
        if self.score_levels is None and self.score_range is None:
            raise ValueError("give score_levels (the legal scores) or score_range ([least, greatest])")
        levels, limits = list(self.score_levels or ()), list(self.score_range or ())
        if not all(abs(score) <= GREATEST_SCORE for score in levels + limits):
            raise ValueError(
                f"scores must be finite as float32 (at most 3.4e38), got score_levels {levels}, score_range {limits}"
            )
        if self.score_levels is not None and (len(levels) < 2 or levels != sorted(set(levels))):
            raise ValueError(f"score_levels must be at least two, ascend and not repeat, got {levels}")
        if len(np.unique(np.array(levels, np.float32))) < len(levels):
            raise ValueError(f"score_levels must differ as float32, got {levels}")
        if limits and not limits[0] < limits[1]:
            raise ValueError(f"score_range must be [least, greatest], got {limits}")
        if levels and limits and not limits[0] <= levels[0] <= levels[-1] <= limits[1]:
            raise ValueError(f"score_levels {levels} must lie in score_range {limits}")
        return self

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        if self.search_metric is not None and not self.has_own_metric:
            raise ValueError("search_metric goes with a metric of your own; leave it out")
        self.search_measure  # noqa: B018 - the metric must suit the target
        return self

    @property
    def submission_id(self) -> str:
        """Name of the id column of a submission."""
        return self.id_column or "id"

    @property
    def target(self) -> TargetKind:
        """What is predicted for a row."""
        columns = self.target_columns
        if self.classes is not None:
            return Classes(columns=columns, classes=self.classes)
        limits = self.score_range or self.score_levels or ()
        kind = OneNumber if self.score_columns is None else SeveralNumbers
        return kind(columns=columns, levels=self.score_levels, least=min(limits), greatest=max(limits))

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of a train file that hold the targets."""
        return (self.score_column,) if self.score_columns is None else self.score_columns

    @property
    def reserved_columns(self) -> set[str]:
        """Names that prepared and prediction tables use for other things than texts."""
        names = self.classes or self.score_columns or ()
        weight = {"weight"} if self.weight_column else set()
        return {*RESERVED_COLUMNS, *weight, *column_names("score", names), *column_names("prediction", names)}

    @property
    def least(self) -> float:
        """The least legal score, or share of a class."""
        return self.target.least

    @property
    def greatest(self) -> float:
        """The greatest legal score, or share of a class."""
        return self.target.greatest

    @property
    def measure(self) -> Metric:
        """The task's metric.

        Raises:
            InputError: it is one of your own, and cannot be run.
        """
        if not self.has_own_metric:
            return self.search_measure
        if self.metric_source is None:
            raise InputError(f"metric {self.metric}: its file is read together with a task file; give that")
        return self.target.own_metric(self.metric, self.metric_source)

    @property
    def has_own_metric(self) -> bool:
        """Whether the metric is a function of yours."""
        return SIGN in self.metric

    @property
    def search_measure(self) -> Metric:
        """The metric that a search compares candidates by: the task's, unless that is one of your own."""
        own = self.search_metric or self.target.usual_metric
        return self.target.find_metric(own if self.has_own_metric else self.metric)


PPPM = Task(
    name="pppm",
    id_column="id",
    text_columns=("anchor", "target", "context"),
    score_levels=(0.0, 0.25, 0.5, 0.75, 1.0),
    group_column="anchor",
    link_column="target",
    cpc_column="context",
)
"""Kaggle's U.S. Patent Phrase to Phrase Matching."""
