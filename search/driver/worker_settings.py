"""What a study says to all of its fold runs, as the value that travels to every worker."""

from pathlib import Path

from search.study.study_file import ResolvedStudy
from search.worker.messages import FoldRunSettings
from search.worker.node_check import requirements_of


def fold_run_settings(study: ResolvedStudy, run_dir: str, *, backbones: str | None) -> FoldRunSettings:
    """Return what all fold runs of a study share."""
    return FoldRunSettings(
        run_dir=run_dir,
        data=study.data,
        split_hash=study.split_hash,
        rungs=study.ladder.rungs,
        rung_rows=study.rung_rows,
        dead_below=study.ladder.dead_below,
        checkpoint_seconds=study.checkpoint_seconds,
        backbones=backbones,
        home=str(Path.cwd()),
        score_epochs=study.score_epochs,
        keep_weights=study.keep_weights != "none",
        disk_gb=study.budget.disk_gb,
        requirements=requirements_of(run_dir, data=study.data, backbones=backbones),
    )
