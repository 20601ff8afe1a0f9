"""`FrozenRecord`: base of what is stored as JSON or YAML; `FrozenSettings`: base of what a person writes."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class FrozenRecord(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FrozenSettings(FrozenRecord):
    """Numbers are finite, and true or false is neither a number nor a text."""

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_truth(cls, value: Any, info: ValidationInfo) -> Any:
        takes_truth = cls.model_fields[str(info.field_name)].annotation is bool
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, bool) != takes_truth for one in values):
            raise ValueError("must be true or false" if takes_truth else "true or false does not fit here")
        return value
