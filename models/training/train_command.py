"""What `blendfold models train` does: one fold run without Ray, its tables kept in a run directory."""

import math
from functools import partial

from data_prep.console import print_line
from data_prep.errors import InputError
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.metrics import DEAD_BELOW, Metric
from data_prep.store.files import join, write_json
from data_prep.store.oof_store import OofStore
from data_prep.wording import command, count
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
        InputError: what the command line names does not fit, the fold run is finished already, or it fails to learn.
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
        report=partial(_show, metric=prepared.task.search_measure, checkpoint=checkpoint),
        checkpoint=checkpoint,
    )
    assert found is not None, "only a report that returns False stops a fold run"
    if math.isnan(found.metric):
        raise _failed("seen in its predictions of test and holdout rows, which are NaN or infinite", checkpoint)
    if store is None or checkpoint is None:
        print_line(
            f"{prepared.task.search_measure.name} {found.metric:.4f} in {found.seconds:.0f} s; "
            "nothing kept, give --out to keep it."
        )
        return
    path = join(store.root, "candidates", f"{settings.id}.json")
    write_json(settings.model_dump(mode="json"), path)
    store.write(found.provenance, oof=found.oof, test=found.test, holdout=found.holdout)
    checkpoint.clear()
    its_test = " and its test table" if prepared.has_test else ""
    print_line(f"Wrote {store.path('oof', settings.id, fold)}{its_test}.")
    options: dict[str, object] = {
        "--candidate": candidate,
        "--threads": threads if threads > 1 else None,
        "--backbones": backbones,
    }
    print_line(f"Next: {_next_step(prepared, store, settings.id, options)}")


def _show(report: RungReport, *, metric: Metric, checkpoint: CheckpointFolder | None) -> bool:
    """Print a report; one that would end a search's fold run as failed to learn ends this one."""
    print_line(
        f"{report.progress:4.0%}  epoch {report.epoch:.2f}  metric {report.metric:.4f} on {count(report.rows, 'row')}"
        f"  {report.seconds:.0f} s"
    )
    fault = report.fault
    if not fault and report.progress == 1.0 and metric.is_correlation and report.metric < DEAD_BELOW:
        fault = f"{metric.name} is below {DEAD_BELOW}, next to chance"
    if fault:
        raise _failed(f"seen at {report.progress:.0%} of its schedule: {fault}", checkpoint)
    return True


def _failed(why: str, checkpoint: CheckpointFolder | None) -> InputError:
    if checkpoint is not None:
        checkpoint.clear()
    return InputError(
        f"the fold run failed to learn, {why}. No table was written; lower backbone_lr and head_lr, or change the seed"
    )


def _next_step(prepared: Prepared, store: OofStore, identity: str, options: dict[str, object]) -> str:
    """Return the command that trains the next fold with the same options, or else the one that blends."""
    data, left = {"--data": prepared.path}, sorted(set(range(prepared.manifest.n_folds)) - set(store.folds(identity)))
    if not left:
        return command("blendfold blend", store.root, options=data)
    return command("blendfold models train", options={**data, **options, "--fold": left[0], "--out": store.root})
