"""The verb `report`: writes a run directory as one page to read, show and print."""

from typing import Annotated

import typer

from data_prep.console import activity, new_app, print_line

app = new_app("Writes a run directory as one page.")

Watch = Annotated[
    bool, typer.Option("--watch", help="Write it again while the search runs; the page loads itself again.")
]


@app.command()
def report(
    run_dir: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN_DIR")],
    *,
    blend: Annotated[str | None, typer.Option(help="Name of the blend.  [default: the one written last]")] = None,
    out: Annotated[
        str | None, typer.Option(help="The page to write.  [default: report.html in the run directory]", metavar="FILE")
    ] = None,
    ledger: Annotated[str, typer.Option(help="The ledger of submissions, if there is one.")] = "ledger.csv",
    watch: Watch = False,
) -> None:
    """Write a run, its blend, errors and data as one offline HTML page.

    Example: `blendfold report runs/demo --blend demo`
    """
    from blendfold.report.write_report import watch_report, write_report  # noqa: PLC0415 - keeps `--help` fast

    if watch:
        with activity("writing the report again while the search runs; Ctrl-C ends this") as show:
            path = watch_report(
                run_dir,
                blend=blend,
                out=out,
                ledger=ledger,
                written=lambda path: show(f"wrote {path}; Ctrl-C ends this"),
            )
    else:
        with activity("drawing"):
            path = write_report(run_dir, blend=blend, out=out, ledger=ledger)
    print_line(f"wrote {path}; next: open it in a browser, or send it: it needs no other file")
