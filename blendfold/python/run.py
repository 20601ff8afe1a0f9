"""`Run`: a run directory, of a finished or running search or of imported models, as tables."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blend.blend_folder import RECORD_FILE
from blend.blend_runs import blend_runs
from blend.errors.contradictions import contradictions
from blend.errors.disagreement import most_disputed
from blend.errors.error_rows import ErrorRows, load_error_rows
from blend.errors.error_shape import worst_rows
from blend.errors.error_slices import slices
from blend.fit.blend_settings import BlendSettings
from blend.ledger.ledger_file import LEDGER_FILE
from blendfold.optuna_study import optuna_study
from blendfold.python.fitted_blend import Blend
from blendfold.python.prepared_data import DataSource, PreparedData, load
from data_prep.console import print_line
from data_prep.extras import require
from data_prep.scoring.metrics import DEAD_BELOW
from data_prep.store.files import exists, file_info, join, list_names
from data_prep.store.tables import CURVES_SCHEMA
from data_prep.target_views import find_view
from search.run_dir.run_dir import RunDir
from search.watch.candidate_stories import explain
from search.watch.climbs import best_first
from search.watch.leaderboard import leaderboard


class Run:
    """A run directory, read anew by each call, so that a running search can be watched.

    Args:
        path: the folder, or a `pyarrow.fs` URI such as s3://bucket/runs/pppm.

    Raises:
        InputError: not a run directory.

    Examples:
        >>> run = bf.Run("runs/first")
        >>> run.leaderboard()[["family", "state", "folds"]]
              family     state  folds
        0  minilm-l6  finished      4
        1  minilm-l6  finished      4
        >>> run.oof().shape, run.test().shape
        ((1500, 5), (245, 3))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._now().study  # noqa: B018 - another folder is refused

    @property
    def data(self) -> PreparedData:
        """The prepared data that its study names."""
        return PreparedData(self._now().data.path)

    @property
    def study(self) -> dict[str, Any]:
        """The study as run, every default spelled out."""
        return dict(self._now().study)

    # What was tried

    def settings(self, *, everything: bool = False) -> pd.DataFrame:
        """Return the settings in which candidates differ, or `everything`, one row for each candidate, by its id.

        The first column, `name`, is the candidate's name in the study; empty where the sampler drew it.
        """
        run = self._now()
        rows = {candidate: dict(run.settings(candidate)) for candidate in run.candidates}
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("candidate")
        if not everything:
            table = table[[name for name in table if len({repr(value) for value in table[name]}) > 1]]
        table.insert(0, "name", [run.names.get(candidate, "") for candidate in table.index])
        return table

    def curves(self) -> pd.DataFrame:
        """Return every report of a fold run in order of arrival: candidate, fold, progress, epoch, metric, seconds."""
        return pd.DataFrame([vars(point) for point in self._now().points], columns=CURVES_SCHEMA.names)

    # What came of it

    def leaderboard(self) -> pd.DataFrame:
        """Return the candidates, best first, those without a finished fold last.

        Columns: `candidate`, `name` in the study, `label`, `family`, `state`, `folds` finished, their `mean` and `sd`,
        `pooled` (the metric over all their rows at once), `to_leader` (difference to the first) with its
        `standard_error`, `tie` (whether that is noise), `minutes` trained, and the `reason` of the state; of several
        targets also `pooled_<name>` for each.
        """
        board = leaderboard(self.path)
        rows: list[dict[str, Any]] = []
        for row in board.rows:
            difference = row.difference
            rows.append(
                {
                    "candidate": row.candidate,
                    "name": row.name,
                    "label": row.label,
                    "family": row.family,
                    "state": row.state,
                    "folds": len(row.folds),
                    "mean": row.mean,
                    "sd": row.spread,
                    "pooled": row.pooled,
                    **{f"pooled_{name}": value for name, value in row.targets.items()},
                    "to_leader": difference.value if difference else math.nan,
                    "standard_error": difference.standard_error if difference else math.nan,
                    "tie": bool(difference and difference.is_noise),
                    "minutes": row.minutes,
                    "reason": row.reason,
                }
            )
        for entry in board.unscored:
            rows.append({**vars(entry), "folds": 0, "tie": False})
        return pd.DataFrame(rows, columns=[*LEADERBOARD, *(f"pooled_{name}" for name in board.targets)])

    def stories(self) -> pd.DataFrame:
        """Return what was decided about each candidate, in the order in which they first reported.

        Columns: `candidate`, `name`, `label`, `family`, `state`, `reason`, `promotion` (why it was promoted after
        fold 0; empty if it was not), `minutes`, and `story`: all of it in one line.
        """
        rows = [
            {
                "candidate": story.candidate,
                "name": story.name,
                "label": story.label,
                "family": story.family,
                "state": story.state,
                "reason": story.reason,
                "promotion": story.promotion,
                "minutes": story.minutes,
                "story": str(story),
            }
            for story in explain(self.path).stories
        ]
        return pd.DataFrame(rows)

    def status(self) -> pd.Series:
        """Return the state of the search: what runs, what waits, what is best, and how long the rest may take.

        Hours and seconds are those that the driver last wrote; NaN where it has not said any.
        """
        run = self._now()
        pulse = run.pulse
        found: dict[str, Any] = {
            "study": run.study.get("name"),
            "is_running": run.has_driver,
            "ended": pulse.ended if pulse else "",
            "candidates": len(run.candidates),
            "fold_runs_finished": sum(1 for _ in run.store.fold_runs()),
            "running": [f"{live.label} fold {live.fold}" for live in pulse.running] if pulse else [],
            "candidates_to_come": pulse.to_come if pulse else math.nan,
            "best": pulse.best.candidate if pulse and pulse.best else "",
            "best_mean": pulse.best.mean if pulse and pulse.best else math.nan,
            "core_hours": pulse.spent.core_hours if pulse else math.nan,
            "gpu_hours": pulse.spent.gpu_hours if pulse else math.nan,
            "seconds_left": pulse.seconds_left if pulse and pulse.seconds_left is not None else math.nan,
        }
        return pd.Series(found, name=self.path)

    def oof(self, candidates: Collection[str] | None = None, *, target: str | None = None) -> pd.DataFrame:
        """Return out-of-fold predictions: `id`, `fold`, `score` and a column for each candidate [scored train rows].

        Rows are in prepared order, without the holdout, and with repeats once in each of them, the first repeat first;
        a fold that a candidate has not finished is NaN. `candidates` are ids; None: all with a finished fold. `target`
        is one of several; rows without it are left out. Of classes there is a row for each row and class.

        Raises:
            InputError: no such target, or none is named where there are several.
        """
        run = self._now()
        view = find_view(run.data.task, target)
        data = view.data(run.data)
        train = data.train.select(["id", "fold", "score"]).to_pandas()
        train = pd.concat([train.assign(fold=folds) for folds in data.folds])
        table: pd.DataFrame = train[train["fold"] >= 0].reset_index(drop=True)
        for candidate in run.store.candidates() if candidates is None else candidates:
            column = np.full(len(table), np.nan)
            for fold in run.store.folds(candidate):
                rows = view.narrow(run.store.read("oof", candidate, fold)).to_pandas().set_index("id")["prediction"]
                mine = (table["fold"] == fold).to_numpy()
                column[mine] = rows.reindex(table.loc[mine, "id"]).to_numpy()
            table[candidate] = column
        return table

    def test(self, candidates: Collection[str] | None = None, *, target: str | None = None) -> pd.DataFrame:
        """Return test predictions: `id` and a column for each candidate, the mean over its finished folds' models.

        `candidates` and `target` are as for `oof`.
        """
        run = self._now()
        view = find_view(run.data.task, target)
        table: pd.DataFrame = view.narrow(run.data.test.select(["id"])).to_pandas()
        for candidate in run.store.candidates() if candidates is None else candidates:
            tables = (run.store.read("test", candidate, fold) for fold in run.store.folds(candidate))
            folds = [view.narrow(table).to_pandas() for table in tables]
            columns = [fold.set_index("id")["prediction"].reindex(table["id"]).to_numpy(np.float64) for fold in folds]
            table[candidate] = np.mean(columns, axis=0)
        return table

    def optuna_study(self) -> Any:
        """Return the candidates as a study of Optuna, for its plots: `optuna.visualization.plot_...(study)`.

        A candidate's value is its mean over the folds that it finished, before the first its last metric. Parameters
        are the settings in which candidates differ.
        """
        require("optuna")
        run = self._now()
        last = {name: [curve[-1].metric for curve in folds.values()] for name, folds in run.curves.items()}
        means = {climb.candidate: climb.mean for climb in best_first(run) if climb.scores}
        values = {name: means.get(name, float(np.mean(found))) for name, found in last.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        settings = self.settings().drop(columns="name").loc[list(values)]
        differing = {
            str(name): settings[name].where(settings[name].notna(), None).tolist()
            for name in settings
            if len({repr(value) for value in settings[name]}) > 1
        }
        return optuna_study(
            list(values.values()), differing, maximize=run.metric.utility(1.0) > run.metric.utility(0.0)
        )

    # Blends

    def blend(
        self,
        *others: "Run | str | Path",
        clip: bool = False,
        name: str | None = None,
        method: str | None = None,
        parsimony: bool = False,
        members: Sequence[str] | None = None,
        max_members: int | None = None,
        one_per_family: bool = False,
        shared_weights: bool = False,
        exclude: Collection[str] = (),
        against: str | None = None,
        data: DataSource | None = None,
        allow_mixed_splits: bool = False,
        dead_below: float = DEAD_BELOW,
        drop_drifting: bool = False,
        score_on: Mapping[str, str | Sequence[str]] | None = None,
        fit_on: Mapping[str, str | Sequence[str]] | None = None,
        rows: str | Path | None = None,
        sample_submission: str | Path | None = None,
        submission: bool = True,
        force: bool = False,
    ) -> Blend:
        """Choose members, fit weights, gather the evidence and write the submission, as `blendfold blend` does.

        Args:
            others: more runs to choose members from; the blend is written into this one.
            clip: whether to move predictions beyond the task's range to the nearest legal score.
            name: of the blend; None: that of the members, else of the method, else `best`.
            method: a way to blend, such as `greedy` or `ridge+line`; None: the consensus of all.
            parsimony: whether to take the fewest members within one standard error of the best.
            members: ids or names of the candidates to blend, all of them; None: choose.
            max_members: at most so many.
            one_per_family: whether every family takes part, even if it adds nothing.
            shared_weights: of several targets: whether weights that all of them share compete, too.
            exclude: ids of candidates to leave out.
            against: an earlier blend to compare with; None: the last one written.
            data: prepared data; None: those of the first run.
            allow_mixed_splits: whether to blend candidates of other splits of the same data, too.
            dead_below: candidates whose Pearson is below this in any fold failed to learn and are left out.
            drop_drifting: whether to leave out candidates whose test predictions drift from the others'.
            score_on: score only rows like the test: values by column.
            fit_on: fit only on such rows.
            rows: file with ids and more columns for `score_on` and `fit_on`.
            sample_submission: CSV with the column names and the row order to use.
            submission: whether to write a submission; without, candidates may lack test predictions.
            force: whether to replace another blend of the same name.

        Raises:
            InputError: a run, its tables or an option do not fit, or another blend has this name.

        Examples:
            >>> blend = bf.Run("runs/first").blend(clip=True)
            >>> blend.path
            'runs/first/blends/best'
        """
        settings = BlendSettings(
            method=method,
            parsimony=parsimony,
            most_members=max_members,
            one_per_family=one_per_family,
            shared_weights=shared_weights,
            drop_drifting=drop_drifting,
            score_on=_choices(score_on),
            fit_on=_choices(fit_on),
            clip=clip,
        )
        written = blend_runs(
            [self.path, *(other.path if isinstance(other, Run) else str(other) for other in others)],
            settings,
            name=name,
            members=members,
            exclude=exclude,
            against=against,
            data=None if data is None else load(data).path,
            allow_mixed_splits=allow_mixed_splits,
            dead_below=dead_below,
            rows=None if rows is None else str(rows),
            sample_submission=None if sample_submission is None else str(sample_submission),
            with_test=submission,
            force=force,
            note=print_line,
        )
        return Blend(self.path, written.record.name)

    def blends(self) -> list[str]:
        """Return the names of its blends, the one written first at the front."""
        records = {name: join(self.path, "blends", name, RECORD_FILE) for name in list_names(join(self.path, "blends"))}
        written = {name: file_info(path).mtime_ns for name, path in records.items() if exists(path)}
        return sorted(written, key=lambda name: (written[name], name))

    # Errors

    def worst_rows(self, n: int = 20, *, by: str | None = None, blend: str | None = None) -> pd.DataFrame:
        """Return the `n` rows with the greatest error, with their texts and what each member predicts.

        `by` takes only the worst row of each value of a column. `blend` names the blend whose nested predictions are
        judged; None: the one written last, or the best candidate where there is none. So for all tables of errors.
        """
        return worst_rows(self._error_rows(blend), n, by=by)

    def slices(self, by: str | Sequence[str] | None = None, *, blend: str | None = None) -> pd.DataFrame:
        """Return size, metric, bias and RMSE of each slice of the rows, with standard errors; `by` names columns."""
        return slices(self._error_rows(blend), by)

    def most_disputed(self, n: int = 20, *, blend: str | None = None) -> pd.DataFrame:
        """Return the `n` rows on which members disagree most."""
        return most_disputed(self._error_rows(blend), n)

    def contradictions(self) -> pd.DataFrame:
        """Return the train rows whose texts are nearly those of another row with another score."""
        return contradictions(self._now().data)

    def _error_rows(self, blend: str | None) -> ErrorRows:
        return load_error_rows(self.path, blend=blend)

    # More

    def report(
        self, out: str | Path | None = None, *, blend: str | None = None, ledger: str | Path = LEDGER_FILE
    ) -> str:
        """Write the run, its blend, errors and data as one offline HTML page, as `blendfold report` does.

        Args:
            out: the page; None: report.html in the run directory.
            blend: the name of a blend; None: the one written last.
            ledger: the ledger of submissions, which need not be there.

        Returns:
            The path of the page.
        """
        require("jinja2", "optuna", "plotly")
        from blendfold.report.write_report import write_report  # noqa: PLC0415 - plotly and Optuna are slow to import

        return write_report(self.path, blend=blend, out=None if out is None else str(out), ledger=str(ledger))

    def track(
        self, *, tensorboard: str | Path | None = None, mlflow: str | None = None, most: int | None = None
    ) -> None:
        """Write settings, curves and predictions for TensorBoard, MLflow or both; a second call adds only what is new.

        Args:
            tensorboard: folder for event files.
            mlflow: an MLflow store, such as sqlite:///mlflow.db or a server.
            most: how many candidates, the best ones; None: all.
        """
        from search.watch.mlflow_runs import write_mlflow_runs  # noqa: PLC0415
        from search.watch.tensorboard import write_event_files  # noqa: PLC0415
        from search.watch.tracked_run import read_tracked  # noqa: PLC0415

        found = read_tracked(self.path, most=most)
        if tensorboard is not None:
            require("tensorboardX")
            write_event_files(found, Path(tensorboard))
        if mlflow is not None:
            write_mlflow_runs(found, mlflow, note=print_line)

    def refit(
        self, blend: str, *, address: str | None = None, backbones: str | Path | None = None, force: bool = False
    ) -> None:
        """Train the folds of a blend again whose weights were not kept, as `blendfold refit` does.

        Args:
            blend: its name.
            address: of a running Ray cluster; None: this machine.
            backbones: folder with local copies of hub models.
            force: whether to keep weights even if their predictions differ from the tables.

        Raises:
            InputError: no such blend, or the predictions differ.
        """
        require("ray")
        from search.ray_tune.refit import refit  # noqa: PLC0415 - Ray

        place = None if backbones is None else str(backbones)
        refit(self.path, blend, address=address, backbones=place, force=force, message=print_line)

    def __repr__(self) -> str:
        return f"Run({self.path!r})"

    def _now(self) -> RunDir:
        return RunDir(self.path)


LEADERBOARD = (
    "candidate",
    "name",
    "label",
    "family",
    "state",
    "folds",
    "mean",
    "sd",
    "pooled",
    "to_leader",
    "standard_error",
    "tie",
    "minutes",
    "reason",
)


def _choices(chosen: Mapping[str, str | Sequence[str]] | None) -> tuple[str, ...]:
    """Return rows chosen by the values of columns as the command line has them, such as `source=1,2`."""
    return tuple(
        f"{column}={values if isinstance(values, str) else ','.join(map(str, values))}"
        for column, values in (chosen or {}).items()
    )
