"""`FileColumns`: what the columns of a file are for, by a task, and what becomes of the others."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.errors import InputFaults
from data_prep.store.table_records import check_columns, listed_columns
from data_prep.task import Task

INDEX_NAME = re.compile(r"(Unnamed: \d+(_level_\d+)?|__index_level_\d+__)?")
"""What pandas calls an index that it writes as a column."""
WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
DECIMAL = r"^\s*[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
TRUTHS = ("true", "false", "True", "False")


@dataclass
class FileColumns:
    """Chooses the columns of one file; called with their names, it keeps what it found."""

    path: str
    task: Task
    required: Sequence[str]
    """Columns besides the id that the file must have."""
    dropped: Collection[str]
    """Columns to leave out."""
    faults: InputFaults
    keeps_others: bool = True
    ignored: Sequence[str] = ()
    """Columns that the task knows, but not in this file."""
    names: list[str] = field(default_factory=list)
    """All columns of the file."""
    kept: list[str] = field(default_factory=list)
    """Columns that the task does not name."""
    index: list[str] = field(default_factory=list)
    has_id: bool = False

    def __call__(self, columns: Sequence[str], origin: str) -> Sequence[str]:
        """Return the columns to read."""
        self.names = list(columns)
        named = self.task.id_column
        self.has_id = named is not None and (named in columns or "id_column" in self.task.model_fields_set)
        required = [named, *self.required] if named is not None and self.has_id else list(self.required)
        check_columns(columns, origin, self.path, required, self.faults)
        used = {*required, *self.ignored}
        others = [name for name in dict.fromkeys(columns) if name not in used]
        self.index = [name for name in others if INDEX_NAME.fullmatch(name)]
        self.kept = [name for name in others if name not in {*self.index, *self.dropped}] if self.keeps_others else []
        if wanted := sorted(set(self.dropped) & {*required}):
            self.faults.add(self.path, f"--drop {', '.join(wanted)}: the task needs this column; leave it in")
        return [name for name in dict.fromkeys([*required, *self.kept]) if name in columns]

    def sentences(self) -> list[str]:
        """Return what a person should know about the columns that are not read as usual."""
        found = []
        if self.index:
            shown = listed_columns(self.index)
            found.append(f"{self.path}: column {shown} is the index that pandas writes; it is left out")
        if left := [name for name in self.ignored if name in self.names]:
            found.append(f"{self.path}: column {listed_columns(left)} is not used there; it is left out")
        if not self.has_id:
            found.append(f"{self.path}: has no id column; rows are numbered from 0")
        return found


def extra_table(rows: pa.Table, kept: Sequence[str], reserved: Collection[str]) -> pa.Table:
    """Return kept columns with the types that their texts have, under names that are not `reserved`."""
    names = [f"{name} (given)" if name in reserved else name for name in kept]
    return pa.table([typed(rows[name]) for name in kept], names=names)


def typed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts as whole or decimal numbers, where all of them are (an empty one is missing then), else unchanged.

    True and false are 1 and 0. Numbers with leading zeros are texts: they are codes.
    """
    filled = pc.filter(texts, pc.not_equal(pc.utf8_trim_whitespace(texts), ""))
    if len(filled) == 0:
        return texts
    if len(filled) == len(texts) and pc.all(pc.match_substring_regex(texts, WHOLE)).as_py():
        return texts.cast(pa.int64())
    if len(filled) == len(texts) and pc.all(pc.is_in(texts, value_set=pa.array(TRUTHS))).as_py():
        return pc.equal(pc.utf8_lower(texts), "true").cast(pa.int8())
    if not pc.all(pc.match_substring_regex(filled, DECIMAL)).as_py():
        return texts
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed).cast(pa.float64())
