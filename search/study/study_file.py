"""`Study`: the YAML file that says what to search, with which means, for how long."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.files import absolute, exists, join, read_bytes, write_bytes
from data_prep.store.yaml_documents import check_document, read_document
from data_prep.task import Task
from models.candidate import Candidate
from models.memo import load_memo
from models.task_fit import check_task
from search.ladder.settings import LadderSettings
from search.study.space import read_candidates, read_space

FROZEN_KEYS = ("data_hash", "split_hash", "rung_rows", "score_epochs", "ladder", "sampler", "seed", "space")
"""What may not change between runs over one directory: it would mix scores or decisions that do not compare."""


class Budget(BaseModel):
    """How much may be tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int | None = Field(default=None, ge=1)
    """Candidates at most, explicit and sampled together; None: the explicit ones and the whole grid."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of one `run` after which no new candidate starts; the best of those begun finish their folds."""
    disk_gb: float | None = Field(default=None, gt=0)
    """Gigabytes (10^9 bytes) that checkpoints and weights in the run directory may take together; None: no limit."""


class Resources(BaseModel):
    """What one fold run occupies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float = Field(default=1, gt=0)
    """CPU cores; also the threads of the fold run."""
    gpu: float = Field(default=0, ge=0)
    """GPUs; a fraction shares one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpu > 1 and not self.gpu.is_integer():
            raise ValueError("more than one GPU must be a whole number")
        return self


class StudyResources(Resources):
    """What a fold run occupies, with exceptions for some backbones."""

    backbones: dict[str, Resources] = Field(default_factory=dict)

    def of(self, backbone: str) -> Resources:
        """Return what a fold run of this backbone occupies."""
        return self.backbones.get(backbone, Resources(cpu=self.cpu, gpu=self.gpu))

    def each(self) -> list[Resources]:
        """Return every size that a fold run of this study may have."""
        return [Resources(cpu=self.cpu, gpu=self.gpu), *self.backbones.values()]


class Price(BaseModel):
    """What an hour of what fold runs occupy costs, in whatever currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float = Field(default=0, ge=0)
    """Of a CPU core."""
    gpu: float = Field(default=0, ge=0)
    """Of a GPU."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.cpu or self.gpu):
            raise ValueError("needs `cpu:` or `gpu:`, what an hour of one costs; without prices leave it out")
        return self


