"""`record_submission`: enter a submission's leaderboard scores into a ledger."""

from dataclasses import replace
from pathlib import Path

from blend.ledger.ledger_entry import LedgerEntry, entry_of, find_submission
from blend.ledger.ledger_file import (
    LedgerUpdate,
    append_entry,
    check_local,
    read_or_start,
    update_scores,
    write_ledger,
)
from data_prep.errors import InputError
from data_prep.store.folder_lock import folder_lock


def record_submission(
    ledger: str,
    submission: str,
    *,
    public: float | None = None,
    private: float | None = None,
    note: str = "",
    cv: float | None = None,
    scheme: str | None = None,
    metric: str | None = None,
) -> LedgerEntry | LedgerUpdate:
    """Enter a submitted CSV file, or that of a blend's folder; return its new row, or what changed in its old one.

    `cv`, `scheme` and `metric` are for submissions that no blend of ours made.

    Raises:
        InputError: there is no score or no such file, or the ledger has the file and `cv`, `scheme` or `metric` differ.
    """
    if public is None and private is None:
        raise InputError("give a leaderboard score with --public, --private or both")
    check_local(ledger)
    path, sha256 = find_submission(submission)
    with folder_lock(Path(ledger).absolute().parent):
        entries = read_or_start(ledger)
        updated = update_scores(entries, sha256, public=public, private=private, note=note)
        if updated:
            if cv is not None or scheme is not None or metric is not None:
                raise InputError(f"{ledger} already has this file; change its CV, scheme or metric in its row there")
            write_ledger(updated.entries, ledger)
            return updated
        entry = entry_of(path, sha256, cv=cv, scheme=scheme, metric=metric)
        entry = replace(entry, public=public, private=private, note=note)
        write_ledger(append_entry(entries, entry), ledger)
        return entry
