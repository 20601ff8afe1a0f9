"""`Recording`: learning curves and predictions of candidates that ran on every fold, for a replay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.metrics import METRICS, Metric
from data_prep.store.files import exists, join
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import CURVES_SCHEMA, DamagedTableError, metadata_of, one_array, read_table, write_table
from data_prep.target_views import target_views
from data_prep.wording import count
from search.run_dir.curves import CurvePoint
from search.run_dir.fold_rows import FoldRows
from search.run_dir.run_dir import RunDir

KEPT_SCHEMA = pa.schema([*CURVES_SCHEMA, ("family", pa.string()), ("label", pa.string())])
ROW_FIELDS = (("id", pa.string()), ("fold", pa.int8()), ("group", pa.int32()), ("score", pa.float32()))
CSV_COLUMNS = ("experiment", "backbone", "fold", "epoch", "valid_pearson")


@dataclass(frozen=True)
class RecordedRun:
    """The reports of one fold run in the order of its schedule; the last one is its end."""

    progress: tuple[float, ...]
    epochs: tuple[float, ...]
    """Epochs trained at each report."""
    seconds: tuple[float, ...]
    """Seconds since the start of the run at each report; NaN if unknown."""
    utility: tuple[float, ...]


@dataclass(frozen=True)
class RecordedCandidate:
    """A candidate with its run on every fold, fold 0 first."""

    name: str
    family: str
    label: str
    runs: tuple[RecordedRun, ...]

    @property
    def mean_utility(self) -> float:
        """Mean over the folds of the utility at the end."""
        return float(np.mean([run.utility[-1] for run in self.runs]))

    @property
    def epochs(self) -> float:
        """Epochs over all folds."""
        return sum(run.epochs[-1] for run in self.runs)


@dataclass(frozen=True)
class RecordedRows:
    """Out-of-fold predictions of all candidates of a recording on the same rows."""

    id: pa.Array
    fold: NDArray[np.int8]
    group: NDArray[np.int32]
    target: NDArray[np.float32]
    """The truth."""
    predictions: NDArray[np.float32]
    """[rows, candidates]"""


@dataclass(frozen=True)
class Recording:
    """Everything that a replay needs."""

    candidates: tuple[RecordedCandidate, ...]
    n_folds: int
    metric: Metric
    left_out: tuple[str, ...] = ()
    """One sentence for each candidate that cannot be replayed, with the reason."""
    rows: RecordedRows | None = None

    @property
    def epochs(self) -> float:
        """Fold-epochs of the full grid: every candidate on every fold."""
        return sum(candidate.epochs for candidate in self.candidates)

    @property
    def is_timed(self) -> bool:
        """Whether seconds are known for every report."""
        clocks = (run.seconds for candidate in self.candidates for run in candidate.runs)
        return all(all(step > 0 for step in np.diff((0.0, *clock))) for clock in clocks)


def read_recording(path: str, *, split: str | None = None, rows: str | None = None) -> Recording:
    """Read a CSV of curves, a run directory, or a folder that `keep_recording` wrote.

    `split` is the `split_id` to take from a CSV; `rows` a table of predictions (as kept) for curves that have none.

    Raises:
        InputError: not one of the three, other columns, an unknown split, or no candidate with all folds.
    """
    is_csv = path.endswith(".csv")
    if split is not None and not is_csv:
        raise InputError(f"--split selects rows of a CSV by split_id, but {path} is not a CSV; leave it out")
    if is_csv:
        recording = _read_csv(path, split)
    elif exists(RunDir(path).study_path):
        recording = _read_run_dir(RunDir(path))
    elif exists(join(path, "curves.arrow")):
        recording = _read_kept(path)
    else:
        raise InputError(
            f"{path}: not a CSV of curves, a run directory (study.yaml), or a folder made with "
            "`blendfold replay RUN --keep DIR` (curves.arrow)"
        )
    if rows is not None:
        recording = _with_rows(recording, rows)
    if recording.candidates:
        return recording
    raise InputError(f"{path}: no candidate has complete curves of all folds", *recording.left_out)


def keep_recording(recording: Recording, folder: str) -> None:
    """Write `curves.arrow` and, where there are predictions, `predictions.arrow`: all that a replay needs.

    Raises:
        InputError: the folder already holds a recording, which is never replaced, or is a run directory.
    """
    if found := [name for name in ("curves.arrow", "study.yaml") if exists(join(folder, name))]:
        raise InputError(f"{folder}: already holds {found[0]}; give --keep another folder")
    points = [
        (c.name, fold, *point[:-1], recording.metric.utility(point[-1]), c.family, c.label)
        for c in recording.candidates
        for fold, run in enumerate(c.runs)
        for point in zip(run.progress, run.epochs, run.seconds, run.utility, strict=True)
    ]
    names = ("candidate", "fold", "progress", "epoch", "seconds", "metric", "family", "label")
    columns = dict(zip(names, zip(*points, strict=True), strict=True))
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in KEPT_SCHEMA})
    rows = recording.rows
    if rows is not None:
        arrays = {"id": rows.id, "fold": rows.fold, "group": rows.group, "score": rows.target}
        arrays |= {c.name: rows.predictions[:, index] for index, c in enumerate(recording.candidates)}
        schema = pa.schema([*ROW_FIELDS, *((c.name, pa.float32()) for c in recording.candidates)])
        write_table(pa.table(arrays, schema=schema), join(folder, "predictions.arrow"), schema=schema)
    metadata = {"metric": recording.metric.name}
    write_table(table, join(folder, "curves.arrow"), schema=KEPT_SCHEMA, metadata=metadata)


# ---------------------------------------------------------------- the three kinds of input


def _assemble(
    points: Mapping[str, Sequence[CurvePoint]], about: Mapping[str, tuple[str, str]], *, n_folds: int, metric: Metric
) -> Recording:
    """Return the candidates that finished every fold; if a retry reported a progress again, the last report counts."""
    candidates, left_out = [], []
    for name, mine in points.items():
        by_fold: dict[int, dict[float, CurvePoint]] = {fold: {} for fold in range(n_folds)}
        for point in mine:
            by_fold[point.fold][point.progress] = point
        missing = [fold for fold, found in by_fold.items() if not found or max(found) < 1]
        if missing:
            folds = ", ".join(map(str, missing))
            left_out.append(f"{name} ({about[name][0]}): left out, no complete curve of fold {folds}")
            continue
        runs = tuple(_run([found[key] for key in sorted(found)], metric) for found in by_fold.values())
        candidates.append(RecordedCandidate(name, *about[name], runs))
    return Recording(tuple(candidates), n_folds, metric, tuple(left_out))


def _run(points: list[CurvePoint], metric: Metric) -> RecordedRun:
    return RecordedRun(
        tuple(point.progress for point in points),
        tuple(point.epoch for point in points),
        tuple(point.seconds for point in points),
        tuple(metric.utility(point.metric) for point in points),
    )


def _read_csv(path: str, split: str | None) -> Recording:
    """Read one line per experiment, fold and epoch (both from 0); the last epoch is the end of a run."""
    rows = _csv_rows(path, split)
    points: dict[str, list[CurvePoint]] = {}
    lengths: dict[str, int] = {}
    for row in rows:
        lengths[row["experiment"]] = max(lengths.get(row["experiment"], 0), row["epoch"] + 1)
    seen = set()
    for row in rows:
        name, fold, epoch = row["experiment"], row["fold"], row["epoch"]
        if (name, fold, epoch) in seen:
            raise InputError(f"{path}: {name} fold {fold} epoch {epoch} occurs twice; keep one line")
        seen.add((name, fold, epoch))
        point = CurvePoint(name, fold, (epoch + 1) / lengths[name], epoch + 1, row["valid_pearson"], float("nan"))
        points.setdefault(name, []).append(point)
    about = {row["experiment"]: (row["backbone"], row["experiment"]) for row in rows}
    n_folds = max(row["fold"] for row in rows) + 1
    return _assemble(points, about, n_folds=n_folds, metric=METRICS["pearson"])


def _csv_rows(path: str, split: str | None) -> list[dict[str, Any]]:
    types = {"experiment": pa.string(), "fold": pa.int64(), "epoch": pa.int64(), "valid_pearson": pa.float64()}
    options = pyarrow.csv.ConvertOptions(column_types={**types, "backbone": pa.string(), "split_id": pa.string()})
    try:
        table = pyarrow.csv.read_csv(path, convert_options=options)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a CSV of curves ({error})") from error
    needed = [*CSV_COLUMNS, *([] if split is None else ["split_id"])]
    if missing := [name for name in needed if name not in table.column_names]:
        raise InputError(f"{path}: lacks column {', '.join(missing)}; found {', '.join(table.column_names)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    if empty := [n for n, row in enumerate(rows, start=2) if any(row[name] is None for name in CSV_COLUMNS)]:
        raise InputError(f"{path}: line {empty[0]} has an empty cell among {', '.join(CSV_COLUMNS)}")
    known = sorted({str(row["split_id"]) for row in rows}) if "split_id" in table.column_names else []
    if split is None and len(known) > 1:
        raise InputError(
            f"{path}: holds several splits, whose folds cannot be compared; add --split with one of {known}"
        )
    chosen = [row for row in rows if split is None or row["split_id"] == split]
    if not chosen:
        raise InputError(f"{path}: no line has split_id {split!r}; known: {', '.join(known)}")
    return chosen


def _read_run_dir(run: RunDir) -> Recording:
    data = run.data
    points: dict[str, list[CurvePoint]] = {name: [] for name in run.candidates}
    for point in run.points:
        if point.progress < 1 or run.store.is_finished(point.candidate, point.fold):
            points[point.candidate].append(point)
    about = {name: (run.family(name), run.label(name)) for name in run.candidates}
    recording = _assemble(points, about, n_folds=data.manifest.n_folds, metric=data.task.search_measure)
    return replace(recording, rows=_rows_of_run(run.store, data, recording))


def _rows_of_run(store: OofStore, data: Prepared, recording: Recording) -> RecordedRows:
    if data.manifest.repeats > 1:
        raise InputError(f"{data.path}: a replay plays searches over one split; this one has {data.manifest.repeats}")
    view, *others = target_views(data.task)
    if others:
        raise InputError(
            f"{data.path}: a replay plays searches for one number or for classes; task {data.task.name!r} has "
            f"{count(len(others) + 1, 'target')}"
        )
    train, of_fold = view.narrow(data.train), FoldRows(store, data)
    fold = train["fold"].to_numpy()
    order = np.concatenate([np.flatnonzero(fold == k) for k in range(recording.n_folds)])
    rows = train.take(order)
    predictions = np.empty((len(order), len(recording.candidates)), dtype=np.float32)
    for index, candidate in enumerate(recording.candidates):
        tables = [view.narrow(of_fold.read(candidate.name, k)) for k in range(recording.n_folds)]
        predictions[:, index] = np.concatenate([table["prediction"].to_numpy() for table in tables])
    return _rows_of(rows, predictions)


def _read_kept(folder: str) -> Recording:
    table = read_table(join(folder, "curves.arrow"), schema=KEPT_SCHEMA)
    points: dict[str, list[CurvePoint]] = {}
    about = {}
    for row in table.to_pylist():
        point = CurvePoint(**{name: row[name] for name in CURVES_SCHEMA.names})
        points.setdefault(point.candidate, []).append(point)
        about[row["candidate"]] = (row["family"], row["label"])
    n_folds = max(point.fold for mine in points.values() for point in mine) + 1
    metric = metadata_of(table).get("metric", "")
    if metric not in METRICS:
        raise DamagedTableError(f"{folder}: curves.arrow names no known metric ({metric!r}); put back a copy")
    recording = _assemble(points, about, n_folds=n_folds, metric=METRICS[metric])
    path = join(folder, "predictions.arrow")
    return _with_rows(recording, path) if exists(path) else recording


def _with_rows(recording: Recording, path: str) -> Recording:
    """Add predictions; candidates without a column are left out, and named."""
    table = read_table(path)
    kept = [c for c in recording.candidates if c.name in table.column_names]
    lacking = [f"{c.name} ({c.family}): left out, no column in {path}" for c in recording.candidates if c not in kept]
    if faults := [name for name, _ in ROW_FIELDS if name not in table.column_names]:
        raise InputError(f"{path}: lacks column {', '.join(faults)}; found {', '.join(table.column_names)}")
    fold = table["fold"].to_numpy()
    if set(np.unique(fold).tolist()) != set(range(recording.n_folds)):
        raise InputError(
            f"{path}: holds folds {np.unique(fold).tolist()}, the curves have folds 0 to {recording.n_folds - 1}"
        )
    predictions = np.column_stack([table[c.name].to_numpy() for c in kept]) if kept else np.empty((len(fold), 0))
    rows = _rows_of(table, predictions.astype(np.float32))
    return replace(recording, candidates=tuple(kept), left_out=(*recording.left_out, *lacking), rows=rows)


def _rows_of(table: pa.Table, predictions: NDArray[np.float32]) -> RecordedRows:
    fold, group, target = (table[name].to_numpy() for name in ("fold", "group", "score"))
    return RecordedRows(one_array(table["id"]), fold, group, target, predictions)