class Study(BaseModel):
    """One search: what to try, on which data, with which means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Also the name of the run directory."""
    data: str = Field(min_length=1)
    """The prepared folder (`python -m data_prep prepare --out`); relative paths start at the working directory."""
    budget: Budget = Budget()
    resources: StudyResources = StudyResources()
    price_per_hour: Price | None = None
    """Lets `search status` tell what fold runs cost; None: no money is told."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How candidates are drawn from `space`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler; a candidate has its own."""
    ladder: LadderSettings = LadderSettings()
    rung_rows: int | None = Field(default=None, ge=2)
    """Rows of the fold that early rungs score, always the same ones; None: the whole fold."""
    checkpoint_seconds: float = Field(default=60, ge=0)
    """A fold run saves its state this often, so no more work than this is lost when it is killed; less often where
    saving takes long (a large model, an object store), so that it takes a tenth of the time at most."""
    keep_weights: Literal["members", "all", "none"] = "members"
    """Whose weights stay in the run directory: those of candidates that can still be in the blend, all that finish a
    fold, or none. (`keep` is a candidate's own setting: which of its weights predict.)"""
    score_epochs: bool = False
    """Fold runs are scored after every epoch, too, so that `keep: best` chooses among epochs."""
    candidates: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Explicit candidates by name; they run before sampled ones. A list of names takes them from `models/memo.yaml`."""
    override: dict[str, Any] = Field(default_factory=dict)
    """Settings that every candidate has instead of its own, to run a study in small or in another way."""
    space: dict[str, Any] = Field(default_factory=dict)
    """Field of `Candidate` -> value, choices or range (see `search.study.space`)."""

    @field_validator("candidates", mode="before")
    @classmethod
    def _spell_out(cls, entry: Any) -> Any:
        """Turn a list of memo names into settings by name."""
        if not isinstance(entry, list):
            return entry
        memo = load_memo()
        if unknown := [str(name) for name in entry if name not in memo]:
            raise ValueError(f"unknown memo name {', '.join(unknown)}; known: {', '.join(memo)}")
        return {name: memo[name].candidate.model_dump(mode="json", exclude_defaults=True) for name in entry}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.candidates and not self.space:
            raise ValueError("needs `candidates:` (settings by name) or `space:` (what to sample), or both")
        if self.space and self.sampler != "grid" and self.budget.candidates is None:
            raise ValueError(f"budget.candidates is required: sampler {self.sampler!r} never ends by itself")
        limit, named = self.budget.candidates, len(self.candidates)
        if limit is not None and limit < named:
            raise ValueError(f"budget.candidates={limit} is less than the {named} under `candidates:`")
        return self


class ResolvedStudy(Study):
    """A study as run: every default spelled out, bound to one preparation of the data."""

    data_hash: str
    split_hash: str
    names: dict[str, str] = Field(default_factory=dict)
    """Name of each explicit candidate -> its id."""


def read_study(path: str | Path, *, data: str | None = None) -> Study:
    """Read a study file, apply its `override`, and check all of it, candidates and space included.

    Args:
        path: the study file.
        data: prepared folder to take instead of the study's.

    Raises:
        InputError: names every fault with its key.
    """
    written = read_document(path, Study)
    study = _overridden(written, path)
    faults = [
        *_faults_of(lambda: read_candidates(written.candidates, where=f"{path}: candidates")),
        *_faults_of(lambda: read_space(study.space, where=f"{path}: space")),
    ]
    if not faults:
        faults += _faults_of(lambda: read_candidates(study.candidates, where=f"{path}: overridden", twins=True))
    if not faults and study.space and study.sampler == "grid":
        endless = read_space(study.space).endless()
        faults.extend(f"{path}: space.{name}: a grid needs choices or int, found a range" for name in endless)
    if faults:
        raise InputError(*faults)
    return study if data is None else study.model_copy(update={"data": data})


def _faults_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except InputError as error:
        return list(error.faults)
    return []


def _overridden(study: Study, path: str | Path) -> Study:
    """Return the study with `override` merged into everything that it tries, and empty itself.

    Candidates that it makes alike are one model, trained once.
    """
    if not study.override:
        return study
    check_document(study.override, Candidate, where=f"{path}: override")
    candidates = {name: {**(settings or {}), **study.override} for name, settings in study.candidates.items()}
    space = {**study.space, **study.override} if study.space else {}
    return study.model_copy(update={"candidates": candidates, "space": space, "override": {}})


def choose_candidates(study: Study, only: Collection[str]) -> frozenset[str]:
    """Return the ids of the explicit candidates named `only`.

    Raises:
        InputError: there is no name, or one that is not under `candidates:`; lists those that are.
    """
    known = ", ".join(study.candidates) or "none"
    if not only:
        raise InputError(f"--only names no candidate; known: {known}")
    if unknown := sorted(set(only) - study.candidates.keys()):
        raise InputError(
            f"--only {', '.join(unknown)}: no such name under `candidates:` of {study.name}; known: {known}"
        )
    candidates = read_candidates(study.candidates, twins=True)
    return frozenset(candidates[name].id for name in only)


def alike(study: ResolvedStudy) -> list[list[str]]:
    """Return the names that stand for one model, for each model that has several."""
    names: dict[str, list[str]] = {}
    for name, candidate in study.names.items():
        names.setdefault(candidate, []).append(name)
    return [shared for shared in names.values() if len(shared) > 1]


def resolve_study(study: Study, data: Prepared) -> ResolvedStudy:
    """Bind a study to the data it names.

    Raises:
        InputError: the task lacks what some recipe or loss of the study needs.
    """
    if faults := _misfits(study, data.task):
        raise InputError(*faults)
    settings = {**study.model_dump(mode="json"), "data": absolute(study.data)}
    return ResolvedStudy(
        **settings,
        data_hash=data.manifest.data_hash,
        split_hash=data.manifest.split_hash,
        names={name: candidate.id for name, candidate in read_candidates(study.candidates, twins=True).items()},
    )


def _misfits(study: Study, task: Task) -> list[str]:
    """Return what the task lacks for the recipes and losses that the study may try, each fault once."""
    named = read_candidates(study.candidates, twins=True)
    tried = [(f"candidates.{name}", candidate) for name, candidate in named.items()]
    if study.space:
        tried += [("space", Candidate.model_validate(settings)) for settings in read_space(study.space).corners()]
    faults = [
        f"{where}: {fault}" for where, candidate in tried for fault in _faults_of(partial(check_task, candidate, task))
    ]
    return list(dict.fromkeys(faults))


def keep_study(study: ResolvedStudy, run_dir: str) -> list[str]:
    """Write `study.yaml` into the run directory, after checking that it fits what ran there before.

    Returns:
        What else has changed since, a sentence for each setting.

    Raises:
        InputError: the directory holds a study whose results would mix with this one's; names every such setting.
    """
    path, changes = join(run_dir, "study.yaml"), []
    if exists(path):
        before = read_resolved(path)
        changes = _changes(before, study)
        faults = _conflicts(before, study)
        if faults:
            raise InputError(
                *(f"{path}: {fault}" for fault in faults),
                "Results of both would mix. Undo the change, or give the study another `name:`.",
            )
    text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_bytes(text.encode(), path)
    return changes


def read_resolved(path: str) -> ResolvedStudy:
    """Read the `study.yaml` of a run directory.

    Raises:
        InputError: it is not what this version wrote; says what to do.
    """
    try:
        content = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not a YAML file ({error}); it was edited after it was written") from error
    try:
        return check_document(content, ResolvedStudy, where=path)
    except InputError as error:
        raise InputError(
            *error.faults,
            "Another version of blendfold wrote this file, or it was edited. Go on with that version, or give the "
            "study another `name:` to begin anew; `leaderboard`, `explain` and `blend fit` read what is finished there",
        ) from error


def _conflicts(before: ResolvedStudy, now: ResolvedStudy) -> list[str]:
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    return [f"{key} was {old[key]!r}, is now {new[key]!r}" for key in FROZEN_KEYS if old[key] != new[key]]


def _changes(before: ResolvedStudy, now: ResolvedStudy) -> list[str]:
    """Return what may change between runs and did; of candidates only the names."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    told = [key for key in new if key not in (*FROZEN_KEYS, "candidates", "names") and old[key] != new[key]]
    sentences = [f"{key} was {old[key]!r}, is now {new[key]!r}" for key in told]
    kept = {name for name, candidate in before.names.items() if now.names.get(name) == candidate}
    added = [f"candidate {name} is new" for name in now.names if name not in kept]
    gone = [f"candidate {name} is no longer asked for" for name in before.names if name not in kept]
    return sentences + gone + added
