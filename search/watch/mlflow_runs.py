"""Writes a run directory to an MLflow store: a run for each candidate, with a nested run for each fold."""

import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.extras import require
from data_prep.store.files import read_bytes
from search.watch.tracked_run import TrackedCandidate, TrackedFold, TrackedRun, step_of

IDENTITY = "blendfold.run"
"""Tag that identifies a run: `<candidate>` or `<candidate>/fold-<k>`."""
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
OPEN = "RUNNING"
TABLE = "oof.arrow"
BATCH = 100
"""Parameters that MLflow accepts in one call."""


def write_mlflow_runs(run: TrackedRun, uri: str, *, note: Callable[[str], None]) -> tuple[int, int]:
    """Bring an MLflow experiment, named like the study, up to date; return how many runs are new, how many existed.

    Existing MLflow runs are found by a tag and extended; that of a fold run that was tried again is replaced. `note`
    takes the name of each candidate as it is written.

    Raises:
        InputError: MLflow is not installed, or the store refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # otherwise MLflow reports every use to its makers
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    require("mlflow")
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra, and slow
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        experiment = _Experiment(MlflowClient(tracking_uri=uri), run)
    except Exception as error:  # each database driver has errors of its own
        raise InputError(f"--mlflow {uri}: MLflow cannot open this store ({type(error).__name__}: {error})") from error
    try:
        for candidate in run.candidates:
            note(candidate.name)
            experiment.write(candidate)
    except MlflowException as error:
        raise InputError(f"--mlflow {uri}: {error}") from error
    return experiment.made, experiment.found


class _Experiment:
    """One experiment of an MLflow store."""

    def __init__(self, client: Any, run: TrackedRun) -> None:
        self._client = client
        self._metric = run.metric
        known = client.get_experiment_by_name(run.study)
        self._experiment = known.experiment_id if known else client.create_experiment(run.study)
        self._known = self._runs()
        self.made, self.found = 0, 0

    def write(self, candidate: TrackedCandidate) -> None:
        """Bring a candidate and its folds up to date."""
        parent = self._open(candidate.candidate, candidate.name, {})
        self._set(parent, candidate.settings, {"state": candidate.state, "reason": candidate.reason})
        done = sum(fold.table is not None for fold in candidate.folds)
        if not math.isnan(candidate.mean):
            values = {f"mean_{self._metric}": candidate.mean, "folds": done}
            for name, value in values.items():
                if parent.data.metrics.get(name) != value:
                    self._client.log_metric(parent.info.run_id, name, value, step=done)
        for fold in candidate.folds:
            self._write_fold(candidate, fold, parent)
        self._close(parent, STATUS.get(candidate.state, OPEN))

    def _write_fold(self, candidate: TrackedCandidate, fold: TrackedFold, parent: Any) -> None:
        identity, name = f"{candidate.candidate}/fold-{fold.fold}", f"{candidate.name}-f{fold.fold}"
        child = self._open(identity, name, {"mlflow.parentRunId": parent.info.run_id})
        points = {(step_of(point), repr(point.metric)): point for point in fold.points}
        logged = self._logged(child)
        if not logged <= points.keys():
            self._client.delete_run(child.info.run_id)
            del self._known[identity]
            return self._write_fold(candidate, fold, parent)
        self._set(child, {"fold": fold.fold}, {})
        for key, point in points.items():
            if key in logged:
                continue
            at = child.info.start_time + round(1000 * point.seconds)
            for what, value in (("epoch", point.epoch), ("seconds", point.seconds), (self._metric, point.metric)):
                self._client.log_metric(child.info.run_id, what, value, timestamp=at, step=key[0])
        if fold.table:
            self._keep_table(child, fold.table)
        self._close(child, "FINISHED" if fold.table else STATUS.get(candidate.state, OPEN))
        return None

    def _runs(self) -> dict[str, Any]:
        """Return every run of the experiment by its identity."""
        found, token = {}, None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            found.update({run.data.tags[IDENTITY]: run for run in page if IDENTITY in run.data.tags})
            token = page.token
            if not token:
                return found

    def _open(self, identity: str, name: str, tags: Mapping[str, str]) -> Any:
        if identity in self._known:
            self.found += 1
            return self._known[identity]
        run = self._client.create_run(self._experiment, run_name=name, tags={IDENTITY: identity, **tags})
        self._known[identity] = run
        self.made += 1
        return run

    def _set(self, run: Any, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag  # noqa: PLC0415 - an extra, and slow

        new = [Param(key, str(value)) for key, value in parameters.items() if key not in run.data.params]
        changed = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        for start in range(0, max(len(new), 1), BATCH):
            self._client.log_batch(run.info.run_id, params=new[start : start + BATCH], tags=changed)

    def _logged(self, run: Any) -> set[tuple[int, str]]:
        if self._metric not in run.data.metrics:
            return set()
        history = self._client.get_metric_history(run.info.run_id, self._metric)
        return {(entry.step, repr(entry.value)) for entry in history}

    def _keep_table(self, run: Any, path: str) -> None:
        if any(artifact.path == TABLE for artifact in self._client.list_artifacts(run.info.run_id)):
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / TABLE
            local.write_bytes(read_bytes(path))
            self._client.log_artifact(run.info.run_id, str(local))

    def _close(self, run: Any, status: str) -> None:
        if run.info.status == status:
            return
        if status == OPEN:
            self._client.update_run(run.info.run_id, status=OPEN)
        else:
            self._client.set_terminated(run.info.run_id, status)
