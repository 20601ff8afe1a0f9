"""`RunDir`: the one reader of a run directory; all that shows, replays or continues a search reads through it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from data_prep.candidate_label import candidate_label
from data_prep.errors import InputError
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.metrics import METRICS, Metric
from data_prep.store.candidate_records import REMEDY, candidate_path, read_settings
from data_prep.store.files import exists, file_info, join, list_names
from data_prep.store.oof_store import OofStore
from data_prep.store.study_record import STUDY_FILE, read_study_record
from models.candidate import Candidate
from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint, Curves, curves_by_candidate, minutes_by_candidate
from search.run_dir.driver_lock import DriverLock, read_driver_lock
from search.run_dir.pulse_file import Pulse, read_pulse
from search.run_dir.status_file import STATUS_FILE, read_statuses


class RunDir:
    """A snapshot of a run directory (folder or `pyarrow.fs` URI): each part is read on first use, and then kept."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.store = OofStore(path)
        self._settings: dict[str, dict[str, Any]] = {}

    def reread(self) -> "RunDir":
        """Return the directory as it is now; candidates' settings never change, so they are not read again."""
        fresh = RunDir(self.path)
        fresh._settings = self._settings
        return fresh

    # Where things are

    @property
    def study_path(self) -> str:
        """The study as run, every default spelled out."""
        return join(self.path, STUDY_FILE)

    def blend_path(self, blend: str) -> str:
        """Return the path of the record of a blend."""
        return join(self.path, "blends", blend, "blend.json")

    # What was tried, on which data

    @cached_property
    def study(self) -> dict[str, Any]:
        """The settings of the study as plain values, whichever version wrote them.

        Raises:
            InputError: this is not a run directory, or its `study.yaml` was edited or damaged.
        """
        if not exists(self.study_path):
            raise InputError(
                f"{self.path}: not a run directory (no study.yaml); make one with `blendfold run STUDY.yaml`"
            )
        return read_study_record(self.path)

    @cached_property
    def data(self) -> Prepared:
        """The prepared folder.

        Raises:
            InputError: it is gone, or cannot be seen from here.
        """
        return load_prepared(self.study["data"])

    @property
    def metric(self) -> Metric:
        """The metric that the search compares by, from `pulse.json` or else from the prepared folder.

        Raises:
            InputError: there is no `pulse.json`, and the prepared folder cannot be seen from here.
        """
        return METRICS[self._metric_and_folds[0]]

    @property
    def n_folds(self) -> int:
        """The number of folds; known from the same files as the metric."""
        return self._metric_and_folds[1]

    @cached_property
    def _metric_and_folds(self) -> tuple[str, int]:
        self.study  # noqa: B018 - another folder is refused as such
        if self.pulse is not None:
            return self.pulse.metric, self.pulse.n_folds
        try:
            return self.data.task.search_measure.name, self.data.manifest.n_folds
        except InputError as error:
            raise InputError(
                *error.faults,
                f"{self.path}: has no pulse.json, which names the metric and the folds; its driver has just started, "
                "or its version wrote none. Without that file, run this where the prepared folder can be read",
            ) from error

    @cached_property
    def candidates(self) -> list[str]:
        """The ids of all candidates."""
        names = list_names(join(self.path, "candidates"))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def settings(self, candidate: str) -> Mapping[str, Any]:
        """Return the settings of a candidate as they were written.

        Raises:
            InputError: there are none, or they are damaged, or belong to another candidate.
        """
        if candidate not in self._settings:
            settings = read_settings(self.path, candidate)
            _check_id(settings, candidate, candidate_path(self.path, candidate))
            self._settings[candidate] = settings
        return self._settings[candidate]

    def candidate(self, candidate: str) -> Candidate:
        """Return a candidate by its id.

        Raises:
            ValueError: its settings are not those of a candidate of this version.
        """
        return Candidate.model_validate(self.settings(candidate))

    def label(self, candidate: str) -> str:
        """Return the short name by which a person recognizes a candidate."""
        return candidate_label(self.settings(candidate))

    @cached_property
    def names(self) -> dict[str, str]:
        """The study's own names, by candidate id; several names of one model are joined by commas."""
        return names_by_candidate(self.study.get("names") or {})

    def title(self, candidate: str, label: str | None = None) -> str:
        """Return a candidate's name in the study, or its label where it has none, and the start of its id."""
        return f"{self.names.get(candidate) or label or self.label(candidate)} {candidate[:6]}"

    def family(self, candidate: str) -> str:
        """Return the family of a candidate: its backbone."""
        return str(self.settings(candidate)["backbone"])

    # What happened

    @cached_property
    def points(self) -> list[CurvePoint]:
        """Every report of a fold run, in order of arrival."""
        return Curves(self.path).entries

    @cached_property
    def curves(self) -> dict[str, dict[int, list[CurvePoint]]]:
        """The reports by candidate and fold: candidates in order of first report, reports in order of arrival."""
        return curves_by_candidate(self.points)

    @cached_property
    def minutes(self) -> dict[str, float]:
        """Minutes that each candidate trained, over all folds."""
        return minutes_by_candidate(self.points)

    @cached_property
    def statuses(self) -> dict[str, CandidateStatus]:
        """Where each candidate stands, as the search last wrote it."""
        return read_statuses(self.path)

    @property
    def status_is_current(self) -> bool:
        """Whether the search wrote where each candidate stands after the last report."""
        written = file_info(join(self.path, STATUS_FILE)).mtime
        reported = [file_info(join(self.path, name)).mtime for name in ("curves.arrow", "curves.journal")]
        return written is not None and all(when is None or when < written for when in reported)

    @cached_property
    def pulse(self) -> Pulse | None:
        """What the driver last wrote about itself; None where it never did."""
        return read_pulse(self.path)

    @cached_property
    def driver_lock(self) -> DriverLock | None:
        """The driver that works here; None if none does."""
        return read_driver_lock(self.path)

    @property
    def has_driver(self) -> bool:
        """Whether a driver works here, as far as this host can tell."""
        return self.driver_lock is not None and not self.driver_lock.is_stale


def names_by_candidate(names: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each candidate id, from the id of each name; names of one model are joined by commas."""
    found: dict[str, str] = {}
    for name, candidate in names.items():
        found[candidate] = f"{found[candidate]}, {name}" if candidate in found else name
    return found


def _check_id(settings: Mapping[str, Any], candidate: str, path: str) -> None:
    """Refuse settings that are not of a candidate or give another id, as those of older versions have no seal.

    Settings that this version does not know cannot be checked.
    """
    if "backbone" not in settings:
        raise InputError(
            f"{path}: no settings of a model of ours; it cannot be trained. Fit a blend without it, or {REMEDY}"
        )
    try:
        found = Candidate.model_validate(settings).id
    except ValidationError:
        return
    if found != candidate:
        raise InputError(f"{path}: holds the settings of candidate {found}: it was changed or swapped; {REMEDY}")
