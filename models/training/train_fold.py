"""`train_fold`: one candidate trained on all folds but one, with reports at rungs and exact resume."""

import warnings
from collections.abc import Callable

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from models.backbones.checkpoint_files import BackboneFiles
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools
from models.text.unseen_text import check_known, cut_warning
from models.training.build_learner import new_learner
from models.training.checkpoint import CheckpointFolder
from models.training.devices import find_device, make_repeatable
from models.training.fold_options import FoldOptions
from models.training.fold_predictions import FoldPredictions
from models.training.fold_training import FoldTraining
from models.training.rung_reports import Report, never_stop
from models.training.sigterm import training


def train_fold(
    candidate: Candidate,
    data: Prepared,
    fold: int,
    options: FoldOptions = FoldOptions(),  # noqa: B008 - frozen
    *,
    backbone: BackboneFiles,
    report: Report = never_stop,
    checkpoint: CheckpointFolder | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> FoldPredictions | None:
    """Train `candidate` on every fold but `fold` and predict that fold, the test rows and the holdout.

    The same arguments give the same bytes, interrupted and resumed or not, as long as memory suffices: where it does
    not, what follows is computed in smaller parts (see `Learner`), whose sums and dropout masks are others.

    `report` is called at each rung, once even if the run is interrupted; where it returns False, the run stops and
    returns None. A checkpoint folder that holds a state is resumed from. `warn` is called where
    `max_length` cuts many rows.

    Raises:
        InputError: no such fold, rung or device, an unusable backbone, another run's checkpoint, no memory for a text,
            texts that the backbone's tokenizer does not know.
        MemoryError: memory ran out, and `options.halve` is False.
        Terminated: the process got SIGTERM; the state was saved at the end of the step (see `sigterm`).
    """
    if not 0 <= fold < data.manifest.n_folds:
        raise InputError(f"fold must be 0 to {data.manifest.n_folds - 1} for {data.path}, got {fold}")
    if wrong := [rung for rung in options.rungs if not 0 < rung <= 1]:
        raise InputError(f"rungs are shares of the schedule in (0, 1], got {wrong}")
    device = find_device(options.device)
    make_repeatable(candidate.seed, device=device, threads=options.threads)
    pools = load_fold_pools(data, fold, candidate=candidate, tokenizer=backbone.tokenizer, cache=options.cache)
    check_known(pools, backbone.tokenizer, backbone=candidate.backbone)
    if warning := cut_warning(pools, candidate):
        warn(warning)
    learner = new_learner(candidate, data.task, backbone=backbone, vocabulary=pools.vocabulary, device=device)
    with training() as told_to_end:
        run = FoldTraining(
            candidate,
            data.manifest,
            fold,
            pools=pools,
            learner=learner,
            options=options,
            report=report,
            checkpoint=checkpoint,
            told_to_end=told_to_end,
        )
        return run.finish() if run.train() else None
