"""`ErrorRows`: every scored train row with its texts, its score and what the blend and its members predict for it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from blend.blend_folder import RECORD_FILE, blend_folder, data_faults, read_blend, read_nested
from blend.members.run_dirs import find_data, read_label
from data_prep.cpc import SECTION_LENGTH
from data_prep.errors import InputError
from data_prep.prepared import Prepared, fold_columns, load_prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric
from data_prep.store.files import exists, file_info, join, list_names
from data_prep.store.oof_store import OofStore, home_of
from data_prep.store.tables import one_array
from data_prep.target_views import Narrow, TargetView, target_views
from data_prep.task import Task
from data_prep.wording import command

MOST_COMPANIONS = 7
"""Without a blend, at most so many more candidates are shown beside the best."""


@dataclass(frozen=True, eq=False)
class ErrorRows:
    """Rows that a prediction is scored on, with everything that may tell why it is wrong there."""

    frame: pd.DataFrame
    """One row for each scored train row, in prepared order; of classes one for each row and class, its id says which:

    - `id`, the task's text columns, `context_text` where there are CPC codes, every other column of the prepared
      table; one that has the name of a column below is called `NAME (given)`
    - `section`: the first letter of the CPC code, where there are codes; `length`: characters of all texts but the code
    - `group`, `fold`
    - `score`, the truth; `prediction`; `error`: prediction - score, so that it is positive where too much is predicted
    - a column for each of `members`, called by its id: its raw out-of-fold prediction, NaN in unfinished folds

    With repeats, predictions are means over them, and `fold` is that of the first.
    """
    data: Prepared
    """With one target, the one that is predicted; of classes, with all."""
    source: str
    """What predicts, such as `blend best` or `candidate 0123456789ab pair-mean-mse`."""
    kind: str
    """How rows were predicted: `nested` or `out-of-fold`."""
    members: Mapping[str, str]
    """Label of each member, by its candidate id."""

    @property
    def task(self) -> Task:
        """The task of the data."""
        return self.data.task

    @property
    def metric(self) -> Metric:
        """The task's metric."""
        return self.task.measure

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the text columns in `frame`."""
        return tuple(_own_names(self.task.text_columns, self.task))


def load_error_rows(run: str, data: Prepared | None = None, *, blend: str | None = None) -> ErrorRows:
    """Return the rows of a blend, by default the one written last, or of the best candidate where there is no blend.

    A blend's prediction is its nested one: fitted, with every choice, without the row's fold. A candidate's is
    out-of-fold. The best candidate is the one with the most finished folds, of these the one with the best metric; up
    to `MOST_COMPANIONS` others that predicted the same folds stand beside it.

    Args:
        run: a run directory.
        data: its prepared data; None: loaded from the folder that the blend or the study names.
        blend: the blend's name; of several targets, `NAME/TARGET` (without one: the first).

    Raises:
        InputError: no such blend, no finished fold run, or tables that do not belong to the data.
    """
    name = blend or last_blend(run)
    if name is None:
        return _candidate_rows(run, data or load_prepared(find_data(run)))
    record = read_blend(run, name)
    data = data or load_prepared(record.data)
    if faults := data_faults(record, data):
        raise InputError(*faults)
    view = _view_of(record.name, data.task)
    homes = {member.candidate: home_of(member.candidate, run, member.run) for member in record.members}
    return ErrorRows(
        frame=_frame(view.data(data), _over_repeats(read_nested(run, name, view)), homes, view.narrow),
        data=_data_of(view, data),
        source=f"blend {record.name}",
        kind="nested",
        members={member.candidate: member.label for member in record.members},
    )


def _view_of(blend: str, task: Task) -> TargetView:
    """Return the view of a blend by its name, which ends with that of any target."""
    views = {view.name: view for view in target_views(task)}
    return views[blend.partition("/")[2]]


def _data_of(view: TargetView, data: Prepared) -> Prepared:
    return view.data(data) if view.cells == 1 else data


def last_blend(run: str) -> str | None:
    """Return the name of the blend of a run directory that was written last; None if there is none."""
    records = {name: join(blend_folder(run, name), RECORD_FILE) for name in list_names(join(run, "blends"))}
    written = {name: file_info(path).mtime_ns for name, path in records.items() if exists(path)}
    return max(written, key=lambda name: (written[name], name), default=None)


def _candidate_rows(run: str, data: Prepared) -> ErrorRows:
    view = target_views(data.task)[0]
    chosen = _best_candidates(run, view)
    best = chosen[0]
    return ErrorRows(
        frame=_frame(view.data(data), _read_oof(run, best, view.narrow), dict.fromkeys(chosen, run), view.narrow),
        data=_data_of(view, data),
        source=f"candidate {best} {read_label(run, best)[0]}{f', target {view.name}' if view.name else ''}",
        kind="out-of-fold",
        members={candidate: read_label(run, candidate)[0] for candidate in chosen},
    )


def _best_candidates(run: str, view: TargetView) -> list[str]:
    """Return the best candidate and those to stand beside it, best first."""
    store = OofStore(run)
    folds = {candidate: tuple(store.folds(candidate)) for candidate in store.candidates()}
    if not folds:
        search = command("blendfold status", run)
        raise InputError(f"{run}: no fold run is finished, so there are no predictions to look at; see `{search}`")
    most = max(map(len, folds.values()))
    utility = {
        candidate: np.nan_to_num(_mean_utility(store, candidate, view), nan=-np.inf)
        for candidate, finished in folds.items()
        if len(finished) == most
    }
    ranked = sorted(utility, key=lambda candidate: (-utility[candidate], candidate))
    others = [candidate for candidate in ranked[1:] if folds[candidate] == folds[ranked[0]]]
    return [ranked[0], *others[:MOST_COMPANIONS]]


def _mean_utility(store: OofStore, candidate: str, view: TargetView) -> float:
    tables = [view.narrow(store.read("oof", candidate, fold)) for fold in store.folds(candidate)]
    metric = view.task.measure
    values = [metric(table["score"].to_numpy(), table["prediction"].to_numpy()) for table in tables]
    return metric.utility(float(np.mean(values)))


def _read_oof(run: str, candidate: str, narrow: Narrow) -> pa.Table:
    store = OofStore(run)
    tables = (narrow(store.read("oof", candidate, fold)) for fold in store.folds(candidate))
    return _over_repeats(pa.concat_tables(tables))


def _over_repeats(table: pa.Table) -> pa.Table:
    """Return a row for each id, with its mean prediction over repeats and its least fold; unchanged without repeats."""
    if pc.count_distinct(table["id"]).as_py() == table.num_rows:
        return table
    numbers = {"fold": "min", "score": "min", "prediction": "mean"}
    found = table.group_by("id", use_threads=False).aggregate(list(numbers.items()))
    return found.select(["id", *map("_".join, numbers.items())]).rename_columns(["id", *numbers])


def _frame(data: Prepared, table: pa.Table, homes: Mapping[str, str], narrow: Narrow) -> pd.DataFrame:
    """Return the frame of `ErrorRows` for data and a table of `OOF_SCHEMA`, both narrow.

    `homes` has each member's run directory.
    """
    place = pc.index_in(one_array(data.train["id"]), value_set=one_array(table["id"]))
    if place.is_valid().to_numpy(zero_copy_only=False).sum() != table.num_rows:
        raise InputError(
            f"{data.path}: lacks rows that were predicted; name the prepared folder of the run with --data"
        )
    train = data.train.filter(place.is_valid())
    predicted = table.take(place.drop_null())
    task, texts = data.task, list(data.task.text_columns)
    given = [
        name for name in train.column_names if name not in ("score", "group", *fold_columns(data.manifest.repeats))
    ]
    frame: pd.DataFrame = train.select(given).to_pandas()
    frame.columns = pd.Index(_own_names(given, task))
    if task.cpc_column:
        frame["section"] = pc.utf8_slice_codeunits(train[task.cpc_column], 0, SECTION_LENGTH).to_pandas()
    frame["length"] = _lengths(train, [name for name in texts if name != task.cpc_column])
    frame["group"], frame["fold"] = train["group"].to_numpy(), predicted["fold"].to_numpy()
    frame["score"] = train["score"].to_numpy().astype(np.float64)
    frame["prediction"] = predicted["prediction"].to_numpy().astype(np.float64)
    frame["error"] = frame["prediction"] - frame["score"]
    members = {candidate: _member_column(run, candidate, train["id"], narrow) for candidate, run in homes.items()}
    return frame.assign(**members)


def given_names(names: Iterable[str], ours: Collection[str]) -> list[str]:
    """Return what columns of the data are called in a table that has columns `ours`, too."""
    return [f"{name} (given)" if name in ours else name for name in names]


def _own_names(names: Iterable[str], task: Task) -> list[str]:
    return given_names(names, ["length", "error", "disagreement", *(["section"] if task.cpc_column else [])])


def _lengths(train: pa.Table, texts: Sequence[str]) -> Floats:
    return np.asarray(sum(pc.utf8_length(train[name]).to_numpy() for name in texts))


def _member_column(run: str, candidate: str, ids: pa.ChunkedArray, narrow: Narrow) -> Floats:
    """Return a member's out-of-fold predictions [rows]; NaN where its fold is not finished."""
    table = _read_oof(run, candidate, narrow)
    found = one_array(table["prediction"]).take(pc.index_in(one_array(ids), value_set=one_array(table["id"])))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)
