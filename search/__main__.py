"""Command line of the search: `plan` and `run` a study, ask how it stands, `explain` or `replay` what it did."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from data_prep.console import console, new_app, run_app
from data_prep.errors import InputError
from search.cluster.cluster_commands import register as register_jobs

EXIT_INTERRUPTED = 130

app = new_app("Search: many candidates, fold by fold on Ray; stops early what will not help the ensemble.")
register_jobs(app)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="The study file (YAML).", metavar="STUDY.yaml")],
    *,
    runs: Annotated[str, typer.Option(help="Folder or URI that holds run directories.")] = "runs",
    data: Annotated[str | None, typer.Option(help="Prepared folder or URI, instead of the study's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster, or `auto`; without it Ray starts here.")
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models.")] = None,
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard with a local Ray.")] = True,
    only: Annotated[
        str | None,
        typer.Option(help="Names under `candidates:` to run now, with commas between them.", metavar="NAMES"),
    ] = None,
) -> None:
    """Run a study, or go on with it: what is finished is never repeated.

    Example: `python -m search run studies/memo-b.yaml --only exp018,exp020`
    """
    from search.ray_tune.run_study import run_study  # noqa: PLC0415 - imports torch

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
            "--only": only,
        }
        given = {option: value for option, value in options.items() if value}
        console.print(
            f"stopped; {outcome.finished} fold runs are finished in {escape(outcome.run_dir)}. "
            f"To go on, give the same command again: [bold]python -m search run {escape(study)}[/]"
            + "".join(f" {option} {escape(value)}" for option, value in given.items()),
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    following = _show_leaderboard(outcome.run_dir)
    console.print(escape(outcome.summary), highlight=False, soft_wrap=True)
    if not outcome.finished:
        raise InputError(f"{outcome.run_dir}: no fold run finished; the reasons are above")
    console.print(
        f"wrote {escape(outcome.run_dir)}; next: [bold]{escape(following)}[/]", highlight=False, soft_wrap=True
    )


@app.command()
def plan(
    study: Annotated[str, typer.Argument(help="The study file (YAML), its data prepared.", metavar="STUDY.yaml")],
    *,
    cluster: Annotated[
        str | None,
        typer.Option(help="The cluster file for `ray up`; without it this machine is reckoned with.", metavar="FILE"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared folder or URI, instead of the study's.")] = None,
    throughput: Annotated[
        str | None,
        typer.Option(help="Prices, peaks and speeds of your own (YAML, as search/machines.yaml).", metavar="FILE"),
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models or configs.")] = None,
) -> None:
    """Reckon what a study would take - fold runs, hours, money, memory, disk - before anything is rented or started.

    Example: `python -m search plan studies/pppm.yaml --cluster cluster.yaml`
    """
    from search.cluster.machines import read_cluster, read_machines, this_machine  # noqa: PLC0415
    from search.plan.plan_report import plan_report  # noqa: PLC0415
    from search.plan.search_plan import plan_study  # noqa: PLC0415
    from search.ray_tune.ray_session import cores  # noqa: PLC0415 - imports torch

    machines = read_machines(throughput)
    nodes = [this_machine(cores())] if cluster is None else read_cluster(cluster, machines)
    found = plan_study(study, nodes=nodes, machines=machines, data=data, backbones=backbones)
    console.print(plan_report(found))
    console.print(
        f"read {escape(study)}, wrote nothing; next: [bold]python -m search run {escape(study)}[/]",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def status(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN")],
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every few seconds, until Ctrl-C or the driver's end.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every candidate, not only the best.")] = False,
) -> None:
    """Tell how a search stands, from any machine that sees its run directory: what runs, waits, is best, went wrong.

    Example: `python -m search status runs/demo --watch`
    """
    from search.watch.status_page import StatusReader, follow  # noqa: PLC0415 - numpy and scipy, for the curves

    reader = StatusReader(run_dir, show_all=everything)
    found = follow(reader, console) if watch else reader.read()
    console.print(found)
    following = f"python -m search {'leaderboard' if found.is_over else 'explain'} {run_dir}"
    console.print(f"read {escape(run_dir)}; next: [bold]{escape(following)}[/]", highlight=False, soft_wrap=True)


@app.command()
def track(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN")],
    *,
    tensorboard: Annotated[
        str | None, typer.Option(help="Folder to write TensorBoard event files to.", metavar="DIR")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow store, such as sqlite:///mlflow.db or a server.", metavar="URI")
    ] = None,
) -> None:
    """Write a run directory for TensorBoard and MLflow: settings, curves, predictions; again: only what is new.

    Example: `python -m search track runs/demo --tensorboard tb --mlflow sqlite:///mlflow.db`
    """
    from search.watch.mlflow_runs import write_mlflow_runs  # noqa: PLC0415
    from search.watch.tensorboard import write_event_files  # noqa: PLC0415 - numpy and scipy, for the curves
    from search.watch.tracked_run import read_tracked  # noqa: PLC0415

    if tensorboard is None and mlflow is None:
        raise InputError("track needs --tensorboard DIR, --mlflow URI or both: where to write")
    run = read_tracked(run_dir)
    done = []
    if tensorboard is not None:
        written, same = write_event_files(run, Path(tensorboard))
        done.append(f"wrote {written} event files in {tensorboard}, {same} were up to date")
    if mlflow is not None:
        with console.status("writing MLflow runs") as shown:
            made, found = write_mlflow_runs(run, mlflow, note=lambda name: shown.update(escape(name)))
        done.append(f"wrote {made} MLflow runs in {mlflow}, brought {found} up to date")
    following = f"tensorboard --logdir {tensorboard}" if tensorboard else f"mlflow ui --backend-store-uri {mlflow}"
    console.print(f"{escape('; '.join(done))}; next: [bold]{escape(following)}[/]", highlight=False, soft_wrap=True)


@app.command()
def leaderboard(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="DIR")],
) -> None:
    """Rank the candidates of a run directory, with their noise.

    Example: `python -m search leaderboard runs/demo`
    """
    following = _show_leaderboard(run_dir)
    console.print(f"read {escape(run_dir)}; next: [bold]{escape(following)}[/]", highlight=False, soft_wrap=True)


@app.command()
def explain(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="DIR")],
) -> None:
    """Tell the story of each candidate in a line: what it scored where, what was decided and why, what it cost.

    Example: `python -m search explain runs/demo`
    """
    from search.watch.candidate_stories import explain as tell  # noqa: PLC0415 - imports torch

    stories = tell(run_dir)
    console.print(stories, soft_wrap=True)
    following = (
        "the search has not ended; give its [bold]python -m search run STUDY.yaml[/] again to go on"
        if stories.has_open_ends
        else f"[bold]python -m blend fit {escape(run_dir)}[/]"
    )
    console.print(f"read {escape(run_dir)}; next: {following}", highlight=False, soft_wrap=True)


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
        typer.Option(help="Ladder settings: a YAML file, or KEY=VALUE with commas between them.", metavar="SETTINGS"),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Predictions for curves that have none (`predictions.arrow`).", metavar="FILE")
    ] = None,
    split: Annotated[str | None, typer.Option(help="In a CSV: the split_id to take.")] = None,
    orders: Annotated[int, typer.Option(help="Random orders of arrival.", min=1)] = 200,
    workers: Annotated[int, typer.Option(help="Fold runs at a time.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the orders.", min=0)] = 0,
    members: Annotated[
        str | None,
        typer.Option(help="Candidates or families known to be good, with commas between them.", metavar="NAMES"),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Only keep curves and predictions in this folder, small.", metavar="DIR")
    ] = None,
) -> None:
    """Play the ladder and other schedulers over what was recorded: what would each have spent, kept, lost?

    Example: `python -m search replay curves.csv --split B --ladder eta=2,noise=0.01 --members roberta-large`
    """
    from search.replay.ladder_option import read_ladder_option  # noqa: PLC0415
    from search.replay.recording import keep_recording, read_recording  # noqa: PLC0415 - imports torch
    from search.replay.replay_report import replay_report  # noqa: PLC0415
    from search.replay.replay_search import replay as play_all  # noqa: PLC0415

    recording = read_recording(curves, split=split, rows=rows)
    if keep is not None:
        keep_recording(recording, keep)
        for sentence in recording.left_out:
            console.print(escape(sentence), highlight=False, soft_wrap=True)
        console.print(
            f"wrote {escape(keep)} with {len(recording.candidates)} candidates; next: "
            f"[bold]python -m search replay {escape(keep)}[/]",
            highlight=False,
            soft_wrap=True,
        )
        return
    settings = read_ladder_option(ladder).for_metric(recording.metric)
    names = [name.strip() for name in (members or "").split(",") if name.strip()]
    with console.status("playing") as status:
        found = play_all(
            recording,
            settings,
            members=names,
            n_orders=orders,
            n_workers=workers,
            seed=seed,
            progress=lambda name: status.update(f"playing {name}, {orders} orders"),
        )
    console.print(replay_report(found))
    console.print(
        f"read {escape(curves)}, wrote nothing; next: try other settings with [bold]--ladder KEY=VALUE[/]",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def refit(
    run_dir: Annotated[str, typer.Argument(help="The run directory with the blend.", metavar="DIR")],
    *,
    blend: Annotated[str, typer.Option(help="Name of the blend.")],
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster, or `auto`; without it Ray starts here.")
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Folder with local copies of hub models.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep weights that predict otherwise than the tables say.")
    ] = False,
) -> None:
    """Train the folds of a blend again whose weights were not kept; their tables must come out the same.

    Example: `python -m search refit runs/pppm --blend nelder-mead`
    """
    from search.ray_tune.refit import refit as train_again  # noqa: PLC0415 - imports torch

    def message(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    try:
        trained, kept = train_again(run_dir, blend, address=address, backbones=backbones, force=force, message=message)
    except KeyboardInterrupt:
        message("stopped; what is done is kept. To go on, give the same command again")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    done = (
        f"wrote the weights of {trained} fold runs and the files of {kept} backbones" if trained + kept else "all there"
    )
    message(f"{done}; next: python -m blend bundle {run_dir} --blend {blend} --out DIR")


def _show_leaderboard(run_dir: str) -> str:
    """Print the ranking; return what to run next."""
    from search.watch.leaderboard import leaderboard as rank  # noqa: PLC0415 - imports torch

    board = rank(run_dir)
    console.print(board)
    return f"python -m {'blend fit' if board.can_be_blended else 'search explain'} {run_dir}"


if __name__ == "__main__":
    run_app(app)
