"""A search without Ray and without training: a conductor, and a worker that follows a script and dies on demand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from search.driver.conductor import Conductor
from search.ladder.decisions import Decision
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.drawn_candidates import DrawnCandidate, DrawnCandidates
from search.study.study_file import Study
from search.worker.messages import Assignment

RUNGS = (0.25, 0.5, 1.0)


class SilentWatcher:
    """A watcher that keeps notes only."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def started(self, assignment: Assignment) -> None: ...
    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None: ...
    def failed(self, assignment: Assignment, reason: str) -> None: ...
    def lost(self, assignment: Assignment, reason: str) -> None: ...
    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


class CutOffError(Exception):
    """The driver dies here."""


class ScriptedWorker:
    """Does fold runs one after another, and dies after a number of effects on the run directory."""

    def __init__(self, data: Prepared, run_dir: Path, effects: int | None = None) -> None:
        self.data, self.run_dir, self.effects = data, run_dir, effects

    def run(self, conductor: Conductor) -> None:
        while (assignment := conductor.next_assignment()) is not None:
            self.fold_run(conductor, assignment)

    def _effect(self) -> None:
        if self.effects is not None:
            if self.effects == 0:
                raise CutOffError
            self.effects -= 1

    def fold_run(self, conductor: Conductor, assignment: Assignment) -> None:
        assert not OofStore(self.run_dir).is_finished(assignment.candidate.id, assignment.fold), "it is on record"
        candidate = assignment.candidate_to_train
        strength = float(np.clip(1 - abs(np.log10(candidate.backbone_lr) + 3.7), 0.1, 1)) - 0.1 * assignment.fold
        dead = assignment.candidate.batch_size == 16 and not assignment.attempt
        for progress in RUNGS:
            metric = float("nan") if dead else strength * progress**0.3
            if progress == 1.0 and not dead:
                metric = self._write_tables(assignment, strength)
                self._effect()
            point = CurvePoint(assignment.candidate.id, assignment.fold, progress, progress, metric, 1.0)
            decision = conductor.observe(assignment, point)
            if decision.reason != "reported before":
                self._effect()
            if not decision.go:
                return

    def _write_tables(self, assignment: Assignment, strength: float) -> float:
        store, identity, fold = OofStore(self.run_dir), assignment.candidate.id, assignment.fold
        train, test = self.data.train, self.data.test
        rows = train.filter(pa.array(train["fold"].to_numpy() == fold))
        score = rows["score"].to_numpy()
        noise = np.random.default_rng([int(identity, 16), fold]).random(len(score))
        prediction = (strength * score + (1.05 - strength) * noise).astype(np.float32)
        if not store.is_finished(identity, fold):
            manifest = self.data.manifest
            store.write(
                Provenance(identity, fold, manifest.data_hash, manifest.split_hash, 0, 1.0, assignment.attempt),
                oof=pa.table({"id": rows["id"], "fold": rows["fold"], "score": score, "prediction": prediction}),
                test=pa.table(
                    {
                        "id": test["id"],
                        "fold": np.full(len(test), fold, np.int8),
                        "prediction": np.zeros(len(test), np.float32),
                    }
                ),
            )
        table = store.read("oof", identity, fold)
        return self.data.task.measure(table["score"].to_numpy(), table["prediction"].to_numpy())


def study(data: Prepared, **changes: Any) -> Study:
    content = {
        "name": "first",
        "data": data.path,
        "ladder": {"rungs": RUNGS[:-1], "min_peers": 2, "rung_eta": 3, "growth": 0.0},
        "budget": {"candidates": 14},
        "candidates": {"plain": {}, "dies once": {"batch_size": 16}},
        "space": {"backbone_lr": {"loguniform": [1.0e-5, 1.0e-3]}, "head": ["cls", "mean"]},
        **changes,
    }
    return Study.model_validate(content)


def conductor(settings: Study, data: Prepared, run_dir: Path, **changes: Any) -> Conductor:
    return Conductor(settings, data, str(run_dir), SilentWatcher(), **{"hours_spent": lambda: 0.0, **changes})


def record(run_dir: Path) -> tuple[list[str], list[DrawnCandidate], list[str]]:
    """Return the decisive content of a run directory."""
    points = [repr(replace(point, seconds=0)) for point in Curves(str(run_dir)).entries]
    tables = sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("fold-*.arrow"))
    return points, DrawnCandidates(str(run_dir)).entries, tables
