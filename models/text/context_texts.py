"""What represents a CPC code in a row's text."""

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from data_prep.cpc import class_title, stripped_text
from data_prep.task import Task

CONTEXT_FORMS: dict[str, Callable[[str, str, dict[str, str]], str]] = {
    "class": class_title,
    "stripped": stripped_text,
}
"""Forms of the context text that replace it; other forms read a column of the prepared table as it is."""


class TitledData(Protocol):
    """Whatever knows its task and the titles of its CPC sections: a prepared folder, a bundle."""

    @property
    def task(self) -> Task:
        """What the tables are of."""

    @property
    def section_titles(self) -> dict[str, str]:
        """Title of each CPC section, by letter."""


def with_context(table: pa.Table, data: TitledData, form: str) -> pa.Table:
    """Return a table of `data` whose context_text has the given form (see `Candidate.context`).

    Raises:
        InputError: the titles of the sections do not fit the prepared context texts.
    """
    code_column = data.task.cpc_column
    if form not in CONTEXT_FORMS or code_column is None:
        return table
    codes = table[code_column].cast(pa.string()).combine_chunks().dictionary_encode()
    code_of_row, place = codes.indices.to_numpy(), table.schema.get_field_index("context_text")
    text_of = dict(zip(code_of_row.tolist(), table["context_text"].to_pylist(), strict=True))
    forms = [
        CONTEXT_FORMS[form](code, text_of[number], data.section_titles)
        for number, code in enumerate(codes.dictionary.to_pylist())
    ]
    return table.set_column(place, "context_text", pa.array(forms, pa.string()).take(codes.indices))
