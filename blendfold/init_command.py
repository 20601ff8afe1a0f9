"""The verb `init`: from a competition's files to a task file, a first study and the commands to type."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from data_prep.console import new_app, print_line
from data_prep.cpu_cores import cpu_cores
from data_prep.errors import InputError
from data_prep.wording import command, count

app = new_app("Write a task file and a first study from your files.")
KEYS = (
    "name",
    "id_column",
    "text_columns",
    "cpc_column",
    "score_column",
    "score_columns",
    "classes",
    "score_levels",
    "score_range",
    "group_column",
    "link_column",
    "metric",
)


@app.command("init")
def init_verb(
    train: Annotated[str, typer.Argument(help="Texts and scores: CSV, JSON lines, Parquet or Arrow; path or URI.")],
    test: Annotated[str | None, typer.Argument(help="The same without scores.")] = None,
    *,
    sample_submission: Annotated[
        str | None, typer.Option(help="Its columns tell id and score.  [default: none]")
    ] = None,
    out: Annotated[str, typer.Option(help="Folder to write task.yaml and study.yaml into.")] = ".",
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as windows-1252.  [default: utf-8]")] = None,
) -> None:
    """Guess columns, legal scores, groups and metric, and write them down with reasons, for you to correct.

    Example: `blendfold init train.csv test.csv`
    """
    from blendfold.first_study import first_study  # noqa: PLC0415 - slow to import
    from data_prep.prepare.guess_task import guess_task  # noqa: PLC0415 - as above
    from data_prep.store.text_encodings import known_encoding  # noqa: PLC0415 - as above

    task_file, study_file = Path(out, "task.yaml"), Path(out, "study.yaml")
    if there := [str(path) for path in (task_file, study_file) if path.exists()]:
        raise InputError(f"{', '.join(there)}: is never overwritten; remove it, or choose another folder with --out")
    guess = guess_task(train, test, sample_submission, encoding=known_encoding(encoding))
    task = guess.task
    data, name = f"prepared/{task.name}", task.name
    task_file.parent.mkdir(parents=True, exist_ok=True)
    task_file.write_text(task_text(task.model_dump(mode="json"), guess.reasons), encoding="utf-8")
    has_gpu = shutil.which("nvidia-smi") is not None
    study = first_study(guess, name=name, data=data, cores=cpu_cores(), has_gpu=has_gpu)
    study_file.write_text(study, encoding="utf-8")
    print_line(task_file.read_text(encoding="utf-8").rstrip())
    print_line(
        f"\nWrote {task_file} and {study_file} from {count(guess.n_rows, 'row')}. Correct what is wrong there, then:"
    )
    options = {"--task": task_file, "--train": train, "--test": test, "--encoding": encoding, "--out": data}
    print_line(command("blendfold prepare", options=options))
    print_line(command("blendfold run", study_file))
    sample = {"--sample-submission": sample_submission, "--clip": True}
    print_line(command("blendfold blend", f"runs/{name}", options={"--name": "first", **sample}))


def task_text(settings: dict[str, Any], reasons: dict[str, str]) -> str:
    """Return a task file with the reason behind each key that was guessed."""
    lines = ["# By `blendfold init`; docs/tasks.md explains every key."]
    one_score = settings.get("score_columns") is None
    for key in KEYS if one_score else [key for key in KEYS if key != "score_column"]:
        if settings.get(key) is None and key != "id_column":
            if key in reasons:
                lines.append(f"# {key}:  # {reasons[key]}")
            continue
        value = json.dumps(settings[key], ensure_ascii=False)
        lines.append(f"{key}: {value}" + (f"  # {reasons[key]}" if key in reasons else ""))
    return "\n".join(lines) + "\n"
