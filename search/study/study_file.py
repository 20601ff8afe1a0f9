"""`Study`: the YAML file that says what to search, on which machines, for how long."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data_prep.frozen_record import FrozenSettings
from data_prep.given_name import FOLDER_NAME, GivenName
from search.ladder.settings import LadderSettings


class Budget(FrozenSettings):
    """How much may be tried."""

    candidates: int | None = Field(default=None, ge=1)
    """At most this many candidates, explicit and sampled together; None: the explicit ones and the whole grid."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of one `run` after which no new candidate starts; the best that have started finish their folds."""
    disk_gb: float | None = Field(default=None, gt=0)
    """Gigabytes (10^9 bytes) that checkpoints and weights in the run directory may take together; None: no limit."""


class Resources(FrozenSettings):
    """What one fold run occupies."""

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


class Price(FrozenSettings):
    """What an hour of a core or a GPU costs, in any currency."""

    cpu: float = Field(default=0, ge=0)
    """For a CPU core."""
    gpu: float = Field(default=0, ge=0)
    """For a GPU."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.cpu or self.gpu):
            raise ValueError("needs `cpu:` or `gpu:`, what an hour of one costs; leave it out if there are no prices")
        return self


class Study(FrozenSettings):
    """One search: what to try, on which data, with which resources."""

    name: str = Field(pattern=FOLDER_NAME)
    """Also the name of the run directory."""
    data: str = Field(min_length=1)
    """The prepared folder (`blendfold prepare --out`); relative paths start at the working directory."""
    budget: Budget = Budget()
    resources: StudyResources = StudyResources()
    price_per_hour: Price | None = None
    """Lets `blendfold status` show what fold runs cost; None: it shows no money."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How candidates are drawn from `space`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler; a candidate has its own."""
    ladder: LadderSettings = LadderSettings()
    rung_rows: int | None = Field(default=None, ge=2)
    """Rows of the fold that early rungs score, always the same ones; None: the whole fold."""
    checkpoint_seconds: float = Field(default=60, ge=0)
    """How often a fold run saves its state, which is the most work that it loses when it is killed. It saves less often
    where saving takes long (a large model, an object store), so that saving takes a tenth of the time at most."""
    keep_weights: Literal["members", "all", "none"] = "members"
    """Whose weights stay in the run directory: those of candidates that can still be in the blend, all that finish a
    fold, or none. (`keep` is a candidate's own setting: which of its weights predict.)"""
    score_epochs: bool = False
    """Whether fold runs are also scored after every epoch, so that `keep: best` chooses among epochs."""
    candidates: dict[GivenName, dict[str, Any] | None] = Field(default_factory=dict)
    """Explicit candidates by name; they run before sampled ones."""
    candidates_from: str | None = Field(default=None, exclude=True)
    """A log of experiments (see `models.experiment_log`), relative to the study file; `candidates` then lists names."""
    override: dict[str, Any] = Field(default_factory=dict)
    """Settings that replace every candidate's own, to run a study smaller or differently."""
    space: dict[str, Any] = Field(default_factory=dict)
    """Field of `Candidate` -> value, choices or range (see `search.study.read_space`)."""

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
