"""Guesses of a task from the files alone: what each column is for, the legal scores, groups, metric."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.cpc import shipped_texts
from data_prep.errors import InputError, InputFaults
from data_prep.prepare.file_columns import INDEX_NAME, typed
from data_prep.prepare.guess_targets import ID_NAME, guess_targets
from data_prep.store.files import absolute
from data_prep.store.table_records import listed_columns, read_chosen, read_header
from data_prep.store.text_encodings import UTF8
from data_prep.store.yaml_documents import check_document
from data_prep.task import MOST_TEXTS, RESERVED_COLUMNS, Task

LEAST_GROUPS = 5
WORDS_OF_A_TEXT = 1.5
"""Words on average, from which a column is a text."""


@dataclass(frozen=True)
class TaskGuess:
    """A task, with the reason for each key that was guessed."""

    task: Task
    reasons: dict[str, str]
    n_rows: int
    words: int
    """Words of all texts of a row, which 99 % of the train rows do not exceed."""


def guess_task(
    train: str | Path, test: str | Path | None = None, sample: str | Path | None = None, *, encoding: str = UTF8
) -> TaskGuess:
    """Guess the task of a competition from its files; `sample` is its sample submission.

    Raises:
        InputError: a file cannot be read, or train has no column that could be the score or none of texts.
    """
    faults = InputFaults()
    names: list[str] = []

    def choose(columns: Sequence[str], _: str) -> Sequence[str]:
        names.extend(name for name in dict.fromkeys(columns) if not INDEX_NAME.fullmatch(name))
        return names

    records = read_chosen(train, choose, faults=faults, encoding=encoding)
    in_test = None if test is None else _header(test, faults, encoding)
    in_sample = None if sample is None else read_header(sample, faults)
    faults.raise_all()
    assert records is not None
    columns = {name: _typed(records.table[name]) for name in records.table.column_names}
    return _Guesser(columns, in_test, in_sample).guess(_name_of(train))


def _name_of(train: str | Path) -> str:
    """Return a name for a task: that of the file, or where this only says what it is for, that of its folder."""
    *_, folder, file = ["", *absolute(train).partition("?")[0].rsplit("/", 2)]
    stem = file.split(".")[0]
    name = folder if stem.lower() in ("train", "training", "data") else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "task"


def _typed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers as numbers; true and false stay texts, as they are the names of two classes."""
    found = typed(texts)
    return texts if found.type == pa.int8() else found


def _header(path: str | Path, faults: InputFaults, encoding: str) -> list[str]:
    found: list[str] = []

    def choose(columns: Sequence[str], _: str) -> Sequence[str]:
        found.extend(columns)
        return ()

    read_chosen(path, choose, faults=faults, encoding=encoding)
    return found


class _Guesser:
    """Guesses one thing after the other, and keeps why."""

    def __init__(
        self, columns: dict[str, pa.ChunkedArray], in_test: list[str] | None, in_sample: list[str] | None
    ) -> None:
        self._columns, self._in_test, self._in_sample = columns, in_test, in_sample
        self._n_rows = len(next(iter(columns.values())))
        self._reasons: dict[str, str] = {}

    def guess(self, name: str) -> TaskGuess:
        id_column = self._guess_id()
        target = guess_targets(self._columns, id_column, self._in_test, self._in_sample)
        self._reasons |= target.reasons
        taken = {id_column, *target.columns}
        codes = self._guess_codes(taken)
        texts = [*self._guess_texts({*taken, codes}), *([codes] if codes else [])]
        group = self._guess_group(texts, {*taken, codes})
        settings = {
            "name": name,
            "id_column": id_column,
            "text_columns": texts,
            **target.settings,
            "group_column": group,
            "link_column": self._guess_link(texts, group),
            "cpc_column": codes,
        }
        task = check_document(settings, Task, where="the task that was guessed")
        return TaskGuess(task, self._reasons, self._n_rows, self._words(texts))

    def _guess_id(self) -> str | None:
        for name, values in self._columns.items():
            is_named = bool(ID_NAME.fullmatch(name)) and (self._in_test is None or name in self._in_test)
            if is_named and pc.count_distinct(values).as_py() == self._n_rows:
                self._reasons["id_column"] = "its name, and no value repeats"
                return name
        self._reasons["id_column"] = "no column is named like an id and never repeats; rows are numbered"
        return None

    def _guess_texts(self, taken: set[str | None]) -> list[str]:
        there = [
            name
            for name in self._columns
            if pa.types.is_string(self._columns[name].type)
            and name not in {*taken, *RESERVED_COLUMNS}
            and not name.startswith(("score_", "prediction_"))
            and (self._in_test is None or name in self._in_test)
        ]
        texts = [name for name in there if self._mean_words(name) >= WORDS_OF_A_TEXT]
        self._reasons["text_columns"] = f"texts of {WORDS_OF_A_TEXT:g} words or more on average, in their order"
        if not texts:
            texts = there
            self._reasons["text_columns"] = "the columns that are not numbers, in their order"
        if not texts:
            raise InputError(f"train has no column of texts; it has {self._listed()}")
        return texts[:MOST_TEXTS]

    def _guess_codes(self, taken: set[str | None]) -> str | None:
        """Return the column whose values are all CPC sections or classes."""
        known = pa.array(shipped_texts(), pa.string())
        for name, values in self._columns.items():
            is_there = self._in_test is None or name in self._in_test
            if name in taken or not is_there or not pa.types.is_string(values.type):
                continue
            if pc.all(pc.is_in(values, value_set=known)).as_py():
                self._reasons["cpc_column"] = "every value is a CPC section or class"
                return name
        return None

    def _guess_link(self, texts: list[str], group: str | None) -> str | None:
        """Return another text of which some are the names of groups."""
        if group not in texts:
            return None
        names = pc.unique(self._columns[group])
        for name in texts:
            n_rows = 0 if name == group else pc.sum(pc.is_in(self._columns[name], value_set=names)).as_py()
            if n_rows:
                self._reasons["link_column"] = f"in {n_rows:,} rows it is the name of a group"
                return name
        return None

    def _guess_group(self, texts: list[str], taken: set[str | None]) -> str | None:
        """Return a column whose values repeat: the first such text, else the first other one."""
        others = [name for name, values in self._columns.items() if not pa.types.is_floating(values.type)]
        for name in dict.fromkeys([*texts, *others]):
            n_groups = pc.count_distinct(self._columns[name]).as_py()
            if name in taken or self._is_blank_somewhere(name):
                continue
            if LEAST_GROUPS <= n_groups <= self._n_rows / 2 and (name in texts or ID_NAME.fullmatch(name)):
                self._reasons["group_column"] = f"{n_groups:,} different ones in {self._n_rows:,} rows"
                return name
        self._reasons["group_column"] = "no text or id repeats often; every row is its own group"
        return None

    def _words(self, texts: list[str]) -> int:
        counts = sum(
            pc.count_substring(pc.utf8_trim_whitespace(self._columns[name]), " ").to_numpy() + 1 for name in texts
        )
        return int(np.ceil(np.percentile(counts, 99)))

    def _mean_words(self, name: str) -> float:
        return 1 + float(pc.mean(pc.count_substring(pc.utf8_trim_whitespace(self._columns[name]), " ")).as_py() or 0)

    def _is_blank_somewhere(self, name: str) -> bool:
        values = self._columns[name]
        is_text = pa.types.is_string(values.type)
        return bool(values.null_count or (is_text and pc.any(pc.equal(pc.utf8_trim_whitespace(values), "")).as_py()))

    def _listed(self) -> str:
        return listed_columns(list(self._columns))
