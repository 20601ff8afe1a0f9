"""The folder of a blend in a run directory: writing it, reading it back, finding the blend before it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from blend.blend_record import BlendRecord, TargetsRecord, WholeRecord
from blend.evidence.comparisons import PreviousBlend
from blend.make_blend import FinishedBlend
from blend.members.member_predictions import MemberPredictions
from blend.members.row_alignment import row_keys
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.store.files import exists, file_info, join, list_names, remove
from data_prep.store.folder_lock import folder_lock
from data_prep.store.sealed_records import read_record, write_record
from data_prep.store.tables import check_schema, one_array, oof_schema, predicted_names, read_table
from data_prep.store.tables import write_table as write_arrow
from data_prep.submission.submission_manifest import MANIFEST_FILE, SUBMISSION_FILE, write_submission
from data_prep.target_views import TargetView
from data_prep.wording import command

RECORD_FILE = "blend.json"
OOF_FILE = "oof.arrow"
"""Nested predictions, `oof_schema`; a later blend is compared with them."""


def blend_folder(run: str, name: str) -> str:
    """Return where a run directory keeps a blend, whose `name` a target's may follow after a slash."""
    return join(run, "blends", name.partition("/")[0])


def write_blend(finished: FinishedBlend, folder: str, *, force: bool = False) -> None:
    """Write any submission with its manifest, `oof.arrow`, then `blend.json`; the same blend again changes nothing.

    Raises:
        InputError: the folder holds another blend and `force` is not given.
    """
    with folder_lock(folder):
        _write_blend(finished, folder, force=force)


def _write_blend(finished: FinishedBlend, folder: str, *, force: bool) -> None:
    content = finished.record.model_dump(mode="json")
    path = join(folder, RECORD_FILE)
    if exists(path) and not force and not _holds(path, content):
        raise InputError(f"{path}: already holds another blend; choose another --name, or replace it with --force")
    if finished.submission is None or finished.manifest is None:
        for file in (MANIFEST_FILE, SUBMISSION_FILE):  # of the blend that this one replaces
            remove(join(folder, file))
    else:
        write_submission(finished.submission, finished.manifest, folder)
    schema = oof_schema(predicted_names(finished.oof.column_names))
    write_arrow(finished.oof, join(folder, OOF_FILE), schema=schema, metadata={"blend": finished.record.name})
    write_record(content, path)


def read_blend(run: str, name: str) -> BlendRecord:
    """Read the blend of a run directory that has one target, or of one of several: `NAME/TARGET`, else the first.

    Raises:
        InputError: there is none, or an incompatible version wrote it.
    """
    blends = read_whole_blend(run, name).by_target
    target = name.partition("/")[2] or next(iter(blends))
    if target not in blends:
        known = "one target" if "" in blends else f"targets {', '.join(blends)}"
        raise InputError(f"--blend {name}: no such target; blend {name.partition('/')[0]} has {known}")
    return blends[target]


def read_whole_blend(run: str, name: str) -> WholeRecord:
    """Read a blend of a run directory, of all targets; InputError as `read_blend`."""
    path = join(blend_folder(run, name), RECORD_FILE)
    if not exists(path):
        raise InputError(f"{path}: no such blend; fit one with `{_fit(run, name)}`")
    return read_record(path, _validated, remedy=f"fit it again with `{_fit(run, name)} --force`")


def _validated(content: dict[str, object]) -> WholeRecord:
    return (TargetsRecord if "targets" in content else BlendRecord).model_validate(content)


def read_nested(run: str, name: str, view: TargetView) -> pa.Table:
    """Return a blend's nested predictions of a view, `OOF_SCHEMA`."""
    return _read_oof(blend_folder(run, name), view)


def _read_oof(folder: str, view: TargetView) -> pa.Table:
    path = join(folder, OOF_FILE)
    table = read_table(path)
    check_schema(table, path, oof_schema(predicted_names(table.column_names)))
    return view.narrow(table)


def data_faults(blend: WholeRecord, data: Prepared) -> list[str]:
    """Return what is wrong with a prepared folder for a blend: that it was fitted on other data."""
    if data.manifest.data_hash == blend.data_hash:
        return []
    return [
        f"{data.path}: blend {blend.name} was fitted on other data (data_hash {blend.data_hash[:12]}, "
        f"here {data.manifest.data_hash[:12]}); name its prepared folder with --data"
    ]


def _fit(run: str, name: str) -> str:
    return command("blendfold blend", run, options={"--name": name})


def _holds(path: str, content: dict[str, object]) -> bool:
    """Tell whether a file has the record of a blend; the previous blend that it is compared with does not matter."""
    try:
        there = read_record(path, dict, remedy="")
    except InputError:
        return False
    return {**there, "previous": None} == {**content, "previous": None}


def find_previous(
    runs: Sequence[str], name: str, against: str | None, predictions: MemberPredictions, view: TargetView
) -> PreviousBlend | None:
    """Return the blend to compare the new one, `name`, with: `against`, else the one with its rows written last.

    Raises:
        InputError: there is no blend `against`, or it has other rows.
    """
    folders = {found: blend_folder(run, found) for run in reversed(runs) for found in list_names(join(run, "blends"))}
    known = {found: folder for found, folder in folders.items() if exists(join(folder, OOF_FILE))}
    if against is not None:
        if against not in known:
            raise InputError(f"--against {against}: no such blend; known: {', '.join(sorted(known)) or 'none'}")
        prediction = _aligned(known[against], predictions, view)
        if prediction is None:
            raise InputError(f"--against {against}: {known[against]} holds a blend for other rows")
        return PreviousBlend(against, prediction)
    others = [found for found in known if found != name]
    for found in sorted(others, key=lambda found: file_info(join(known[found], OOF_FILE)).mtime_ns, reverse=True):
        prediction = _aligned(known[found], predictions, view)
        if prediction is not None:
            return PreviousBlend(found, prediction)
    return None


def _aligned(folder: str, predictions: MemberPredictions, view: TargetView) -> Floats | None:
    """Return a blend's nested predictions [rows]; None if it has other rows."""
    table = _read_oof(folder, view)
    if "prediction" not in table.column_names:  # of another task
        return None
    ours, theirs = predictions.ids, one_array(table["id"])
    if predictions.row is not None:
        ours, theirs = row_keys(ours, predictions.fold), row_keys(theirs, table["fold"].to_numpy())
    order = pc.index_in(ours, value_set=theirs)
    if order.null_count or table.num_rows != len(predictions.ids):
        return None
    return np.asarray(table["prediction"].to_numpy()[order.to_numpy()], dtype=np.float64)
