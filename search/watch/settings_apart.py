"""`SettingsApart`: what tells candidates apart, the settings in which they differ from what most of them have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table

from models.candidate import Candidate
from search.run_dir.run_dir import RunDir

IN_LABEL = ("backbone", "layers", "recipe", "head", "loss")
"""Settings that the label of a candidate without a name shows."""


@dataclass(frozen=True)
class SettingsApart:
    """The settings in which some candidates differ; prints itself with rich."""

    common: Mapping[str, Any] = field(default_factory=dict)
    """The value that most of them have, of each setting in which they differ; none where all values are different."""
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each candidate, by id, those of its settings that differ from `common`."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """How a person recognizes each candidate."""
    named: frozenset[str] = frozenset()
    """The ids of candidates that the study names; the label of the others shows some settings already."""

    @classmethod
    def of(cls, run: RunDir, candidates: Sequence[str]) -> "SettingsApart":
        """Compare the candidates of a run directory with each other."""
        common, own = settings_apart({candidate: run.settings(candidate) for candidate in candidates})
        titles = {candidate: run.title(candidate) for candidate in candidates}
        return cls(common, own, titles, frozenset(run.names) & own.keys())

    def text(self, candidate: str) -> str:
        """Return what a candidate has of its own, such as `head=cls epochs=3`, without what its title says."""
        passed_over = () if candidate in self.named else IN_LABEL
        own = self.own.get(candidate, {})
        return _text({key: value for key, value in own.items() if key not in passed_over})

    def __rich__(self) -> Group:
        """Return a line for each candidate, and one for what the others have."""
        texts = {candidate: self.text(candidate) for candidate in self.own}
        table = Table(title="settings in which they differ", box=None, title_justify="left", show_header=False)
        table.add_column("candidate", overflow="fold")
        table.add_column("settings", overflow="fold", ratio=1)
        for candidate, text in texts.items():
            if text:
                table.add_row(self.titles[candidate], text)
        if self.common and any(texts.values()):
            table.add_row("where not given", _text(self.common))
        return Group(*([table] if table.row_count else []))


def settings_apart(
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the commonest value of each setting that differs, and each candidate's settings that are others.

    A setting that a candidate lacks, as an older version wrote it, has its default.
    """
    fields = Candidate.model_fields
    known = dict.fromkeys([*fields, *(key for one in settings.values() for key in one)])
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {candidate: {} for candidate in settings}
    for key in known:
        default = fields[key].default if key in fields else None
        values = {candidate: one.get(key, default) for candidate, one in settings.items()}
        ranked = Counter(map(repr, values.values())).most_common()
        if len(ranked) < 2:
            continue
        usual = ranked[0][0] if ranked[0][1] > 1 else None
        for candidate, value in values.items():
            if repr(value) == usual:
                common[key] = value
            else:
                own[candidate][key] = value
    return common, own


def _text(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_shown(value)}" for key, value in settings.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
