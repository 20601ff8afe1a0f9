"""YAML and JSON files read into pydantic models (task, candidate, study), with every fault in one error."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data_prep.errors import InputError
from data_prep.store.file_starts import start_says
from data_prep.store.files import open_file
from data_prep.store.yaml_values import parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def read_document(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML (or JSON, which is YAML) file into `model`.

    Raises:
        InputError: the file is missing, is not UTF-8 YAML, or does not fit; names every fault with its key.
    """
    return check_document(read_yaml(path), model, where=str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        InputError: the file is missing, is not UTF-8 YAML (see `parse_yaml`), or does not hold settings.
    """
    try:
        with open_file(path) as file:
            raw = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if what := start_says(raw):
        raise InputError(f"{path}: expected a YAML file, found {what}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 YAML file: {error}") from error
    content = parse_yaml(text, where=str(path))
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: must hold `key: value` settings, found {found}")
    return content


def check_document(content: dict[str, Any], model: type[Model], *, where: str) -> Model:
    """Build `model` from `content` and report every fault at once; `where` names the file that holds it.

    Raises:
        InputError: as for `read_document`; an unknown key lists the known ones.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(*(f"{where}: {fault}" for fault in _faults(error, model))) from error


def _faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    faults = []
    for item in error.errors(include_url=False):
        location = item["loc"][:-2] if item["loc"][-1:] == ("[key]",) else item["loc"]
        key = ".".join(str(part) for part in location) or model.__name__.lower()
        if item["type"] == "extra_forbidden":
            owner = _owner(model, item["loc"])
            known = f"; known keys: {', '.join(sorted(owner.model_fields))}" if owner else ""
            faults.append(f"unknown key {key!r}{known}")
        elif item["type"] == "missing":
            faults.append(f"{key}: is required")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            faults.append(f"{key}: {message}{found}")
    return faults


def _owner(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model class that holds the last key of `location`, if plain nesting leads there."""
    owner: type[BaseModel] | None = model
    for part in location[:-1]:
        field = owner.model_fields.get(str(part)) if owner else None
        kind = field.annotation if field else None
        owner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return owner
