"""A run directory that a test writes point by point."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.prepared import Prepared
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import HOLDOUT_FOLD
from models.candidate import Candidate
from search.run_dir.curves import CurvePoint, Curves
from search.watch.candidate_stories import Story, explain


@dataclass
class WrittenRun:
    """A run directory, written point by point."""

    path: str
    data: Prepared
    candidates: list[Candidate] = field(default_factory=list)

    def add(self, seed: int) -> Candidate:
        candidate = Candidate(seed=seed)
        write_json(candidate.model_dump(mode="json"), f"{self.path}/candidates/{candidate.id}.json")
        self.candidates.append(candidate)
        return candidate

    def point(self, candidate: Candidate, fold: int, progress: float, metric: float, *, table: bool = True) -> None:
        """Append a point; at the end also the prediction table, unless it is to be missing."""
        Curves(self.path).append(CurvePoint(candidate.id, fold, progress, progress, metric, 60.0 * progress))
        if progress == 1 and table:
            random = np.random.default_rng([candidate.seed, fold])
            oof, holdout = (self._predict(number, fold, random) for number in (fold, HOLDOUT_FOLD))
            n_test = len(self.data.test)
            test = pa.table(
                {
                    "id": self.data.test["id"],
                    "fold": pa.array([fold] * n_test, pa.int8()),
                    "prediction": pa.array(random.normal(size=n_test), pa.float32()),
                }
            )
            manifest = self.data.manifest
            stamp = Provenance(candidate.id, fold, manifest.data_hash, manifest.split_hash, 1, 1.0, 0)
            OofStore(self.path).write(stamp, oof=oof, test=test, holdout=holdout if len(holdout) else None)

    def _predict(self, part: int, fold: int, random: np.random.Generator) -> pa.Table:
        """Return what the model of a fold predicts for the rows of a part: a fold, or the holdout."""
        rows = self.data.train.filter(pc.equal(self.data.train["fold"], part))
        prediction = pa.array(rows["score"].to_numpy() + random.normal(size=len(rows)), pa.float32())
        folds = pa.array([fold] * len(rows), pa.int8())
        return pa.table({"id": rows["id"], "fold": folds, "score": rows["score"], "prediction": prediction})

    def stories(self) -> dict[str, Story]:
        return {story.candidate: story for story in explain(self.path).stories}
