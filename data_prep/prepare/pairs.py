"""Read and check the train and test files; every fault of both is reported in one error."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.cpc import read_texts, section_titles, shipped_texts
from data_prep.errors import InputFaults
from data_prep.prepare.file_columns import FileColumns, extra_table
from data_prep.prepare.folds import task_groups, too_few_groups
from data_prep.prepared import test_schema
from data_prep.store.table_records import Records, listed_columns, read_chosen
from data_prep.store.text_encodings import UTF8
from data_prep.targets.target_columns import with_numbers
from data_prep.targets.target_kind import NUMBER
from data_prep.task import GREATEST_SCORE, Task
from data_prep.wording import count


@dataclass(frozen=True)
class Pairs:
    """Checked rows of both files."""

    task: Task
    """With what the files say of it: no id column where they have none."""
    train: pa.Table
    """id, text columns, context_text if there are CPC codes, scores, any weight."""
    test: pa.Table
    """The same without scores and weight."""
    targets: NDArray[np.float32]
    """[rows], or [rows, numbers] where several are predicted; NaN where missing."""
    extra: dict[str, pa.Table]
    """The columns of each file that the task does not name, by role; those without any are left out."""
    groups: NDArray[np.int32]
    """Group of each train row."""
    split_column: pa.ChunkedArray | None
    """The fold or time of each train row, as it is in the file, where one was asked for."""
    section_titles: dict[str, str] | None
    """Title of each CPC section, by letter; None where there are no CPC codes."""
    said: tuple[str, ...]
    """Sentences on what was kept, left out, dropped or numbered."""


def read_pairs(
    train: str | Path,
    test: str | Path | None,
    task: Task,
    *,
    cpc: str | Path | None,
    scheme: str,
    n_folds: int,
    split_column: str | None = None,
    drop: Collection[str] = (),
    encoding: str = UTF8,
) -> Pairs:
    """Read and check both files; there must be enough groups for the split.

    `split_column` holds the folds or times of the rows; `drop` names columns to leave out.

    Raises:
        InputError: every fault of all files.
    """
    faults = InputFaults()
    texts = _context_texts(task, cpc, faults)
    split = [] if split_column is None else [split_column]
    columns = {"train": FileColumns(str(train), task, [*train_columns(task), *split], drop, faults)}
    if test is not None:
        not_there = [*task.target_columns, *_weight_columns(task), *group_only(task)]
        columns["test"] = FileColumns(str(test), task, task.text_columns, drop, faults, ignored=not_there)
    rows = {role: read_chosen(each.path, each, faults=faults, encoding=encoding) for role, each in columns.items()}
    _check_dropped(drop, columns.values(), faults)
    said = [sentence for each in columns.values() for sentence in each.sentences()]
    train_rows, test_rows = rows["train"], rows.get("test")
    if train_rows and task.empty == "drop":
        train_rows, n_dropped = _without_empty(train_rows, task)
        said += [f"{train}: {count(n_dropped, 'row')} with an empty text dropped"] if n_dropped else []
        if not train_rows.table.num_rows:
            faults.add(str(train), "every row has an empty text, and `empty: drop` leaves none")
    targets = _check_targets(train_rows, task, faults) if train_rows else None
    weights = _check_weights(train_rows, task, faults) if train_rows else None
    for role, records in (("train", train_rows), ("test", test_rows)):
        if records:
            _check_rows(records, task, texts, faults, has_id=columns[role].has_id)
    groups = _check_groups(train_rows, task, scheme, n_folds, faults) if train_rows else None
    faults.raise_all()
    assert train_rows is not None
    assert targets is not None
    assert groups is not None
    has_id = {role: each.has_id for role, each in columns.items()}
    settled = task if any(has_id.values()) else task.model_copy(update={"id_column": None})
    train_table = _text_table(train_rows, task, texts, has_id=has_id["train"])
    test_table = (
        train_table.slice(0, 0) if test_rows is None else _text_table(test_rows, task, texts, has_id=has_id["test"])
    )
    extra = _extra_tables({"train": train_rows, "test": test_rows}, columns)
    said += task.target.remarks(targets, n_folds)
    scored = with_numbers(train_table, "score", targets, task.target.names)
    return Pairs(
        task=settled,
        train=scored if weights is None else scored.append_column("weight", pa.array(weights)),
        test=test_table,
        targets=targets,
        extra=extra,
        groups=groups,
        split_column=None if split_column is None else train_rows.table[split_column],
        section_titles=section_titles(texts) if task.cpc_column else None,
        said=(*said, *_kept_sentence(extra)),
    )


def read_test(test: str | Path, task: Task, *, texts: dict[str, str], encoding: str = UTF8) -> pa.Table:
    """Read and check a test file alone, like `read_pairs`, and return the prepared table without other columns.

    `texts` holds the context text of each known CPC code; it is ignored if the task has no CPC codes.

    Raises:
        InputError: every fault of the file.
    """
    faults = InputFaults()
    columns = FileColumns(str(test), task, task.text_columns, (), faults, keeps_others=False)
    rows = read_chosen(test, columns, faults=faults, encoding=encoding)
    if rows:
        _check_rows(rows, task, texts, faults, has_id=columns.has_id)
    faults.raise_all()
    assert rows is not None
    return _text_table(rows, task, texts, has_id=columns.has_id).cast(test_schema(task))


def train_columns(task: Task) -> list[str]:
    """Return the columns that a task's train file must have besides its id."""
    return list(dict.fromkeys([*task.text_columns, *group_only(task), *task.target_columns, *_weight_columns(task)]))


