"""What the report shows of a prepared folder: folds, lengths in tokens, and how test rows differ from train rows."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.audit.audit_report import AuditReport
from data_prep.prepared import Prepared
from data_prep.store.files import exists, join, read_bytes
from data_prep.store.tables import one_array
from data_prep.task import Task

PIECE = re.compile(r"\w{1,7}|[^\w\s]")
"""Stands in for a tokenizer, as in a plan: a word has one token for each seven letters, a sign has its own."""
WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class ColumnLengths:
    """Estimated tokens of one text column, or of all together."""

    name: str
    train: NDArray[np.int64]
    """[train rows]"""
    test: NDArray[np.int64]
    """[test rows]"""


@dataclass(frozen=True)
class TextDrift:
    """How the test texts of one column differ from the train texts."""

    column: str
    train_texts: int
    """Different texts."""
    test_texts: int
    seen_texts: float
    """Share of test rows whose text occurs in train."""
    train_words: int
    """Different words."""
    test_words: int
    seen_words: float
    """Share of the words in test texts that occur in train."""
    train_tokens: float
    """Mean tokens, estimated."""
    test_tokens: float


@dataclass(frozen=True)
class ShareDrift:
    """How often a value occurs in train and in test."""

    value: str
    train: int
    test: int
    train_share: float
    test_share: float


@dataclass(frozen=True)
class FoldRowsCount:
    """One fold."""

    name: str
    rows: int
    groups: int
    score_mean: float
    score_counts: tuple[int, ...]
    """Rows with each legal score; none where any score is legal."""


def fold_counts(data: Prepared) -> tuple[FoldRowsCount, ...]:
    """Count the rows of each fold; the holdout comes last."""
    group = data.train["group"].to_numpy()
    score, levels = data.one_target, level_names(data.task)
    found = []
    for number in sorted(np.unique(data.folds).tolist(), key=lambda each: (each < 0, each)):
        mine = data.in_fold(number)
        found.append(
            FoldRowsCount(
                name="holdout" if number < 0 else str(number),
                rows=int(mine.sum()),
                groups=len(np.unique(group[mine])),
                score_mean=float(score[mine].mean(dtype=np.float64)),
                score_counts=tuple(int(np.isclose(score[mine], level).sum()) for level in levels.values()),
            )
        )
    return tuple(found)


def level_names(task: Task) -> dict[str, float]:
    """Return how each legal value of `Prepared.one_target` is called: a level, or a class; none: any value is legal."""
    if task.classes is not None:
        return {name: float(number) for number, name in enumerate(task.classes)}
    return {} if task.score_columns else {f"{level:g}": level for level in task.score_levels or ()}


def read_audit(data: Prepared) -> AuditReport | None:
    """Return the audit that lies in the prepared folder, if there is one of this data that this version can read."""
    path = join(data.path, "audit.json")
    if not exists(path):
        return None
    try:
        found = AuditReport.model_validate_json(read_bytes(path))
    except ValueError:
        return None
    same = (found.data_hash, found.split_hash) == (data.manifest.data_hash, data.manifest.split_hash)
    return found if same else None


def token_lengths(data: Prepared) -> tuple[ColumnLengths, ...]:
    """Estimate the tokens of each text column, and of a row's texts together."""
    names = [*data.task.text_columns, *(["context_text"] if data.task.cpc_column else [])]
    found = [ColumnLengths(name, _count(data.train[name]), _count(data.test[name])) for name in names]
    if len(found) == 1:
        return tuple(found)
    whole = [part for part in found if part.name != data.task.cpc_column or "context_text" not in names]
    train, test = (np.sum([getattr(part, kind) for part in whole], axis=0) for kind in ("train", "test"))
    return (*found, ColumnLengths("all texts of a row", train, test))


def _count(column: pa.ChunkedArray) -> NDArray[np.int64]:
    coded = one_array(column).dictionary_encode()
    lengths = np.array([len(PIECE.findall(text)) for text in coded.dictionary.to_pylist()], dtype=np.int64)
    return lengths[coded.indices.to_numpy()] if len(coded) else np.zeros(0, dtype=np.int64)


def text_drift(data: Prepared, lengths: Sequence[ColumnLengths]) -> tuple[TextDrift, ...]:
    """Compare the texts of test with those of train, column by column."""
    by_name = {each.name: each for each in lengths}
    found = []
    for name in data.task.text_columns:
        train, test = data.train[name].to_pylist(), data.test[name].to_pylist()
        known, words = set(train), _words(set(train))
        test_words = _words(test)
        n_words = sum(test_words.values())
        found.append(
            TextDrift(
                column=name,
                train_texts=len(known),
                test_texts=len(set(test)),
                seen_texts=sum(text in known for text in test) / max(len(test), 1),
                train_words=len(words),
                test_words=len(test_words),
                seen_words=sum(times for word, times in test_words.items() if word in words) / max(n_words, 1),
                train_tokens=float(by_name[name].train.mean()),
                test_tokens=float(by_name[name].test.mean()) if len(test) else float("nan"),
            )
        )
    return tuple(found)


def _words(texts: "Sequence[str] | set[str]") -> Counter[str]:
    return Counter(word for text in texts for word in WORD.findall(text.lower()))


def context_drift(data: Prepared, *, most: int) -> tuple[str, tuple[ShareDrift, ...]] | None:
    """Compare how often the values of the context occur, the largest changes first; None where there is no context.

    The context is the column of CPC codes, else the third text, else the group column if it is a text.
    """
    task = data.task
    third = task.text_columns[2] if len(task.text_columns) == 3 else None
    column = task.cpc_column or third
    if column is None or not data.test.num_rows:
        return None
    train, test = Counter(data.train[column].to_pylist()), Counter(data.test[column].to_pylist())
    n_train, n_test = sum(train.values()), sum(test.values())
    shares = [
        ShareDrift(value, train[value], test[value], train[value] / n_train, test[value] / n_test)
        for value in sorted(train | test)
    ]
    shares.sort(key=lambda each: -abs(each.test_share - each.train_share))
    return column, tuple(shares[:most])
