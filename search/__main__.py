"""Command line of the search: `plan` and `run` a study, watch it, and `explain` or `replay` what it did."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_prep.console import activity, console, new_app, print_line, run_app
from data_prep.errors import InputError
from data_prep.export import CsvOption, JsonOption, export
from data_prep.wording import command, count
from search.cluster.cluster_commands import register as register_jobs

if TYPE_CHECKING:
    from search.watch.leaderboard import Leaderboard

EXIT_INTERRUPTED = 130
PAGE = 30
"""Candidates that a table or list shows without `--all`."""

app = new_app("Search: trains many candidates fold by fold on Ray, and stops those that will not help the ensemble.")
register_jobs(app)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="The study file (YAML).", metavar="STUDY.yaml")],
    *,
    runs: Annotated[str, typer.Option(help="Folder or URI for run directories.")] = "runs",
    data: Annotated[str | None, typer.Option(help="Prepared folder or URI to use instead of the study's.")] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster, or `auto`. Without it, Ray starts here."),
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models.")] = None,
    dashboard: Annotated[bool, typer.Option(help="Start the dashboard of a local Ray.")] = True,
    only: Annotated[
        str | None,
        typer.Option(help="Names under `candidates:` to run now, separated by commas.", metavar="NAMES"),
    ] = None,
) -> None:
    """Run a study, or continue it; finished work is never repeated.

    Example: `blendfold run studies/memo-b.yaml --only exp018,exp020`
    """
    from search.ray_tune.run_study import run_study  # noqa: PLC0415 - keeps `--help` fast

    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    outcome = run_study(
        study, runs=runs, data=data, address=address, backbones=backbones, dashboard=dashboard, only=names
    )
    if outcome.interrupted:
        options = {
            "--runs": runs if runs != "runs" else None,
            "--data": data,
            "--address": address,
            "--backbones": backbones,
            "--no-dashboard": not dashboard,
            "--only": only,
        }
        print_line(
            f"stopped with {count(outcome.finished, 'fold run')} finished in {outcome.run_dir}. "
            f"To continue, run the same command again: {command('blendfold run', study, options=options)}"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    from search.watch.leaderboard import leaderboard as rank  # noqa: PLC0415 - keeps `--help` fast

    board = rank(outcome.run_dir, most=PAGE)
    console.print(board.brief() if outcome.finished else board)
    print_line(outcome.summary)
    if not outcome.finished:
        raise InputError(f"{outcome.run_dir}: no fold run finished; the reasons are above")
    if outcome.stopped or outcome.failed:
        print_line(f"why candidates were stopped: {command('blendfold explain', outcome.run_dir)}")
    print_line(f"wrote {outcome.run_dir}; next: {_after_leaderboard(outcome.run_dir, board)}")


@app.command()
def plan(
    study: Annotated[str, typer.Argument(help="The study file (YAML), its data prepared.", metavar="STUDY.yaml")],
    *,
    cluster: Annotated[
        str | None,
        typer.Option(help="The cluster file for `ray up`; without it, this machine.", metavar="FILE"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared folder or URI to use instead of the study's.")] = None,
    throughput: Annotated[
        str | None,
        typer.Option(help="Your own prices, peaks, speeds (YAML, like search/cluster/machines.yaml).", metavar="FILE"),
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models or configs.")] = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Estimate what a study will cost (fold runs, hours, money, memory, disk) before you rent or start anything.

    Example: `blendfold plan studies/pppm.yaml --cluster cluster.yaml`
    """
    from data_prep.cpu_cores import cpu_cores  # noqa: PLC0415
    from search.cluster.machines import read_cluster, read_machines, this_machine  # noqa: PLC0415
    from search.plan.plan_report import plan_document, plan_report  # noqa: PLC0415
    from search.plan.search_plan import plan_study  # noqa: PLC0415

    machines = read_machines(throughput)
    nodes = [this_machine(cpu_cores())] if cluster is None else read_cluster(cluster, machines)
    found = plan_study(study, nodes=nodes, machines=machines, data=data, backbones=backbones)
    document = plan_document(found)
    if export(document, document["placements"], as_json=as_json, csv_file=csv_file):
        return
    console.print(plan_report(found))
    following = (
        command("blendfold run", study, options={"--data": data, "--backbones": backbones})
        if cluster is None
        else command("blendfold launch", study, options={"--cluster": cluster, "--data": data, "--runs": "RUNS"})
    )
    print_line(f"read {study}, wrote nothing; next: {following}")


