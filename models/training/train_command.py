"""What `python -m models train` does: one fold run without Ray, its tables kept in a run directory."""

from data_prep.console import print_line
from data_prep.errors import InputError
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import join, write_json
from data_prep.store.oof_store import OofStore
from models.backbones.locate_backbone import locate_backbone
from models.experiment_log import find_candidate
from models.training.checkpoint import CheckpointFolder
from models.training.fold_options import FoldOptions
from models.training.rung_reports import RungReport
from models.training.train_fold import train_fold

RUNGS = tuple(tenth / 10 for tenth in range(1, 11))
RUNG_ROWS = 1_000


def train_by_hand(
    candidate: str, *, data: str, fold: int, out: str | None, threads: int, backbones: str | None
) -> None:
    """Train a candidate on all folds but one, and keep its predictions in the run directory `out`, if there is one.

    Raises:
        InputError: what the command line names does not fit, or the fold run is finished already.
    """
    settings, _ = find_candidate(candidate)
    prepared = load_prepared(data)
    store = None if out is None else OofStore(out)
    if store is not None and store.is_finished(settings.id, fold):
        raise InputError(f"{store.path('oof', settings.id, fold)}: this fold run is finished, nothing to do")
    checkpoint = None if out is None else CheckpointFolder(join(out, "checkpoints", settings.id, f"fold-{fold}"))
    print_line(f"{settings.label} ({settings.id}), fold {fold} of {prepared.manifest.n_folds}")
    found = train_fold(
        settings,
        prepared,
        fold,
        FoldOptions(rungs=RUNGS, rung_rows=RUNG_ROWS, threads=threads),
        backbone=locate_backbone(settings.backbone, backbones),
        report=_show,
        checkpoint=checkpoint,
    )
    assert found is not None, "only a report that returns False stops a fold run"
    if store is None or checkpoint is None:
        print_line(
            f"{prepared.task.metric} {found.metric:.4f} in {found.seconds:.0f} s; nothing kept, give --out to keep it."
        )
        return
    path = join(store.root, "candidates", f"{settings.id}.json")
    write_json(settings.model_dump(mode="json"), path)
    store.write(found.provenance, oof=found.oof, test=found.test, holdout=found.holdout)
    checkpoint.clear()
    print_line(f"Wrote {store.path('oof', settings.id, fold)} and its test table.")
    print_line(f"Next: {_next_step(prepared, candidate, store, settings.id)}")


def _show(report: RungReport) -> bool:
    print_line(
        f"{report.progress:4.0%}  epoch {report.epoch:.2f}  metric {report.metric:.4f} on {report.rows} rows"
        f"  {report.seconds:.0f} s"
    )
    return True


def _next_step(prepared: Prepared, candidate: str, store: OofStore, identity: str) -> str:
    left = sorted(set(range(prepared.manifest.n_folds)) - set(store.folds(identity)))
    if not left:
        return f"python -m blend fit {store.root} --data {prepared.path}"
    return f"python -m models train --data {prepared.path} --candidate {candidate} --fold {left[0]} --out {store.root}"
