"""What `blendfold predict` does: a bundle's predictions for a CSV of new rows, written as a submission."""

from datetime import timedelta

import pyarrow as pa
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from data_prep.console import activity, console, print_line
from data_prep.cpu_cores import cpu_cores
from data_prep.prepare.pairs import read_test
from data_prep.scoring.combination import Floats
from data_prep.store.files import write_bytes
from data_prep.submission.submission_gate import clip, render_submission
from data_prep.wording import count
from models.bundle.predict import ModelJob, PredictionWatcher, go_offline, predict_bundle
from models.bundle.read_bundle import Bundle, open_bundle
from models.training.devices import find_device


def write_submission(bundle: str, test: str, out: str, *, device: str, threads: int | None, cpc: str | None) -> None:
    """Predict the rows of the CSV `test` and write them to `out`, whole or not at all.

    Raises:
        InputError: the bundle, the CSV, the CPC titles or the device do not fit, or memory is too small for one text.
    """
    go_offline()
    with activity(f"verifying {bundle}"):
        models = open_bundle(bundle)
    models = models if cpc is None else models.with_titles(cpc)
    table = read_test(test, models.task, texts=models.texts)
    contents, where = models.contents, find_device(device)
    n_models = sum(len(member.folds) for member in contents.members)
    cores = threads or cpu_cores()
    print_line(
        f"blend {contents.blend}: {count(n_models, 'model')} of {count(len(contents.members), 'candidate')}, "
        f"{contents.precision}, predict {count(table.num_rows, 'row')} of {test} on {where}"
        + (f" with {count(cores, 'thread')}" if where.type == "cpu" else "")
    )
    prediction = _watched(models, table, device=device, threads=cores)
    if contents.clip:
        prediction, n_clipped = clip(prediction, models.task)
        print_line(f"{count(n_clipped, 'prediction')} clipped to the task's range")
    ids = table["id"].to_pylist()
    write_bytes(render_submission(ids, prediction, expected=ids, task=models.task), out)
    print_line(f"wrote {out} ({count(table.num_rows, 'row')}); it is ready to submit")


def _watched(models: Bundle, table: pa.Table, *, device: str, threads: int) -> Floats:
    """Predict, with an estimate of the time at the start and a bar of what is done."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading texts", total=None)

        def begin(work: float, seconds: float) -> None:
            bar.update(task, total=work)
            print_line(
                f"about {timedelta(seconds=max(1, round(seconds)))} (h:mm:ss), by the first model's rate on a few rows "
                f"and each model's weights times tokens"
            )

        def start(job: ModelJob) -> None:
            bar.update(task, description=_name(job))

        def finish(job: ModelJob) -> None:
            bar.advance(task, job.work)
            if not console.is_terminal:  # where no bar moves
                print_line(f"{_name(job)}: done, {bar.tasks[task].percentage:.0f} % of the work")

        watcher = PredictionWatcher(begin, start, finish)
        return predict_bundle(models, table, device=device, threads=threads, watcher=watcher)


def _name(job: ModelJob) -> str:
    return f"{job.member.label} {job.member.candidate}, fold {job.fold}"