@app.command()
def status(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN_DIR")],
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update it every few seconds, until Ctrl-C or until the driver ends.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every candidate, not only the best.")] = False,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Show the state of a search: what runs, what waits, what is best, what failed; needs only its run directory.

    Example: `blendfold status runs/demo --watch`
    """
    from search.watch.status_page import StatusReader, follow  # noqa: PLC0415 - keeps `--help` fast

    if watch and (as_json or csv_file is not None):
        raise InputError("--watch: shows a page again and again; leave out --json and --csv")
    reader = StatusReader(run_dir, show_all=_most(everything, as_json, csv_file) is None)
    found = follow(reader, console) if watch else reader.read()
    if export(found.document(), found.records(), as_json=as_json, csv_file=csv_file):
        return
    console.print(found)
    verb = "leaderboard" if found.is_over else "explain"
    print_line(f"read {run_dir}; next: {command('blendfold', verb, run_dir)}")


@app.command()
def track(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN_DIR")],
    *,
    tensorboard: Annotated[
        str | None, typer.Option(help="Folder to write TensorBoard event files to.", metavar="DIR")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow store, such as sqlite:///mlflow.db or a server.", metavar="URI")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write every candidate, not only the best.")] = False,
) -> None:
    """Write settings, curves and predictions for TensorBoard or MLflow; a second call adds only what is new.

    Example: `blendfold track runs/demo --tensorboard tb --mlflow sqlite:///mlflow.db`
    """
    from search.watch.mlflow_runs import write_mlflow_runs  # noqa: PLC0415
    from search.watch.tensorboard import write_event_files  # noqa: PLC0415
    from search.watch.tracked_run import read_tracked  # noqa: PLC0415

    if tensorboard is None and mlflow is None:
        raise InputError("track needs to know where to write: --tensorboard DIR, --mlflow URI, or both")
    run = read_tracked(run_dir, most=None if everything else PAGE)
    done = []
    if tensorboard is not None:
        written, same = write_event_files(run, Path(tensorboard))
        done.append(f"wrote {count(written, 'event file')} in {tensorboard}, {same} were up to date")
    if mlflow is not None:
        with activity("writing MLflow runs") as show:
            made, found = write_mlflow_runs(run, mlflow, note=show)
        done.append(f"wrote {made} MLflow runs in {mlflow}, brought {found} up to date")
    if run.n_left_out:
        done.append(f"left out {count(run.n_left_out, 'candidate')}, which --all writes too")
    following = (
        command("tensorboard", options={"--logdir": tensorboard})
        if tensorboard
        else command("mlflow ui", options={"--backend-store-uri": mlflow})
    )
    print_line(f"{'; '.join(done)}; next: {following}")


@app.command()
def leaderboard(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN_DIR")],
    *,
    everything: Annotated[bool, typer.Option("--all", help="Show every candidate, not only the best.")] = False,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Rank the candidates of a run directory, and show which differences are noise.

    Example: `blendfold leaderboard runs/demo`
    """
    from search.watch.leaderboard import leaderboard as rank  # noqa: PLC0415 - keeps `--help` fast

    board = rank(run_dir, most=_most(everything, as_json, csv_file))
    if export(board.document(), board.records(), as_json=as_json, csv_file=csv_file):
        return
    console.print(board)
    print_line(f"read {run_dir}; next: {_after_leaderboard(run_dir, board)}")


@app.command()
def explain(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN_DIR")],
    candidate: Annotated[
        str | None,
        typer.Argument(help="One candidate to tell in full: its name, its id or the start of it.", metavar="CANDIDATE"),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Tell of every candidate, not only the latest.")] = False,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Print the story of each candidate in one line: its scores, what was decided and why, what it cost.

    Example: `blendfold explain runs/demo packed-mse`
    """
    if candidate is not None:
        _explain_one(run_dir, candidate, as_json=as_json, csv_file=csv_file)
        return
    from search.watch.candidate_stories import explain as read_stories  # noqa: PLC0415 - keeps `--help` fast

    stories = read_stories(run_dir, most=_most(everything, as_json, csv_file))
    if export(stories, stories.stories, as_json=as_json, csv_file=csv_file):
        return
    console.print(stories, soft_wrap=True)
    following = (
        "the search has not ended; run its `blendfold run STUDY.yaml` again to continue"
        if stories.has_open_ends
        else command("blendfold blend", run_dir)
    )
    print_line(f"read {run_dir}; next: {following}")


def _explain_one(run_dir: str, candidate: str, *, as_json: bool, csv_file: str | None) -> None:
    from search.watch.candidate_page import explain_candidate  # noqa: PLC0415 - keeps `--help` fast

    with activity("replaying what was decided"):
        page = explain_candidate(run_dir, candidate)
    if export(page, page.reports, as_json=as_json, csv_file=csv_file):
        return
    console.print(page)
    print_line(f"read {run_dir}; next: {command('blendfold leaderboard', run_dir)}")


@app.command()
def replay(
    curves: Annotated[
        str,
        typer.Argument(
            help="A CSV (experiment, backbone, fold, epoch, valid_pearson), a run directory, or a folder from --keep.",
            metavar="CURVES",
        ),
    ],
    *,
    ladder: Annotated[
        str | None,
        typer.Option(help="Ladder settings: a YAML file, or KEY=VALUE separated by commas.", metavar="SETTINGS"),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Predictions for curves without any (`predictions.arrow`).", metavar="FILE")
    ] = None,
    split: Annotated[str | None, typer.Option(help="The split_id to take from a CSV.")] = None,
    orders: Annotated[int, typer.Option(help="Random orders of arrival.", min=1)] = 200,
    workers: Annotated[int, typer.Option(help="Fold runs at a time.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the orders.", min=0)] = 0,
    members: Annotated[
        str | None,
        typer.Option(help="Candidates or families known to be good, separated by commas.", metavar="NAMES"),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Only save curves and predictions, compact, in this folder.", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Replay recorded curves with the ladder and with other schedulers: what would each have spent, kept and lost?

    Example: `blendfold replay curves.csv --split B --ladder eta=2,noise=0.01 --members roberta-large`
    """
    from search.replay.ladder_option import read_ladder_option  # noqa: PLC0415
    from search.replay.recording import keep_recording, read_recording  # noqa: PLC0415
    from search.replay.replay_report import replay_report  # noqa: PLC0415
    from search.replay.replay_search import replay as play_all  # noqa: PLC0415

    recording = read_recording(curves, split=split, rows=rows)
    if keep is not None:
        keep_recording(recording, keep)
        for sentence in recording.left_out:
            print_line(sentence)
        options = {
            "--ladder": ladder,
            "--orders": orders,
            "--workers": workers,
            "--seed": seed,
            "--members": members,
        }
        print_line(
            f"wrote {keep} with {count(len(recording.candidates), 'candidate')}; next: "
            f"{command('blendfold replay', keep, options=options)}"
        )
        return
    settings = read_ladder_option(ladder).for_metric(recording.metric)
    names = [name.strip() for name in (members or "").split(",") if name.strip()]
    with activity("replaying") as show:
        found = play_all(
            recording,
            settings,
            members=names,
            n_orders=orders,
            n_workers=workers,
            seed=seed,
            progress=lambda name: show(f"replaying {name}, {orders} orders"),
        )
    schedulers = [
        {**vars(row), "members": dict(zip(found.members, row.members, strict=True))} for row in found.summaries
    ]
    document = {"orders": found.n_orders, "grid_blend": found.grid_blend, "schedulers": schedulers}
    if export(document, schedulers, as_json=as_json, csv_file=csv_file):
        return
    console.print(replay_report(found))
    print_line(f"read {curves}, wrote nothing; next: try other settings with --ladder KEY=VALUE")


@app.command()
def refit(
    run_dir: Annotated[str, typer.Argument(help="The run directory with the blend.", metavar="RUN_DIR")],
    *,
    blend: Annotated[str, typer.Option(help="Name of the blend.")],
    address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster, or `auto`. Without it, Ray starts here."),
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep weights even if their predictions differ from the tables.")
    ] = False,
) -> None:
    """Train the folds of a blend again whose weights were not kept; their predictions must match the tables.

    Example: `blendfold refit runs/pppm --blend nelder-mead`
    """
    from search.ray_tune.refit import refit as train_again  # noqa: PLC0415 - keeps `--help` fast

    try:
        trained, kept = train_again(
            run_dir, blend, address=address, backbones=backbones, force=force, message=print_line
        )
    except KeyboardInterrupt:
        print_line("stopped; what is done is kept. To continue, run the same command again")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    done = (
        f"wrote the weights of {count(trained, 'fold run')} and the files of {count(kept, 'backbone')}"
        if trained + kept
        else "nothing is missing"
    )
    options = {"--blend": blend, "--out": "DIR"}
    print_line(f"{done}; next: {command('blendfold bundle', run_dir, options=options)}")


def _most(everything: bool, as_json: bool, csv_file: str | None) -> int | None:
    """Return how many candidates to show; None: all, also for another program."""
    return None if everything or as_json or csv_file is not None else PAGE


def _after_leaderboard(run_dir: str, board: "Leaderboard") -> str:
    program = "blendfold blend" if board.can_be_blended else "blendfold explain"
    return command(program, run_dir)


if __name__ == "__main__":
    run_app(app)
