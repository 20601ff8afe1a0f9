"""`Task`: the columns, legal scores and metric of a competition."""

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from data_prep.frozen_record import FrozenSettings, GrowingRecord
from data_prep.given_name import GivenName
from data_prep.scoring.metrics import METRICS, Metric

GREATEST_SCORE = float(np.finfo(np.float32).max)
"""Prepared tables hold scores as float32."""
MOST_TEXTS = 10
RESERVED_COLUMNS = ("id", "score", "group", "fold", "context_text", "prediction")


class Task(GrowingRecord, FrozenSettings):
    """The columns, legal scores and metric of one competition; tasks other than PPPM come from a YAML file.

    A table of a task has texts, mostly an id and, in training, a score, which is the target.
    Prepared tables call the id `id` and the target `score`; text columns keep the names given here.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"text_labels", "empty"})

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

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        columns = [*([] if self.id_column is None else [self.id_column]), *self.text_columns]
        if len(set(columns)) != len(columns) or self.score_column in columns:
            raise ValueError(f"id, text and score columns must differ, got {[*columns, self.score_column]}")
        if taken := sorted(set(self.text_columns) & set(RESERVED_COLUMNS)):
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
        if self.group_column and self.group_column in (self.id_column, self.score_column):
            raise ValueError(f"group_column may not be the id or score column, got {self.group_column!r}")
        return self

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
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
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}; known: {', '.join(METRICS)}")
        if fault := METRICS[self.metric].target_fault(self.score_levels, (self.least, self.greatest)):
            raise ValueError(fault)
        return self

    @property
    def submission_id(self) -> str:
        """Name of the id column of a submission."""
        return self.id_column or "id"

    @property
    def least(self) -> float:
        """The least legal score."""
        return min(self.score_range or self.score_levels or ())

    @property
    def greatest(self) -> float:
        """The greatest legal score."""
        return max(self.score_range or self.score_levels or ())

    @property
    def measure(self) -> Metric:
        """The task's metric."""
        return METRICS[self.metric].for_levels(self.score_levels)


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