def _weight_columns(task: Task) -> list[str]:
    return [task.weight_column] if task.weight_column else []


def group_only(task: Task) -> list[str]:
    """Return the group column where it is not a text."""
    return [task.group_column] if task.group_column and task.group_column not in task.text_columns else []


def _check_dropped(drop: Collection[str], columns: Collection[FileColumns], faults: InputFaults) -> None:
    known = {name for each in columns for name in each.names}
    if known and (unknown := [name for name in drop if name not in known]):
        paths = " and ".join(each.path for each in columns)
        faults.add(paths, f"have no column {listed_columns(unknown)}, which --drop names")


def _extra_tables(rows: dict[str, Records | None], columns: dict[str, FileColumns]) -> dict[str, pa.Table]:
    """Return the kept columns of each file; without a test file, test has those of train, and no rows."""
    train = rows["train"]
    assert train is not None
    if not columns["train"].kept and not ("test" in columns and columns["test"].kept):
        return {}
    reserved = columns["train"].task.reserved_columns
    found = {"train": extra_table(train.table, columns["train"].kept, reserved)}
    test = rows["test"]
    found["test"] = (
        found["train"].slice(0, 0) if test is None else extra_table(test.table, columns["test"].kept, reserved)
    )
    return {role: table for role, table in found.items() if table.num_columns}


def _kept_sentence(extra: dict[str, pa.Table]) -> list[str]:
    names = {role: table.column_names for role, table in extra.items()}
    everywhere = list(dict.fromkeys(name for each in names.values() for name in each))
    if not everywhere:
        return []
    shown = []
    for name in everywhere:
        only = [role for role in names if name in names[role]]
        shown.append(f"{name!r}" if len(only) == 2 else f"{name!r} ({only[0]} only)")
    return [f"Columns kept aside in extra/: {', '.join(shown)} (--drop leaves a column out)."]


def _without_empty(records: Records, task: Task) -> tuple[Records, int]:
    """Return the rows whose texts are all filled, and how many others there were."""
    there = [name for name in task.text_columns if name in records.table.column_names]
    blank = {row for name in there for row in _blank_rows(records.table[name])}
    if not blank:
        return records, 0
    rows = np.setdiff1d(np.arange(records.table.num_rows), sorted(blank))
    place = records.place
    return replace(records, table=records.table.take(pa.array(rows)), place=lambda row: place(int(rows[row]))), len(
        blank
    )


def _context_texts(task: Task, cpc: str | Path | None, faults: InputFaults) -> dict[str, str]:
    if task.cpc_column is None:
        if cpc is not None:
            faults.add(str(cpc), f"--cpc does not apply to task {task.name!r}, which has no cpc_column; leave it out")
        return {}
    return shipped_texts() if cpc is None else read_texts(cpc, faults)


def _text_table(records: Records, task: Task, texts: dict[str, str], *, has_id: bool) -> pa.Table:
    """Return id, texts and context_text, the last dictionary-encoded because it is long and repeats."""
    numbers = pa.chunked_array([pa.array(np.arange(records.table.num_rows)).cast(pa.string())])
    ids = records.table[task.id_column] if has_id else numbers
    table = records.table.select(task.text_columns).add_column(0, "id", ids)
    if task.cpc_column is None:
        return table
    codes = table[task.cpc_column].dictionary_encode()
    return table.append_column("context_text", pa.chunked_array([_translate(chunk, texts) for chunk in codes.chunks]))


def _translate(codes: pa.DictionaryArray, texts: dict[str, str]) -> pa.DictionaryArray:
    words = pa.array([texts[code] for code in codes.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(codes.indices, words)


def _where(records: Records, column: str) -> str:
    return f"{records.path}, column {column}"


def _check_ids(records: Records, task: Task, faults: InputFaults) -> None:
    name = task.id_column
    if name is None or name not in records.table.column_names:
        return
    ids = records.table[name]
    _check_filled(records, name, faults)
    hashes = _hashes(ids)
    ordered = np.sort(hashes)
    suspects = np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]]))
    seen: set[str] = set()
    for row in suspects.tolist():
        text = ids[row].as_py()
        if text in seen and text.strip():
            faults.add(_where(records, name), "an id may not repeat", place=records.place(row), found=text)
        seen.add(text)


