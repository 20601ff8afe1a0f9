"""CPC codes -> the text that tells a model what field of technology a phrase stands in."""

import csv
from importlib import resources
from pathlib import Path

from data_prep.faults import Faults
from data_prep.records import read_records

SECTION_LENGTH = 1
CLASS_LENGTH = 3


def shipped_texts() -> dict[str, str]:
    """Return the context text of the 9 sections and 136 classes (CPC 2022.02) that ship with the package.

    A class reads "SECTION TITLE; CLASS TITLE", a section its title alone. Words that CPC adds to the international
    classification stand in braces in its lists; here they stand without them.
    """
    file = resources.files("data_prep") / "cpc_titles.csv"
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    sections = {row["code"][:SECTION_LENGTH]: row["section_title"] for row in rows}
    return sections | {row["code"]: join_titles(row["section_title"], row["class_title"]) for row in rows}


def read_texts(path: str | Path, faults: Faults) -> dict[str, str]:
    """Return the context text of every section and class in a file like Kaggle's `titles.csv`.

    Args:
        path: CSV with the columns code and title at least; other columns and deeper codes are not needed.
        faults: takes every fault of the file.
    """
    records = read_records(path, required=("code", "title"), closed=False, faults=faults)
    if records is None or set(records.table.column_names) != {"code", "title"}:
        return {}
    titles = {
        code: title
        for batch in records.table.to_batches()
        for code, title in zip(batch["code"].to_pylist(), batch["title"].to_pylist(), strict=True)
        if len(code) in (SECTION_LENGTH, CLASS_LENGTH)
    }
    sections = {code: title for code, title in titles.items() if len(code) == SECTION_LENGTH}
    for code in titles:
        if code[:SECTION_LENGTH] not in sections:
            faults.add(f"{path}, column code", f"section {code[:SECTION_LENGTH]!r} of class {code!r} has no title")
    if not titles:
        faults.add(f"{path}, column code", "no CPC section or class (codes like 'A' and 'A01'); expected titles.csv")
    return {
        code: title if code in sections else join_titles(sections.get(code[:SECTION_LENGTH], ""), title)
        for code, title in titles.items()
    }


def join_titles(section_title: str, class_title: str) -> str:
    """Return the text of a class."""
    return f"{section_title}; {class_title}"
