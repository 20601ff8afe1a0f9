"""`Ledger`: every submission with its CV and leaderboard scores, in Python."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pandas as pd

from blend.ledger.ledger_file import LEDGER_FILE, read_ledger
from blend.ledger.ledger_report import describe
from blend.ledger.record_submission import record_submission
from blend.ledger.tracked_ledger import track_ledger
from data_prep.store.files import exists

Board = Literal["public", "private"]


class Ledger:
    """The ledger of submissions, a CSV file that is made with the first entry; the command is `blendfold ledger`.

    Args:
        path: the file.

    Examples:
        >>> ledger = bf.Ledger("scores.csv")
        >>> ledger.add("submission.csv", public=0.8504, cv=0.8391, scheme="group")
        >>> ledger.rows[["submission", "cv", "public"]]
               submission      cv  public
        0  submission.csv  0.8391  0.8504
    """

    def __init__(self, path: str | Path = LEDGER_FILE) -> None:
        self.path = str(path)

    def add(
        self,
        submission: str | Path,
        *,
        public: float | None = None,
        private: float | None = None,
        note: str = "",
        cv: float | None = None,
        scheme: str | None = None,
        metric: str | None = None,
    ) -> None:
        """Record a submission's leaderboard scores beside its CV; the same file again updates its row.

        Args:
            submission: the submitted CSV file, or the folder of its blend.
            public: its public leaderboard score.
            private: its private leaderboard score, if known.
            note: any text.
            cv: CV of a submission that no blend of ours made.
            scheme: its split.
            metric: its metric.

        Raises:
            InputError: there is no score or no such file, or the ledger is damaged.
        """
        record_submission(
            self.path, str(submission), public=public, private=private, note=note, cv=cv, scheme=scheme, metric=metric
        )

    @property
    def rows(self) -> pd.DataFrame:
        """All submissions in their order, one row each, with the columns of the file."""
        entries = read_ledger(self.path) if exists(self.path) else ()
        return pd.DataFrame([asdict(entry) for entry in entries])

    def tracking(self, board: Board = "public") -> pd.DataFrame:
        """Return each submission with a score on the board: its residual from the line of its split, and its flags."""
        found = track_ledger(self.path, board)
        rows = [
            {
                "submission": each.entry.title,
                "split": each.entry.split,
                "cv": each.entry.cv,
                "score": getattr(each.entry, board),
                "residual": each.residual,
                "flags": "; ".join(f"{flag.kind}: {flag.reason}" for flag in each.flags),
            }
            for each in found.rows
        ]
        return pd.DataFrame(rows)

    def describe(self, board: Board = "public") -> list[str]:
        """Return what `blendfold ledger show` says below its tables, a sentence each."""
        return list(describe(track_ledger(self.path, board)))

    def plot(self, out: str | Path, board: Board = "public") -> Path:
        """Draw CV against the leaderboard into a .svg, .png or .pdf file; return its path."""
        from blend.ledger.ledger_picture import write_picture  # noqa: PLC0415 - matplotlib is slow to import

        write_picture(track_ledger(self.path, board), str(out))
        return Path(out)

    def __repr__(self) -> str:
        return f"Ledger({self.path!r})"
