"""`CandidateNames`: what the report calls each candidate, and the settings in which candidates differ."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from search.run_dir.run_dir import RunDir


class CandidateNames:
    """Names and settings of all candidates of a run directory."""

    def __init__(self, run: RunDir) -> None:
        self._run = run

    @cached_property
    def _given(self) -> Mapping[str, str]:
        names = self._run.study.get("names") or {}
        return {str(candidate): str(name) for name, candidate in names.items()} if isinstance(names, dict) else {}

    def of(self, candidate: str) -> str:
        """Return the name in the study, or else the label with the start of the id."""
        return self._given.get(candidate) or f"{self.label(candidate)} {candidate[:6]}"

    def label(self, candidate: str) -> str:
        """Return backbone, layers, recipe, head and loss, or the name that an imported candidate has."""
        settings = self._settings.get(candidate, {})
        if "backbone" in settings:
            return self._run.label(candidate)
        return str(settings.get("name", "candidate"))

    @cached_property
    def _settings(self) -> dict[str, Mapping[str, Any]]:
        return {candidate: self._run.settings(candidate) for candidate in self._run.candidates}

    @cached_property
    def differing(self) -> dict[str, dict[str, Any]]:
        """The settings that not all candidates share: by name of the setting, its value for each candidate."""
        keys = list(dict.fromkeys(key for settings in self._settings.values() for key in settings))
        columns = {
            key: {candidate: settings.get(key) for candidate, settings in self._settings.items()}
            for key in keys
            if key != "seal"
        }
        return {key: values for key, values in columns.items() if len({repr(value) for value in values.values()}) > 1}
