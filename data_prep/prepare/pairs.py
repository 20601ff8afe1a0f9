"""Read and check `train.csv` and `test.csv`; every fault of both files is reported in one error."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.cpc import read_texts, section_titles, shipped_texts
from data_prep.errors import InputFaults
from data_prep.prepare.folds import GROUPED_SCHEMES, task_groups, too_few
from data_prep.prepared import test_schema
from data_prep.store.csv_records import CsvRecords, read_records
from data_prep.task import Task

NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True)
class Pairs:
    """Checked rows of both files."""

    train: pa.Table
    """id, text columns, context_text if there are CPC codes, score."""
    test: pa.Table
    """The same without the score."""
    groups: NDArray[np.int32]
    """Group of each train row."""
    section_titles: dict[str, str] | None
    """Title of each CPC section, by letter; None where there are no CPC codes."""


def read_pairs(
    train: str | Path, test: str | Path | None, task: Task, *, cpc: str | Path | None, scheme: str, n_folds: int
) -> Pairs:
    """Read and check both files; there must be enough groups for the split.

    Raises:
        InputError: every fault of all files.
    """
    faults = InputFaults()
    texts = _context_texts(task, cpc, faults)
    train_rows = read_records(train, required=train_columns(task), faults=faults)
    group_only = tuple(name for name in (task.group_column,) if name and name not in task.text_columns)
    test_rows = None
    if test is not None:
        test_rows = read_records(test, required=test_columns(task), optional=group_only, faults=faults)
    targets = _check_targets(train_rows, task, faults) if train_rows else None
    for records in (train_rows, test_rows):
        if records:
            _check_rows(records, task, texts, faults)
    groups = _check_groups(train_rows, task, scheme, n_folds, faults) if train_rows else None
    faults.raise_all()
    assert train_rows is not None
    assert targets is not None
    assert groups is not None
    train_table = _text_table(train_rows, task, texts)
    return Pairs(
        train=train_table.append_column("score", targets),
        test=train_table.slice(0, 0) if test_rows is None else _text_table(test_rows, task, texts),
        groups=groups,
        section_titles=section_titles(texts) if task.cpc_column else None,
    )


def read_test(test: str | Path, task: Task, *, texts: dict[str, str]) -> pa.Table:
    """Read and check a test file alone, like `read_pairs`, and return the prepared table.

    `texts` holds the context text of each known CPC code; it is ignored if the task has no CPC codes.

    Raises:
        InputError: every fault of the file.
    """
    faults = InputFaults()
    group_only = tuple(name for name in (task.group_column,) if name and name not in task.text_columns)
    rows = read_records(test, required=test_columns(task), optional=group_only, faults=faults)
    if rows:
        _check_rows(rows, task, texts, faults)
    faults.raise_all()
    assert rows is not None
    return _text_table(rows, task, texts).cast(test_schema(task))


def train_columns(task: Task) -> list[str]:
    """Return the columns that a task's train file must have."""
    group = [task.group_column] if task.group_column else []
    return list(dict.fromkeys([*test_columns(task), *group, task.score_column]))


def test_columns(task: Task) -> list[str]:
    """Return the columns that a task's test file must have."""
    return [task.id_column, *task.text_columns]


def _context_texts(task: Task, cpc: str | Path | None, faults: InputFaults) -> dict[str, str]:
    if task.cpc_column is None:
        if cpc is not None:
            faults.add(str(cpc), f"--cpc does not apply to task {task.name!r}, which has no cpc_column; leave it out")
        return {}
    return shipped_texts() if cpc is None else read_texts(cpc, faults)


def _text_table(records: CsvRecords, task: Task, texts: dict[str, str]) -> pa.Table:
    """Return id, texts and context_text, the last dictionary-encoded because it is long and repeats."""
    table = records.table.select(test_columns(task)).rename_columns(["id", *task.text_columns])
    if task.cpc_column is None:
        return table
    codes = table[task.cpc_column].dictionary_encode()
    return table.append_column("context_text", pa.chunked_array([_translate(chunk, texts) for chunk in codes.chunks]))


