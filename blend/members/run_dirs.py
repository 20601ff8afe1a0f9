"""What a blend needs from a run directory: its data, its candidates, and their names and labels."""

from collections.abc import Collection, Sequence
from typing import Any

from data_prep.candidate_label import candidate_label
from data_prep.errors import InputError
from data_prep.store.candidate_records import candidate_path, read_settings
from data_prep.store.files import exists, join
from data_prep.store.oof_store import OofStore
from data_prep.store.study_record import STUDY_FILE, read_study_record


def find_data(run: str) -> str:
    """Return the prepared folder that `study.yaml` of `run` names; InputError if it names none or `run` is no run."""
    path = join(run, STUDY_FILE)
    if not exists(path):
        raise InputError(f"{run}: not a run directory (no study.yaml); give the folder that `blendfold run` made")
    data = read_study(run).get("data")
    if not isinstance(data, str):
        raise InputError(f"{path}: has no `data:`; name the prepared folder with --data")
    return data


def read_study(run: str) -> dict[str, Any]:
    """Return the content of a run directory's `study.yaml`; empty if there is none."""
    return read_study_record(run) if exists(join(run, STUDY_FILE)) else {}


def _read_names(run: str) -> dict[str, str]:
    """Return the id of each candidate that the run's study names."""
    names = read_study(run).get("names")
    return {str(name): str(candidate) for name, candidate in names.items()} if isinstance(names, dict) else {}


def list_candidates(runs: Sequence[str], exclude: Collection[str]) -> list[tuple[str, str]]:
    """Return run and id of every candidate with a finished fold run; InputError if `exclude` names an unknown one."""
    found = [(run, candidate) for run in runs for candidate in OofStore(run).candidates()]
    known = {candidate for _, candidate in found}
    if unknown := sorted(set(exclude) - known):
        raise InputError(
            f"--exclude {', '.join(unknown)}: no such candidate; known: {', '.join(sorted(known)) or 'none'}"
        )
    return found


def choose_members(
    found: Sequence[tuple[str, str]], runs: Sequence[str], members: Collection[str]
) -> list[tuple[str, str]]:
    """Return run and id of each member, in the order of `members`; the first run wins.

    Raises:
        InputError: a member is neither a name nor an id in these runs, or has no finished fold run.
    """
    names = {run: _read_names(run) for run in runs}
    chosen: list[tuple[str, str]] = []
    faults: list[str] = []
    for member in members:
        places = [(run, names[run].get(member, member)) for run in runs]
        finished = [place for place in places if place in found]
        if finished:
            chosen.extend(place for place in finished[:1] if place not in chosen)
        elif named := [run for run in runs if member in names[run]]:
            faults.append(f"--members {member}: has no finished fold run in {named[0]}; run the study again")
        else:
            known = sorted({name for of_run in names.values() for name in of_run}) or sorted({i for _, i in found})
            faults.append(f"--members {member}: no such candidate; known: {', '.join(known) or 'none'}")
    if faults:
        raise InputError(*faults)
    return chosen


def read_label(run: str, candidate: str) -> tuple[str, str]:
    """Return a candidate's label (led by its name in the study, if any) and family; its id for both without a file."""
    settings = _read_settings(run, candidate)
    if settings is None:
        return candidate, candidate
    if settings.get("imported"):
        return f"{settings['name']} (imported)", str(settings["family"])
    settings = {"backbone": candidate, **settings}
    family, label = str(settings["backbone"]), candidate_label(settings)
    names = [name for name, named in _read_names(run).items() if named == candidate]
    return " ".join([*names, label]), family


def read_imported(run: str, candidate: str) -> dict[str, Any] | None:
    """Return the settings of an imported candidate, whose predictions were made elsewhere; None for any other."""
    settings = _read_settings(run, candidate) or {}
    return settings if settings.get("imported") else None


def _read_settings(run: str, candidate: str) -> dict[str, Any] | None:
    """Return the content of a candidate's JSON file; None if there is none."""
    return read_settings(run, candidate) if exists(candidate_path(run, candidate)) else None
