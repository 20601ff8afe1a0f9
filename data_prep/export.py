"""`export`: what a verb found as JSON or CSV for other programs, instead of the tables that a person reads."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from data_prep.console import console, print_as_is, print_line
from data_prep.credentials import mask_credentials
from data_prep.errors import InputError
from data_prep.wording import count

STDOUT = "-"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
CsvOption = Annotated[
    str | None,
    typer.Option("--csv", help="Write the table as CSV; `-` prints it, and nothing else.", metavar="FILE"),
]


def export(found: Any, rows: Iterable[Any], *, as_json: bool, csv_file: str | None) -> bool:
    """Print `found` as JSON, or write `rows` as CSV, if one of them is asked for; return whether it was.

    `found` and `rows` are dataclasses, records (pydantic), mappings or plain values; `rows` are those of its main
    table. NaN becomes null in JSON and an empty cell in CSV, where nested values are columns of their own.

    Raises:
        InputError: both are asked for.
    """
    if as_json and csv_file is not None:
        raise InputError("--json and --csv: give one of them")
    if as_json:
        print_as_is(_escaped(json.dumps(plain(found), indent=2, ensure_ascii=not console.encoding.startswith("utf"))))
    elif csv_file == STDOUT:
        print_as_is(to_csv(rows)[0].removesuffix("\n"))
    elif csv_file is not None:
        from data_prep.store.files import write_bytes  # noqa: PLC0415 - pyarrow is slow to import

        text, n_rows = to_csv(rows)
        write_bytes(text.encode(), csv_file)
        print_line(f"wrote {csv_file} ({count(n_rows, 'row')})")
    return as_json or csv_file is not None


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dicts, lists, texts (credentials masked), numbers, None for NaN."""
    if hasattr(value, "model_dump"):  # of pydantic, which is slow to import
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if hasattr(value, "item") and not isinstance(value, str):  # of numpy
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else mask_credentials(str(value))


def to_csv(rows: Iterable[Any]) -> tuple[str, int]:
    """Return rows as CSV with a header, and how many there are; columns are in order of first appearance."""
    values = [plain(row) for row in rows]
    flat = [dict(_flat(row)) for row in values]
    nested = {name for row in values for name, value in row.items() if isinstance(value, dict)}
    columns = list(dict.fromkeys(name for row in flat for name in row if name not in nested))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue(), len(flat)


def _flat(row: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the cells of a row: of a nested value `outer_inner`, of a list its values with spaces between them."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}_")
        elif isinstance(value, list):
            yield before + key, " ".join(map(str, value))
        else:
            yield before + key, "" if value is None else value


def _escaped(text: str) -> str:
    """Return JSON whose texts hold no sign that does not print, such as one that turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)