def _translate(codes: pa.DictionaryArray, texts: dict[str, str]) -> pa.DictionaryArray:
    words = pa.array([texts[code] for code in codes.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(codes.indices, words)


def _where(records: CsvRecords, column: str) -> str:
    return f"{records.path}, column {column}"


def _check_ids(records: CsvRecords, task: Task, faults: InputFaults) -> None:
    if task.id_column not in records.table.column_names:
        return
    ids = records.table[task.id_column]
    _check_filled(records, task.id_column, faults)
    hashes = _hashes(ids)
    ordered = np.sort(hashes)
    suspects = np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]]))
    seen: set[str] = set()
    for row in suspects.tolist():
        text = ids[row].as_py()
        if text in seen and text.strip():
            faults.add(_where(records, task.id_column), "an id may not repeat", line=records.lines.of(row), found=text)
        seen.add(text)


def _hashes(texts: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, which takes a fraction of the memory of an index of texts."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    parts = [pd.util.hash_array(chunk.to_numpy(zero_copy_only=False), categorize=False) for chunk in texts.chunks]
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _check_rows(records: CsvRecords, task: Task, texts: dict[str, str], faults: InputFaults) -> None:
    _check_ids(records, task, faults)
    names = dict.fromkeys([*task.text_columns, *([task.group_column] if task.group_column else [])])
    for name in names:
        if name in records.table.column_names:
            _check_filled(records, name, faults)
    _check_codes(records, task, texts, faults)


def _check_filled(records: CsvRecords, column: str, faults: InputFaults) -> None:
    for row in _blank_rows(records.table[column]):
        faults.add(_where(records, column), "may not be empty or blank", line=records.lines.of(row))


def _blank_rows(column: pa.ChunkedArray) -> Iterator[int]:
    first = 0
    for chunk in column.chunks:
        for offset in pc.indices_nonzero(pc.equal(pc.utf8_trim_whitespace(chunk), "")).to_pylist():
            yield first + offset
        first += len(chunk)


def _check_codes(records: CsvRecords, task: Task, texts: dict[str, str], faults: InputFaults) -> None:
    if task.cpc_column is None or task.cpc_column not in records.table.column_names or not texts:
        return
    codes = records.table[task.cpc_column]
    known = pc.is_in(codes, value_set=pa.array(texts, pa.string()))
    for row in np.flatnonzero(~known.to_numpy()).tolist():
        if text := codes[row].as_py().strip():
            rule = "must be a known CPC section or class, like 'A47' (--cpc takes other titles)"
            faults.add(_where(records, task.cpc_column), rule, line=records.lines.of(row), found=text)


def _check_groups(
    records: CsvRecords, task: Task, scheme: str, n_folds: int, faults: InputFaults
) -> NDArray[np.int32] | None:
    """Return the group of each row; adds a fault if there are fewer groups (or rows) than folds."""
    needed = [name for name in (task.group_column, task.link_column) if name]
    if records.table.num_rows == 0 or not set(needed) <= set(records.table.column_names):
        return None
    groups = task_groups(records.table, task)
    n_units = int(groups.max()) + 1 if scheme in GROUPED_SCHEMES else len(groups)
    if n_units < n_folds:
        faults.add(records.path, too_few(n_units, n_folds, scheme))
    return groups


def _check_targets(records: CsvRecords, task: Task, faults: InputFaults) -> pa.ChunkedArray | None:
    """Return the targets as float32; adds a fault for every one that is missing, not a number or not legal."""
    if task.score_column not in records.table.column_names:
        return None
    targets = []
    first = 0
    for chunk in records.table[task.score_column].chunks:
        encoded = chunk.dictionary_encode()
        values = [_read_target(text, task) for text in encoded.dictionary.to_pylist()]
        numbers = np.array([np.nan if isinstance(value, str) else value for value in values])
        codes = encoded.indices.to_numpy()
        targets.append(pa.array(numbers[codes], pa.float32()))
        for offset in np.flatnonzero(np.isnan(numbers)[codes]).tolist():
            rule, found, line = str(values[codes[offset]]), chunk[offset].as_py(), records.lines.of(first + offset)
            faults.add(_where(records, task.score_column), rule, line=line, found=found or None)
        first += len(chunk)
    return pa.chunked_array(targets, pa.float32())


def _read_target(text: str, task: Task) -> float | str:
    """Return the target that `text` spells, or the rule that it breaks."""
    if not text.strip():
        return "may not be missing"
    if not NUMBER.fullmatch(text):
        return "must be a number, with a point for decimals"
    target = float(text)
    if task.score_levels is not None:
        return target if target in task.score_levels else f"must be one of {_listed(task.score_levels)}"
    legal = task.least <= target <= task.greatest
    return target if legal else f"must be from {task.least:g} to {task.greatest:g}"


def _listed(levels: tuple[float, ...]) -> str:
    return ", ".join(f"{level:g}" for level in levels)
