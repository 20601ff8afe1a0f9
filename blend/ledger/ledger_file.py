"""The ledger: all submissions with their CV and leaderboard scores, in one CSV file that a person can edit."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from blend.ledger.ledger_entry import KNOWN_SCHEMES, UNKNOWN, LedgerEntry, score_fault
from data_prep.errors import InputError, InputFaults, quote
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import write_bytes
from data_prep.store.table_records import Records, read_records
from data_prep.targets.target_kind import NUMBER

LEDGER_FILE = "ledger.csv"
COLUMNS = tuple(field.name for field in fields(LedgerEntry))
SCORES = ("cv", "nested", "expected", "public", "private")

FORMULA_SIGNS = tuple("=+-@\t\r")
"""A spreadsheet takes a cell that starts with one of these for a formula; such a text is written after a `'`."""

Row = dict[str, str]


def read_ledger(path: str | Path) -> tuple[LedgerEntry, ...]:
    """Read a ledger, in the order of its rows.

    Raises:
        InputError: all faults at once: of columns, texts, scores, schemes, metrics; repeated submissions; no rows.
    """
    faults = InputFaults()
    check_local(path)
    records = read_records(path, required=COLUMNS, closed=False, faults=faults)
    if records is None:
        faults.raise_all()
        raise AssertionError("a file that cannot be read has a fault")
    _check_columns(path, faults)
    rows: list[Row] = [{column: _read_text(cell) for column, cell in row.items()} for row in records.table.to_pylist()]
    for column, rule, is_legal in _rules():
        for number, row in enumerate(rows):
            if column in row and not is_legal(row[column]):
                faults.add(f"{path}, column {column}", rule, place=records.place(number), found=row[column])
    _check_scores(records, rows, faults)
    _check_duplicates(records, rows, faults)
    faults.raise_all()
    return tuple(_entry(row) for row in rows)


def read_or_start(path: str | Path) -> tuple[LedgerEntry, ...]:
    """Read a ledger as `read_ledger` does; it is empty if there is no file yet."""
    check_local(path)
    return read_ledger(path) if Path(path).exists() else ()


def check_local(path: str | Path) -> None:
    """Raise InputError for a ledger in an object store."""
    if "://" in str(path):
        raise InputError(f"--ledger {path}: a ledger must be a local file, so that a person can edit it")


def _check_columns(path: str | Path, faults: InputFaults) -> None:
    with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file), [])
    if len(header) == 1 and ";" in header[0]:
        faults.add(f"{path}, line 1", "is separated by ';'; save the ledger with commas")
        return
    if unknown := [name for name in dict.fromkeys(header) if name not in COLUMNS]:
        faults.add(
            f"{path}, line 1",
            f"unknown columns: {', '.join(map(quote, unknown))}; known: {', '.join(COLUMNS)}; "
            "remove them; the note column takes any text",
        )


def _rules() -> list[tuple[str, str, Callable[[str], bool]]]:
    """Return column, rule and test of every column that is not free text."""
    number = "must be a number such as 0.8504, or empty"
    return [
        ("submission", "must name the submitted file", lambda text: bool(text.strip())),
        (
            "sha256",
            "must be the 64 hex digits of the file's sha256, or empty",
            lambda text: not text or bool(re.fullmatch(r"[0-9a-f]{64}", text)),
        ),
        (
            "scheme",
            f"must be one of {', '.join(KNOWN_SCHEMES)}, or empty",
            lambda text: not text or text in KNOWN_SCHEMES,
        ),
        (
            "n_folds",
            "must be a whole number of at least 2, or empty",
            lambda text: not text or (bool(re.fullmatch(r"[0-9]{1,6}", text)) and int(text) >= 2),
        ),
        ("metric", f"must be one of {', '.join(METRICS)}", lambda text: text in METRICS),
        *((column, number, lambda text: not text or bool(NUMBER.fullmatch(text))) for column in SCORES),
    ]


def _check_scores(records: Records, rows: Sequence[Row], faults: InputFaults) -> None:
    for number, row in enumerate(rows):
        for column in SCORES:
            text = row.get(column, "")
            rule = score_fault(float(text), row.get("metric", "")) if text and NUMBER.fullmatch(text) else None
            if rule:
                faults.add(f"{records.path}, column {column}", rule, place=records.place(number), found=text)
    metrics = {row["metric"] for row in rows if "metric" in row}
    if len(metrics) > 1 and metrics <= set(METRICS):
        first = rows[0]["metric"]
        for number, row in enumerate(rows):
            if row["metric"] != first:
                rule = f"a ledger has one metric, that of its first row ({first}); keep one ledger for each competition"
                faults.add(f"{records.path}, column metric", rule, place=records.place(number), found=row["metric"])


def _check_duplicates(records: Records, rows: Sequence[Row], faults: InputFaults) -> None:
    """Add a fault for rows that repeat an earlier submission: same sha256, or same name if one has no sha256."""
    by_sha: dict[str, int] = {}
    by_name: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        name, sha256 = row.get("submission", ""), row.get("sha256", "")
        same_name = (other for other in by_name.get(name, []) if not sha256 or not rows[other].get("sha256", ""))
        twin = by_sha.get(sha256) if sha256 else None
        twin = next(same_name, None) if twin is None else twin
        if twin is not None and name.strip():
            rule = f"is the same submission as {records.place(twin)}; keep one of them"
            faults.add(f"{records.path}, column submission", rule, place=records.place(number), found=name)
        by_sha.setdefault(sha256, number)
        by_name.setdefault(name, []).append(number)


def _entry(row: Row) -> LedgerEntry:
    scores = {column: float(row[column]) if row[column] else None for column in SCORES}
    texts = {name: row[name] for name in COLUMNS if name not in (*SCORES, "scheme", "n_folds")}
    return LedgerEntry(
        **texts,  # type: ignore[arg-type]
        **scores,  # type: ignore[arg-type]
        scheme=row["scheme"] or UNKNOWN,
        n_folds=int(row["n_folds"]) if row["n_folds"] else None,
    )


def write_ledger(entries: Sequence[LedgerEntry], path: str | Path) -> None:
    """Write the ledger whole or not at all, rows in the order of `entries`, numbers in their shortest exact form."""
    check_local(path)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        values = (getattr(entry, name) for name in COLUMNS)
        writer.writerow(_cell(value) for value in values)
    write_bytes(text.getvalue().encode(), path)


def _cell(value: object) -> str:
    """Return what stands in the file; `_read_text` gives a text back as it was."""
    if isinstance(value, str):
        return f"'{value}" if _looks_like_a_formula(value) else value
    return "" if value is None else str(value)


def _read_text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _looks_like_a_formula(cell) else cell


def _looks_like_a_formula(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULA_SIGNS)


@dataclass(frozen=True)
class LedgerUpdate:
    """A row with new leaderboard scores."""

    entries: tuple[LedgerEntry, ...]
    before: LedgerEntry
    after: LedgerEntry


def update_scores(
    entries: Sequence[LedgerEntry], sha256: str, *, public: float | None, private: float | None, note: str
) -> LedgerUpdate | None:
    """Set a submission's scores and note, as far as given; None if the ledger has no row with this sha256.

    Raises:
        InputError: a score that the metric cannot have.
    """
    place = next((place for place, entry in enumerate(entries) if entry.sha256 == sha256), None)
    if place is None:
        return None
    before = entries[place]
    after = replace(
        before,
        public=before.public if public is None else public,
        private=before.private if private is None else private,
        note=note or before.note,
    )
    if faults := _score_faults(after):
        raise InputError(*faults)
    return LedgerUpdate((*entries[:place], after, *entries[place + 1 :]), before, after)


def append_entry(entries: Sequence[LedgerEntry], entry: LedgerEntry) -> tuple[LedgerEntry, ...]:
    """Add a submission as the last row.

    Raises:
        InputError: an impossible score, metric or scheme; another metric; a row of the same name without sha256.
    """
    faults = _score_faults(entry)
    if entry.metric not in METRICS:
        faults.append(f"metric {entry.metric!r} is unknown; known: {', '.join(METRICS)}")
    if entry.scheme not in KNOWN_SCHEMES:
        faults.append(f"scheme {entry.scheme!r} is unknown; known: {', '.join(KNOWN_SCHEMES)}")
    if entries and entries[0].metric != entry.metric:
        faults.append(
            f"the ledger's metric is {entries[0].metric}, the submission's {entry.metric}; use another ledger"
        )
    if any(old.submission == entry.submission and not old.sha256 for old in entries):
        faults.append(
            f"the ledger has {entry.submission} without a sha256, which may be this file or another one; "
            f"if it is this one, write {entry.sha256} into its sha256 column"
        )
    if faults:
        raise InputError(*faults)
    return (*entries, entry)


def _score_faults(entry: LedgerEntry) -> list[str]:
    return [
        f"{column} {score:g}: {rule}"
        for column in SCORES
        if (score := getattr(entry, column)) is not None and (rule := score_fault(score, entry.metric))
    ]
