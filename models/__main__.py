"""Command line of models: what there is, what a candidate is, one fold run without Ray, a bundle's predictions."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from data_prep.console import console, new_app, run_app
from data_prep.errors import InputError
from data_prep.prepare.pairs import read_test
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.combination import Floats
from data_prep.store.files import is_file, join, write_bytes, write_json
from data_prep.store.oof_store import OofStore
from data_prep.store.yaml_documents import read_document
from data_prep.submission.submission_gate import render_submission
from data_prep.task import Task
from models.backbones.tiny_checkpoints import make_tiny
from models.bundle.predict import Job, Watcher, go_offline, predict_bundle, usable_cores
from models.bundle.read_bundle import Bundle, open_bundle
from models.candidate import Candidate
from models.catalogue import catalogue
from models.memo import load_memo
from models.training.checkpoint import CheckpointFolder
from models.training.devices import find_device
from models.training.parameter_table import explain
from models.training.train_fold import FoldPredictions, RungReport, train_fold

RUNGS = tuple(tenth / 10 for tenth in range(1, 11))
RUNG_ROWS = 1_000

CandidateOption = Annotated[
    str, typer.Option(help="YAML or JSON file with the candidate's settings ({} has all defaults), or a memo name.")
]
BackbonesOption = Annotated[str | None, typer.Option(help="Folder of checkpoints, looked up before the hub.")]

app = new_app(
    "Everything about one model: what there is to choose, what a candidate is, one fold run, predictions of a bundle."
)


@app.command("list")
def list_verb(
    kind: Annotated[str | None, typer.Option(help="Show one kind only, such as head.  [default: all]")] = None,
) -> None:
    """List every backbone family, recipe, head, loss, adversary and regulariser, one line each.

    Example: `python -m models list --kind head`
    """
    kinds = catalogue()
    if kind is not None and kind not in kinds:
        raise InputError(f"--kind {kind!r}: no such kind; known: {', '.join(kinds)}")
    for name in [kind] if kind else kinds:
        console.print(f"[bold]{name}[/]", highlight=False)
        width = max(len(entry.name) for entry in kinds[name])
        for entry in kinds[name]:
            own = f"  [its own settings: {', '.join(entry.options)}]" if entry.options else ""
            _say(f"  {entry.name:<{width}}  {entry.summary}{own}")
        _say("")
    _say("Next: python -m models explain --candidate FILE")


@app.command("explain")
def explain_verb(*, candidate: CandidateOption, backbones: BackbonesOption = None) -> None:
    """Show what the optimiser does to which parameters of a candidate: rates, decay, what is frozen.

    Example: `python -m models explain --candidate candidate.yaml`
    """
    settings = read_candidate(candidate)
    console.print(explain(settings, backbones=backbones))
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    _say("Settings that differ from their defaults: " + (", ".join(f"{k} {v}" for k, v in changed.items()) or "none"))
    if candidate in load_memo() and not is_file(candidate):
        _say(load_memo()[candidate].record)


@app.command("tiny")
def tiny_verb(
    *,
    family: Annotated[str, typer.Option(help="A family of `python -m models list --kind backbone`, or all.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; with all, one for each hub name inside it.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.", min=0)] = 0,
) -> None:
    """Make a random two-layer checkpoint with a working tokenizer: any family, offline, in seconds.

    Example: `python -m models tiny --family deberta-v3-large --out tiny/deberta`
    """
    folders = make_tiny(family, out, seed=seed)
    for folder in folders:
        _say(f"Wrote {folder}.")
    use = f"give --backbones {out}" if len(folders) > 1 else f"backbone: {folders[0]} in a candidate or study"
    _say(f"Next: {use}")


def read_candidate(text: str) -> Candidate:
    """Return the candidate in a file, or the memo's candidate of that name.

    Raises:
        InputError: neither a file nor a name, or the file does not fit.
    """
    experiments = load_memo()
    if is_file(text):
        return read_document(text, Candidate)
    if text not in experiments:
        raise InputError(f"--candidate {text}: no such file, and no memo name ({', '.join(experiments)})")
    return experiments[text].candidate


@app.command("train")
def train_verb(
    *,
    data: Annotated[str, typer.Option(help="Prepared folder.")],
    candidate: CandidateOption,
    fold: Annotated[int, typer.Option(help="Validation fold; training is on the others.")],
    out: Annotated[
        str | None, typer.Option(help="Run directory for predictions and checkpoints.  [default: keep nothing]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    backbones: BackbonesOption = None,
) -> None:
    """Train a candidate on all folds but one; predict that fold, the test rows and the holdout.

    An interrupted run goes on from its last checkpoint when --out is given.

    Example: `python -m models train --data data/pppm --candidate candidate.yaml --fold 0 --out runs/by-hand`
    """
    settings = read_candidate(candidate)
    prepared = load_prepared(data)
    store = None if out is None else OofStore(out)
    if store is not None and store.is_finished(settings.id, fold):
        raise InputError(f"{store.path('oof', settings.id, fold)}: this fold run is finished, nothing to do")
    checkpoint = None if out is None else CheckpointFolder(join(out, "checkpoints", settings.id, f"fold-{fold}"))
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


def _next_step(prepared: Prepared, candidate: str, store: OofStore, identity: str) -> str:
    left = sorted(set(range(prepared.manifest.n_folds)) - set(store.folds(identity)))
    if not left:
        return f"python -m blend fit {store.root} --data {prepared.path}"
    arguments = f"--data {prepared.path} --candidate {candidate} --fold {left[0]} --out {store.root}"
    return f"python -m models train {arguments}"


@app.command("predict")
def predict_verb(
    *,
    bundle: Annotated[str, typer.Option(help="Folder that `python -m blend bundle` made.")],
    test: Annotated[str, typer.Option(help="CSV with the task's id and text columns.")],
    out: Annotated[str, typer.Option(help="File to write, such as submission.csv.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all cores]", min=1)] = None,
    cpc: Annotated[
        str | None, typer.Option(help="Titles of CPC codes, as Kaggle's titles.csv, instead of the bundle's.")
    ] = None,
) -> None:
    """Predict new rows with a bundle: no network, no Ray, no other file of the run.

    Example: `python -m models predict --bundle bundles/pppm --test test.csv --out submission.csv`
    """
    go_offline()
    with console.status(f"verifying {bundle}"):
        models = open_bundle(bundle)
    models = models if cpc is None else models.with_titles(cpc)
    table = read_test(test, models.task, texts=models.texts)
    contents, where = models.contents, find_device(device)
    count = sum(len(member.folds) for member in contents.members)
    cores = threads or usable_cores()
    _say(
        f"blend {contents.blend}: {count} models of {len(contents.members)} candidates, {contents.precision}, predict "
        f"{table.num_rows} rows of {test} on {where}" + (f" with {cores} threads" if where.type == "cpu" else "")
    )
    prediction = _watched(models, table, device=device, threads=cores)
    if contents.clip:
        inside = np.clip(prediction, models.task.least, models.task.greatest)
        _say(f"{int((inside != prediction).sum())} predictions clipped to the task's range")
        prediction = inside
    _hand_in(table, prediction, models.task, out)
    _say(f"wrote {out} ({table.num_rows} rows); it is ready to be handed in")


def _watched(models: Bundle, table: pa.Table, *, device: str, threads: int) -> Floats:
    """Predict, with an estimate of the time at the start and a bar of what is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading texts", total=None)

        def begin(work: float, seconds: float) -> None:
            bar.update(task, total=work)
            _say(
                f"about {timedelta(seconds=max(1, round(seconds)))} (h:mm:ss), by the first model's rate on a few rows "
                f"and each model's weights times tokens"
            )

        def start(job: Job) -> None:
            bar.update(task, description=_name(job))

        def finish(job: Job) -> None:
            bar.advance(task, job.work)
            if not console.is_terminal:  # where no bar moves
                _say(f"{_name(job)}: done, {bar.tasks[task].percentage:.0f} % of the work")

        watcher = Watcher(begin, start, finish)
        return predict_bundle(models, table, device=device, threads=threads, watcher=watcher)


def _name(job: Job) -> str:
    return f"{job.member.label} {job.member.candidate}, fold {job.fold}"


def _hand_in(table: pa.Table, prediction: Floats, task: Task, out: str) -> None:
    """Pass the gate and write the submission, whole or not at all."""
    ids = table["id"].to_pylist()
    write_bytes(render_submission(ids, prediction, expected=ids, task=task), out)


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    run_app(app)
