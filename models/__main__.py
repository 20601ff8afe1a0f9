"""Command line of models: one fold run without Ray."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.console import console, new_app, run_app
from data_prep.documents import read_document
from data_prep.errors import InputError
from data_prep.oof import OofStore
from data_prep.prepared import Prepared, load_prepared
from data_prep.tables import join, write_json
from models.candidate import Candidate
from models.checkpoint import CheckpointFolder
from models.training import FoldPredictions, RungReport, train_fold

RUNGS = tuple(tenth / 10 for tenth in range(1, 11))
RUNG_ROWS = 1_000

app = new_app("Train one candidate on one fold.")


@app.callback()
def models() -> None:
    """Train one candidate on one fold, without a search around it."""


@app.command("train")
def train_verb(
    *,
    data: Annotated[str, typer.Option(help="Prepared folder.")],
    candidate: Annotated[
        Path, typer.Option(help="YAML or JSON file with the candidate's settings; {} has all defaults.")
    ],
    fold: Annotated[int, typer.Option(help="Validation fold; training is on the others.")],
    out: Annotated[
        Path | None, typer.Option(help="Run directory for predictions and checkpoints.  [default: keep nothing]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    backbones: Annotated[str | None, typer.Option(help="Folder of checkpoints, looked up before the hub.")] = None,
) -> None:
    """Train a candidate on all folds but one; predict that fold, the test rows and the holdout.

    An interrupted run goes on from its last checkpoint when --out is given.

    Example: `python -m models train --data data/pppm --candidate candidate.yaml --fold 0 --out runs/by-hand`
    """
    settings = read_document(candidate, Candidate)
    prepared = load_prepared(data)
    store = None if out is None else OofStore(out)
    if store is not None and store.is_finished(settings.id, fold):
        raise InputError(f"{store.path('oof', settings.id, fold)}: this fold run is finished, nothing to do")
    checkpoint = None if out is None else CheckpointFolder(out / "checkpoints" / settings.id / f"fold-{fold}")
    _say(f"{settings.label} ({settings.id}), fold {fold} of {prepared.manifest.n_folds}")
    found = train_fold(
        settings,
        prepared,
        fold,
        rungs=RUNGS,
        rung_rows=RUNG_ROWS,
        report=_show,
        checkpoint=checkpoint,
        threads=threads,
        backbones=backbones,
    )
    assert found is not None, "only a report that returns False stops a fold run"
    if store is None or checkpoint is None:
        _say(
            f"{prepared.task.metric} {found.metric:.4f} in {found.seconds:.0f} s; nothing kept, give --out to keep it."
        )
        return
    _keep(found, store)
    checkpoint.clear()
    _say(f"Wrote {store.path('oof', settings.id, fold)} and its test table.")
    _say(f"Next: {_next_step(prepared, candidate, store, settings.id)}")


def _show(report: RungReport) -> bool:
    _say(
        f"{report.progress:4.0%}  epoch {report.epoch:.2f}  metric {report.metric:.4f} on {report.rows} rows"
        f"  {report.seconds:.0f} s"
    )
    return True


def _keep(found: FoldPredictions, store: OofStore) -> None:
    path = join(store.root, "candidates", f"{found.candidate.id}.json")
    write_json(found.candidate.model_dump(mode="json"), path)
    store.write(found.provenance, oof=found.oof, test=found.test, holdout=found.holdout)


def _next_step(prepared: Prepared, candidate: Path, store: OofStore, identity: str) -> str:
    left = sorted(set(range(prepared.manifest.n_folds)) - set(store.folds(identity)))
    if not left:
        return f"python -m blend fit {store.root} --data {prepared.path}"
    arguments = f"--data {prepared.path} --candidate {candidate} --fold {left[0]} --out {store.root}"
    return f"python -m models train {arguments}"


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    run_app(app)
