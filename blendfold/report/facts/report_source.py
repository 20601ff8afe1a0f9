"""`ReportSource`: everything that the parts of a report are made of, read once."""

from dataclasses import dataclass
from functools import cached_property

from blend.blend_folder import read_blend, read_whole_blend
from blend.blend_record import BlendRecord, WholeRecord
from blend.errors.error_rows import ErrorRows, last_blend, load_error_rows
from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, track_cv
from blend.ledger.ledger_file import read_ledger
from blendfold.report.facts.candidate_names import CandidateNames
from blendfold.report.facts.data_facts import ColumnLengths, token_lengths
from blendfold.report.facts.ladder_ways import Way, ladder_ways
from blendfold.report.facts.saved_time import SavedTime, saved_time
from data_prep.store.files import exists
from search.run_dir.run_dir import RunDir
from search.watch.leaderboard import Leaderboard, leaderboard


@dataclass
class ReportSource:
    """A run directory with one of its blends and a ledger; each thing is read on first use, and then kept."""

    run: RunDir
    asked_blend: str | None
    """The name of the blend, of several targets `NAME/TARGET`; None: the one written last, the first target."""
    ledger_path: str
    """Need not be there."""

    @property
    def is_imported(self) -> bool:
        """Whether others made the predictions, so that nothing was searched."""
        return bool(self.run.study.get("imported"))

    @cached_property
    def names(self) -> CandidateNames:
        """Names and settings of the candidates."""
        return CandidateNames(self.run)

    @cached_property
    def n_finished(self) -> int:
        """The number of finished fold runs."""
        return sum(1 for _ in self.run.store.fold_runs())

    @cached_property
    def lengths(self) -> tuple[ColumnLengths, ...]:
        """Estimated tokens of every text."""
        return token_lengths(self.run.data)

    @cached_property
    def board(self) -> Leaderboard:
        """The ranking of all candidates."""
        return leaderboard(self.run.path)

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """How each candidate climbed the ladder."""
        return ladder_ways(self.run)

    @cached_property
    def saved(self) -> SavedTime:
        """What early stopping saved."""
        return saved_time(self.run)

    @cached_property
    def whole_blend(self) -> WholeRecord | None:
        """The blend, of all targets; None where there is none."""
        return None if self._blend_name is None else read_whole_blend(self.run.path, self._blend_name)

    @cached_property
    def blend(self) -> BlendRecord | None:
        """The blend; of several targets, that of the one whose details are shown."""
        return None if self._blend_name is None else read_blend(self.run.path, self._blend_name)

    @cached_property
    def _blend_name(self) -> str | None:
        return self.asked_blend or last_blend(self.run.path)

    @cached_property
    def error_rows(self) -> ErrorRows:
        """Every scored row with its predictions.

        Raises:
            InputError: nothing is finished, or tables do not belong to the data.
        """
        record, data = self.blend, self.run.data
        if record is None:
            return load_error_rows(self.run.path, data)
        same = (record.data_hash, record.split_hash) == (data.manifest.data_hash, data.manifest.split_hash)
        return load_error_rows(self.run.path, data if same else None, blend=record.name)

    @cached_property
    def tracking(self) -> CvVsLeaderboard | None:
        """What the ledger shows; None where there is none."""
        if not exists(self.ledger_path):
            return None
        entries = read_ledger(self.ledger_path)
        has_public = any(entry.public is not None for entry in entries)
        return track_cv(entries, board="public" if has_public else "private")
