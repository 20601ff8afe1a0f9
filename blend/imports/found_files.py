"""The files of predictions that others made: a file, a folder or a pattern, sorted by the model that they are of."""

import re
from dataclasses import dataclass

from blend.imports.file_formats import READERS, suffix_of
from data_prep.errors import InputError
from data_prep.store.files import base_name, exists, join, list_names, locate
from data_prep.store.object_store import split_options

FOLD_SUFFIX = re.compile(r"(?:(.+?)[ ._-]+)?k?fold[ ._-]*(\d+)", re.IGNORECASE)
"""A name that ends with the number of a fold, as `oof_x_fold0`."""
NAME_FROM = ("star", "file", "folder")
"""What names a model: the text that the stars of a pattern stand for, a file's name, or that of the folder it is in."""


@dataclass(frozen=True)
class FoundFiles:
    """The files that a path, folder or pattern matches."""

    paths: dict[str, tuple[str, ...]]
    """By model name (see `NAME_FROM`). Several files: one for each fold."""
    is_single: bool
    """The path names one file, or the files of the folds of one model."""
    passed_over: tuple[str, ...] = ()
    """Files of a folder or pattern in an unknown format."""


def find_files(where: str, flag: str, name_from: str | None = None) -> FoundFiles:
    """Return the files that `where` matches: one file, a folder, or a pattern with a `*` in one part or several.

    Files whose names differ only in the number of a fold at the end (`oof_x_fold0.csv`) are those of one model.

    Raises:
        InputError: there is no file of a known format, or two have the same name.
    """
    if name_from not in (None, *NAME_FROM):
        raise InputError(f"--name-from {name_from}: must be one of {', '.join(NAME_FROM)}")
    if names := list_names(where):
        models = {join(where, name): _stem(name) for name in names}
    elif "*" in where:
        models = _matches(where)
    elif exists(where):
        name = _folder_of(where) if name_from == "folder" else _stem(base_name(where))
        return FoundFiles({name: (where,)}, is_single=True)
    else:
        raise InputError(f"{flag} {where}: no such file or folder")
    known = {path: name for path, name in models.items() if suffix_of(path) in READERS}
    if name_from in ("file", "folder"):
        known = {path: _stem(base_name(path)) for path in known}
    paths: dict[str, dict[int, str]] = {}
    faults: list[str] = []
    for path, (model, fold) in _name_folds(known, by_folder=name_from == "folder").items():
        files = paths.setdefault(model, {})
        if fold in files:
            faults.append(
                f"{flag} {where}: {files[fold]} and {path} are both called {model!r}; rename one, or choose --name-from"
            )
        files[fold] = path
    if not paths:
        faults.append(f"{flag} {where}: no file with one of the suffixes {', '.join(READERS)}")
    if faults:
        raise InputError(*faults)
    ordered = {model: tuple(files[fold] for fold in sorted(files)) for model, files in paths.items()}
    return FoundFiles(
        ordered, is_single=list(paths) == [""], passed_over=tuple(path for path in models if path not in known)
    )


def _name_folds(names: dict[str, str], *, by_folder: bool) -> dict[str, tuple[str, int]]:
    """Return model and fold of each path; a name with a fold's number that stands alone is a model's own."""
    places = {path: _folder_of(path) if by_folder else "" for path in names}
    numbered = {path: match for path, name in names.items() if (match := FOLD_SUFFIX.fullmatch(name))}
    stems = [(places[path], match[1]) for path, match in numbered.items()]
    found = {
        path: (number[1] or "", int(number[2]))
        if (number := numbered.get(path)) and stems.count((places[path], number[1])) > 1
        else (name, 0)
        for path, name in names.items()
    }
    return {path: (places[path] if by_folder else name, fold) for path, (name, fold) in found.items()}


def _folder_of(path: str) -> str:
    return base_name(locate(path)[1].rpartition("/")[0])


def _matches(where: str) -> dict[str, str]:
    """Return the name of each path that a pattern matches: the texts that its stars stand for, joined by dashes."""
    place, options = split_options(where)
    parts = place.split("/")
    first = next(number for number, part in enumerate(parts) if "*" in part)
    start = "/".join(parts[:first]) or ("/" if first else ".")
    found: dict[str, tuple[str, ...]] = {start + options: ()}
    for part in parts[first:]:
        found = {path: names for folder, before in found.items() for path, names in _step(folder, part, before).items()}
    return {path: "-".join(names) for path, names in found.items()}


def _step(folder: str, part: str, before: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return what one part of a pattern matches in a folder, with the texts of its stars after those `before`."""
    if "*" not in part:
        return {join(folder, part): before} if exists(join(folder, part)) else {}
    literals = part.split("*")
    pattern = re.compile("(.+)".join(map(re.escape, literals)))
    found = {}
    for name in list_names(folder):
        if match := pattern.fullmatch(name):
            *texts, last = match.groups()
            last = last if literals[-1] else _stem(last)
            is_number = last.isdecimal() and FOLD_SUFFIX.fullmatch(f"{literals[-2]}{last}")
            found[join(folder, name)] = (*before, *texts, f"fold{last}" if is_number else last)
    return found


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name
