"""Reads the `candidates:` of a study into checked candidates by name."""

from collections.abc import Mapping
from typing import Any

from data_prep.errors import InputError
from data_prep.store.yaml_documents import check_document
from models.candidate import Candidate


def read_candidates(
    entries: Mapping[str, Mapping[str, Any] | None], *, where: str = "candidates", allow_twins: bool = False
) -> dict[str, Candidate]:
    """Turn the `candidates:` of a study into checked candidates by name; messages call the entries `where`.

    Raises:
        InputError: every mistake at once; without `allow_twins` two names of the same model are one.
    """
    faults: list[str] = []
    found: dict[str, Candidate] = {}
    first_names: dict[str, str] = {}
    for name, settings in entries.items():
        try:
            candidate = check_document(dict(settings or {}), Candidate, where=f"{where}.{name}")
        except InputError as error:
            faults.extend(error.faults)
            continue
        twin = first_names.setdefault(candidate.id, name)
        if twin != name and not allow_twins:
            faults.append(f"{where}.{name}: the same model as {where}.{twin}; remove one of them or change its seed")
        found[name] = candidate
    if faults:
        raise InputError(*faults)
    return found
