"""`FrozenRecord`: base of what is stored as JSON or YAML."""

from pydantic import BaseModel, ConfigDict


class FrozenRecord(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
