"""Command line of models: what there is to choose, one candidate explained, one fold run without Ray, predictions."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.console import console, new_app, print_line, run_app
from data_prep.errors import InputError
from data_prep.export import CsvOption, JsonOption, export
from data_prep.wording import command

CandidateOption = Annotated[
    str,
    typer.Option(
        help="YAML or JSON file with the settings ({} has all defaults), or the name of an experiment in studies/."
    ),
]
BackbonesOption = Annotated[str | None, typer.Option(help="Folder of checkpoints, searched before the hub.")]

app = new_app(
    "Everything about one model: what there is to choose, what a candidate is, one fold run, predictions of a bundle."
)


@app.command("list")
def list_verb(
    kind: Annotated[str | None, typer.Option(help="Show one kind only, such as head.  [default: all]")] = None,
    *,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """List every backbone family, recipe, head, loss, adversary and regularizer, one line each.

    Example: `blendfold models list --kind head`
    """
    from models.catalogue import catalogue  # noqa: PLC0415 - pydantic

    kinds = catalogue()
    kind = "regularizer" if kind == "regulariser" else kind  # its name in version 0.2
    if kind is not None and kind not in kinds:
        raise InputError(f"--kind {kind!r}: no such kind; known: {', '.join(kinds)}")
    shown = {kind: kinds[kind]} if kind else kinds
    rows = [
        {"kind": name, "name": choice, "summary": option.summary, "settings": option.settings}
        for name, choices in shown.items()
        for choice, option in choices.items()
    ]
    if export(rows, rows, as_json=as_json, csv_file=csv_file):
        return
    for name in shown:
        console.print(name, style="bold")
        width = max(map(len, kinds[name]))
        for choice, option in kinds[name].items():
            own = f"  [its own settings: {', '.join(option.settings)}]" if option.settings else ""
            print_line(f"  {choice:<{width}}  {option.summary}{own}")
        print_line("")
    print_line("Next: blendfold models explain --candidate FILE")


@app.command("explain")
def explain_verb(*, candidate: CandidateOption, backbones: BackbonesOption = None) -> None:
    """Show how the optimizer treats each of a candidate's parameters: rates, decay, what is frozen.

    Example: `blendfold models explain --candidate candidate.yaml`
    """
    from models.experiment_log import find_candidate  # noqa: PLC0415 - pydantic, pyarrow
    from models.training.parameter_table import parameter_table  # noqa: PLC0415 - torch

    settings, note = find_candidate(candidate)
    console.print(parameter_table(settings, backbones=backbones))
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    print_line(
        "Settings that differ from their defaults: " + (", ".join(f"{k} {v}" for k, v in changed.items()) or "none")
    )
    if note:
        print_line(note)


@app.command("tokens")
def tokens_verb(
    folder: Annotated[str, typer.Argument(help="Prepared folder.")],
    *,
    backbone: Annotated[str, typer.Option(help="Its tokenizer counts: minilm-l6, a hub name or a checkpoint folder.")],
    backbones: BackbonesOption = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Show how many tokens the texts of a prepared folder have, and how many rows each max_length cuts.

    Example: `blendfold models tokens data/pppm --backbone minilm-l6`
    """
    from data_prep.prepared import load_prepared  # noqa: PLC0415 - pyarrow
    from models.backbones.locate_backbone import locate_backbone  # noqa: PLC0415 - torch
    from models.text.token_table import token_lengths, token_tables  # noqa: PLC0415 - torch

    found = token_lengths(load_prepared(folder), locate_backbone(backbone, backbones).tokenizer)
    if export(found, found.texts, as_json=as_json, csv_file=csv_file):
        return
    for table in token_tables(found):
        console.print(table)
    print_line("Next: set max_length in a candidate, or in the space of a study")


@app.command("tiny")
def tiny_verb(
    *,
    family: Annotated[str, typer.Option(help="A family of `blendfold models list --kind backbone`, or all.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; with all, one for each hub name inside it.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.", min=0)] = 0,
) -> None:
    """Make a random two-layer checkpoint with a working tokenizer: any family, offline, in seconds.

    Example: `blendfold models tiny --family deberta-v3-large --out tiny/deberta`
    """
    from models.backbones.tiny_checkpoints import make_tiny  # noqa: PLC0415 - torch

    folders = make_tiny(family, out, seed=seed)
    for folder in folders:
        print_line(f"Wrote {folder}.")
    option = command("--backbones", out)
    print_line(f"Next: {f'give {option}' if len(folders) > 1 else f'backbone: {folders[0]} in a candidate or study'}")


@app.command("train")
def train_verb(
    *,
    data: Annotated[str, typer.Option(help="Prepared folder.")],
    candidate: CandidateOption,
    fold: Annotated[int, typer.Option(help="Validation fold; the others are trained on.")],
    out: Annotated[
        str | None, typer.Option(help="Run directory for predictions and checkpoints.  [default: keep nothing]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    backbones: BackbonesOption = None,
) -> None:
    """Train a candidate on all folds but one; predict that fold, the test rows and the holdout.

    With --out, an interrupted run resumes from its last checkpoint.

    Example: `blendfold models train --data data/pppm --candidate candidate.yaml --fold 0 --out runs/by-hand`
    """
    from models.training.train_command import train_by_hand  # noqa: PLC0415 - torch

    train_by_hand(candidate, data=data, fold=fold, out=out, threads=threads, backbones=backbones)


@app.command("predict")
def predict_verb(
    *,
    bundle: Annotated[str, typer.Option(help="Folder that `blendfold bundle` made.")],
    test: Annotated[str, typer.Option(help="CSV with the task's id and text columns.")],
    out: Annotated[str, typer.Option(help="File to write, such as submission.csv.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all cores]", min=1)] = None,
    cpc: Annotated[
        str | None, typer.Option(help="Titles of CPC codes, as Kaggle's titles.csv, instead of the bundle's.")
    ] = None,
) -> None:
    """Predict new rows with a bundle: no network, no Ray, no other file of the run.

    Example: `blendfold predict --bundle bundles/pppm --test test.csv --out submission.csv`
    """
    from models.bundle.predict_command import write_submission  # noqa: PLC0415 - torch

    write_submission(bundle, test, out, device=device, threads=threads, cpc=cpc)


if __name__ == "__main__":
    run_app(app)
