"""Bases of what is stored as JSON or YAML: `FrozenRecord`, `GrowingRecord`, and `FrozenSettings` that people write."""

from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)


class FrozenRecord(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GrowingRecord(FrozenRecord):
    """A record whose later fields are left out where they have their default, so that what is old stays as it was."""

    later_fields: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        idle = {name for name in self.later_fields if getattr(self, name) == fields[name].get_default()}
        return {name: value for name, value in handler(self).items() if name not in idle}


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