def _hashes(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return a 64-bit hash of each text, which takes a fraction of the memory of an index of texts."""
    parts = [np.fromiter(map(hash, chunk.to_pylist()), np.int64, len(chunk)) for chunk in texts.chunks]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _check_rows(records: Records, task: Task, texts: dict[str, str], faults: InputFaults, *, has_id: bool) -> None:
    if has_id:
        _check_ids(records, task, faults)
    filled = task.text_columns if task.empty == "error" else filter(None, [task.cpc_column])
    for name in dict.fromkeys([*filled, *group_only(task)]):
        if name in records.table.column_names:
            _check_filled(records, name, faults)
    _check_codes(records, task, texts, faults)


def _check_filled(records: Records, column: str, faults: InputFaults) -> None:
    for row in _blank_rows(records.table[column]):
        faults.add(_where(records, column), "may not be empty or blank", place=records.place(row))


def _blank_rows(column: pa.ChunkedArray) -> Iterator[int]:
    first = 0
    for chunk in column.chunks:
        for offset in pc.indices_nonzero(pc.equal(pc.utf8_trim_whitespace(chunk), "")).to_pylist():
            yield first + offset
        first += len(chunk)


def _check_codes(records: Records, task: Task, texts: dict[str, str], faults: InputFaults) -> None:
    if task.cpc_column is None or task.cpc_column not in records.table.column_names or not texts:
        return
    codes = records.table[task.cpc_column]
    known = pc.is_in(codes, value_set=pa.array(texts, pa.string()))
    for row in np.flatnonzero(~known.to_numpy()).tolist():
        if text := codes[row].as_py().strip():
            rule = "must be a known CPC section or class, like 'A47' (--cpc takes other titles)"
            faults.add(_where(records, task.cpc_column), rule, place=records.place(row), found=text)


def _check_groups(
    records: Records, task: Task, scheme: str, n_folds: int, faults: InputFaults
) -> NDArray[np.int32] | None:
    """Return the group of each row; adds a fault if there are fewer groups (or rows) than folds."""
    needed = [name for name in (task.group_column, task.link_column) if name]
    if records.table.num_rows == 0 or not set(needed) <= set(records.table.column_names):
        return None
    groups = task_groups(records.table, task)
    if fault := too_few_groups(groups, n_folds, scheme):
        faults.add(records.path, fault)
    return groups


def _check_targets(records: Records, task: Task, faults: InputFaults) -> NDArray[np.float32] | None:
    """Return the targets [rows] or [rows, numbers]; adds a fault for every one that is missing or not legal."""
    if not set(task.target_columns) <= set(records.table.column_names):
        return None
    kind = task.target
    cells = [_read_cells(records, name, kind.read_cell, faults) for name in task.target_columns]
    if not kind.names:
        return cells[0]
    targets, wrong, rule = kind.read_rows(np.column_stack(cells))
    for row in wrong.tolist():
        found = ", ".join(str(records.table[name][row].as_py()) for name in task.target_columns)
        faults.add(_where(records, listed_columns(task.target_columns)), rule, place=records.place(row), found=found)
    for name in () if faults else kind.idle(targets):
        faults.add(_where(records, name), "needs two different scores, or nothing can be learned; leave the column out")
    return targets


def _check_weights(records: Records, task: Task, faults: InputFaults) -> NDArray[np.float32] | None:
    """Return the weight of each row, if the task has weights; adds a fault for every one that is not legal."""
    if task.weight_column is None or task.weight_column not in records.table.column_names:
        return None
    return _read_cells(records, task.weight_column, _read_weight, faults)


def _read_weight(text: str) -> float | str:
    number = float(text) if NUMBER.fullmatch(text) else 0.0
    return number if 0.0 < number <= GREATEST_SCORE else "a weight must be a number above 0"


def _read_cells(
    records: Records, column: str, read: Callable[[str], float | str], faults: InputFaults
) -> NDArray[np.float32]:
    """Return the numbers [rows] that a column's texts stand for; adds a fault for every one that breaks a rule."""
    numbers = []
    first = 0
    for chunk in records.table[column].chunks:
        encoded = chunk.dictionary_encode()
        values = [read(text) for text in encoded.dictionary.to_pylist()]
        broken = np.array([isinstance(value, str) for value in values], dtype=bool)
        known = np.array([np.nan if isinstance(value, str) else value for value in values], dtype=np.float64)
        codes = encoded.indices.to_numpy()
        numbers.append(known[codes].astype(np.float32))
        for offset in np.flatnonzero(broken[codes]).tolist():
            rule, found, place = str(values[codes[offset]]), chunk[offset].as_py(), records.place(first + offset)
            faults.add(_where(records, column), rule, place=place, found=found or None)
        first += len(chunk)
    return np.concatenate([np.empty(0, np.float32), *numbers])
