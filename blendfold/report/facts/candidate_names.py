"""`CandidateNames`: what the report calls each candidate, and the settings in which candidates differ."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from search.run_dir.run_dir import RunDir
from search.watch.settings_apart import settings_apart


class CandidateNames:
    """Names and settings of all candidates of a run directory."""

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def of(self, candidate: str) -> str:
        """Return the name in the study, or else the label with the start of the id."""
        return self._run.names.get(candidate) or self._run.title(candidate)

    @cached_property
    def differing(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings that not all candidates share: by name of the setting, its value for each candidate."""
        candidates = self._run.candidates
        common, own = settings_apart({candidate: self._run.settings(candidate) for candidate in candidates})
        keys = dict.fromkeys([*common, *(key for settings in own.values() for key in settings if key != "seal")])
        return {key: {name: own[name].get(key, common.get(key)) for name in candidates} for key in keys}
