"""`blend_runs`: everything between run directories and a written blend."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import TypeVar

from blend.blend_folder import blend_folder, find_previous, write_blend
from blend.blend_record import WholeRecord
from blend.evidence.blend_report import is_worse, similarity_sentences
from blend.evidence.earlier_submissions import compare_with_earlier, read_earlier
from blend.fit.blend_settings import BlendSettings
from blend.fit.shared_weights import shared_weights
from blend.make_blend import ViewBlend, finish_blend, fit_view
from blend.members.candidate_folds import with_candidates_folds
from blend.members.load_predictions import load_predictions
from blend.members.member_predictions import MemberPredictions
from blend.members.run_dirs import find_data
from blend.row_choice import choose_rows
from data_prep.console import activity
from data_prep.errors import InputError, quote
from data_prep.given_name import FOLDER_NAME, LONGEST_NAME
from data_prep.prepared import load_prepared
from data_prep.scoring.metrics import DEAD_BELOW
from data_prep.submission.submission_gate import read_sample_submission
from data_prep.target_views import TargetView, target_views
from data_prep.wording import count

Made = TypeVar("Made")


@dataclass(frozen=True)
class WrittenBlend:
    """A blend that was fitted and written."""

    record: WholeRecord
    folder: str
    about_earlier: tuple[str, ...]
    """What a person should know about earlier submissions: how similar they are, which cannot be read."""

    @property
    def is_worse(self) -> bool:
        """Whether a simpler way is better than this blend."""
        return is_worse(self.record)


def blend_runs(
    runs: Sequence[str],
    settings: BlendSettings,
    *,
    name: str | None = None,
    members: Sequence[str] | None = None,
    exclude: Collection[str] = (),
    against: str | None = None,
    data: str | None = None,
    allow_mixed_splits: bool = False,
    dead_below: float = DEAD_BELOW,
    rows: str | None = None,
    sample_submission: str | None = None,
    with_test: bool = True,
    force: bool = False,
    note: Callable[[str], None],
) -> WrittenBlend:
    """Fit a blend of the candidates of run directories, and write it into the first of them.

    `members` are ids or names of candidates, all of which take part; None: choose among all but those of `exclude`.
    The `name` is by default that of the members, else of the method, else `best`. `against` is an earlier blend to
    compare with, `data` the prepared folder (None: that of the first run), `rows` a file with more columns for
    `settings.score_on` and `settings.fit_on`. `note` receives what a person should know.

    Raises:
        InputError: an option, a run directory or its tables do not fit, or another blend of this name is there.
    """
    name = name or "-".join(members or [re.sub(r"[^A-Za-z0-9._-]", "-", settings.method or "best")])
    if not re.fullmatch(FOLDER_NAME, name):
        raise InputError(
            f"--name {quote(name)}: use at most {LONGEST_NAME} letters, digits, dots, dashes and underscores; "
            "it names a folder"
        )
    if not isfinite(dead_below):
        raise InputError(f"--dead-below {dead_below}: must be a finite number")
    named = load_prepared(data or find_data(runs[0]))
    prepared = with_candidates_folds(named, runs, members, exclude)
    if prepared is not named:
        folds = count(prepared.manifest.n_folds, "fold")
        note(f"nested scores are by the {folds} that the candidates were trained on, not those of {named.path}")
    ids = prepared.test["id"].to_pylist()
    form = None if sample_submission is None else read_sample_submission(sample_submission, ids, prepared.task)
    views = target_views(prepared.task)
    if settings.shared_weights and len(views) == 1:
        raise InputError(f"--shared-weights: task {prepared.task.name!r} has one set of weights anyway; leave it out")

    def loaded(view: TargetView) -> tuple[MemberPredictions, MemberPredictions | None]:
        with activity(f"reading predictions{_of(view)}"):
            predictions = load_predictions(
                runs,
                prepared,
                view,
                members=members,
                exclude=exclude,
                allow_mixed_splits=allow_mixed_splits,
                dead_below=dead_below,
                with_test=with_test,
            )
        return choose_rows(predictions, prepared, settings, rows, view)

    chosen = [_named(view, partial(loaded, view)) for view in views]

    def fitted(view: TargetView, place: int) -> ViewBlend:
        (scored, fitted_on), shared = chosen[place], None
        if settings.shared_weights:
            shared = shared_weights([each for each, _ in chosen], place, view.task.measure)
        candidates = count(len(scored.members), "candidate")
        with activity(f"blending {candidates}{_of(view)} in every way, then again without each part of the rows"):
            previous = find_previous(runs, name, against, scored, view)
            return fit_view(
                scored, prepared, view, settings, name=name, previous=previous, fitted_on=fitted_on, shared=shared
            )

    fits = [_named(view, partial(fitted, view, place)) for place, view in enumerate(views)]
    finished = finish_blend(fits, prepared, settings, name=name, form=form)
    folder = blend_folder(runs[0], name)
    one_column = not prepared.task.target.names
    earlier, unreadable = read_earlier(runs, ids, leave_out=folder) if one_column else ([], [])
    write_blend(finished, folder, force=force)
    similar = [] if finished.prediction is None else compare_with_earlier(ids, finished.prediction, earlier)
    return WrittenBlend(finished.record, folder, (*similarity_sentences(similar), *unreadable))


def _of(view: TargetView) -> str:
    return f" of {view.name}" if view.name else ""


def _named(view: TargetView, make: Callable[[], Made]) -> Made:
    """Return what is made for a view; an InputError names its target."""
    try:
        return make()
    except InputError as error:
        if not view.name:
            raise
        raise InputError(*(f"target {view.name}: {fault}" for fault in error.faults)) from error
