"""The verb `errors`: where a blend, or the best candidate, is wrong."""

from typing import Annotated

import typer

from blend.errors import TABLES
from data_prep.console import activity, console, print_line
from data_prep.errors import InputError
from data_prep.export import CsvOption, JsonOption, export
from data_prep.prepared import load_prepared
from data_prep.wording import command


def register(app: typer.Typer) -> None:
    """Add the verb to a command line."""

    @app.command()
    def errors(
        run: Annotated[str, typer.Argument(help="A run directory: a folder or URI.", metavar="RUN")],
        *,
        blend: Annotated[
            str | None,
            typer.Option(
                help="Name of the blend; of several targets, NAME/TARGET.  [default: the last one, else the best "
                "candidate; the first target]"
            ),
        ] = None,
        worst: Annotated[int, typer.Option(help="How many rows to show.", min=1)] = 20,
        by: Annotated[
            str | None,
            typer.Option(help="Slice by this column only, and show the worst row of each of its values."),
        ] = None,
        table: Annotated[
            str | None,
            typer.Option(
                help=f"Show one table only: {', '.join(TABLES)}.  [default: all; --csv: worst]", metavar="TABLE"
            ),
        ] = None,
        data: Annotated[str | None, typer.Option(help="Prepared folder.  [default: the one in the record]")] = None,
        as_json: JsonOption = False,
        csv_file: CsvOption = None,
    ) -> None:
        """Show where predictions are wrong: worst rows, slices, calibration, disputed rows, contradictory scores.

        Example: `blendfold errors runs/demo --worst 20 --by context`
        """
        from blend.errors.error_rows import load_error_rows  # noqa: PLC0415 - pandas is slow to import
        from blend.errors.errors_report import console_tables, errors_report, records  # noqa: PLC0415

        if table not in (None, *TABLES):
            raise InputError(f"--table {table}: no such table; known: {', '.join(TABLES)}")
        with activity("reading predictions"):
            rows = load_error_rows(run, None if data is None else load_prepared(data), blend=blend)
            report = errors_report(rows, n=worst, by=by)
        wanted = [table] if table else TABLES
        document = {
            "source": rows.source,
            "kind": rows.kind,
            "members": rows.members,
            **{name: records(report.tables[name]) for name in wanted},
        }
        if export(document, records(report.tables[table or "worst"]), as_json=as_json, csv_file=csv_file):
            return
        for part in console_tables(report, table):
            console.print(part)
        options = {"--blend": blend, "--worst": 200, "--csv": "worst.csv"}
        print_line(f"read {run}; next: {command('blendfold errors', run, options=options)}")
