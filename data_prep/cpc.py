"""CPC codes and their titles: the text that tells a model which field of technology a phrase belongs to."""

import csv
from importlib import resources
from pathlib import Path

from data_prep.errors import InputError, InputFaults
from data_prep.store.table_records import read_records

SECTION_LENGTH = 1
CLASS_LENGTH = 3
SECTIONS = "ABCDEFGHY"
"""The letters of the sections, in CPC's order."""


def shipped_texts() -> dict[str, str]:
    """Return the context text of the 9 sections and 136 classes (CPC 2022.02) that ship with the package.

    A class reads "SECTION TITLE; CLASS TITLE", without the braces in which CPC puts words that it adds to the IPC.
    """
    file = resources.files("data_prep") / "cpc_titles.csv"
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    sections = {row["code"][:SECTION_LENGTH]: row["section_title"] for row in rows}
    return sections | {row["code"]: join_titles(row["section_title"], row["class_title"]) for row in rows}


def read_texts(path: str | Path, faults: InputFaults) -> dict[str, str]:
    """Return the context text of every section and class in a file like Kaggle's `titles.csv`.

    It has at least the columns code and title; other columns and deeper codes are ignored.
    """
    records = read_records(path, required=("code", "title"), closed=False, faults=faults)
    if records is None or set(records.table.column_names) != {"code", "title"}:
        return {}
    titles: dict[str, str] = {}
    rows = zip(records.table["code"].to_pylist(), records.table["title"].to_pylist(), strict=True)
    for row, (code, title) in enumerate(rows):
        if len(code) not in (SECTION_LENGTH, CLASS_LENGTH):
            continue
        if titles.setdefault(code, title) != title:
            faults.add(f"{path}, column code", "has two titles; keep one", place=records.place(row), found=code)
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


def section_titles(texts: dict[str, str]) -> dict[str, str]:
    """Return the texts of the sections alone, by letter."""
    return {code: text for code, text in texts.items() if len(code) == SECTION_LENGTH}


def class_title(code: str, text: str, sections: dict[str, str]) -> str:
    """Return the own title of a class or section, without its section's; `sections` holds their titles by letter.

    Raises:
        InputError: its context text, `text`, does not begin with the title of its section.
    """
    section = sections.get(code[:SECTION_LENGTH])
    if len(code) == SECTION_LENGTH and text == section:
        return text
    start = None if section is None else join_titles(section, "")
    if start is None or not text.startswith(start):
        raise InputError(
            f"the context text of CPC class {code!r} must begin with the title of its section, which is {section!r}; "
            f"found {text!r}: prepare the data again to use class titles"
        )
    return text.removeprefix(start)


def stripped_text(code: str, text: str, sections: dict[str, str]) -> str:
    """Return the context text of a class as in a widely copied table: "SECTION TITLE. CLASS TITLE", damaged.

    The table was made with `title.lstrip(code)`, which removes every leading character that occurs in the code, not
    the code itself: "AGRICULTURE" of A01 is "GRICULTURE" there, and all of section C reads "HEMISTRY; METALLURGY".
    26 of the 136 classes are damaged. Arguments and errors as for `class_title`.
    """
    title = class_title(code, text, sections)
    letter = code[:SECTION_LENGTH]
    if len(code) == SECTION_LENGTH:
        return title.lstrip(code)
    return f"{sections[letter].lstrip(letter)}. {title.lstrip(code)}"


def code_numbers(code: str) -> tuple[int, int]:
    """Return the position of a code's section in `SECTIONS`, and its class number (0 for a section alone).

    Raises:
        InputError: not a CPC section or class.
    """
    letter, number = code[:SECTION_LENGTH], code[SECTION_LENGTH:]
    if not letter or letter not in SECTIONS or not (number == "" or (len(number) == 2 and number.isdecimal())):
        raise InputError(f"not a CPC section or class (such as 'A' or 'A01'): {code!r}; use a recipe without codes")
    return SECTIONS.index(letter), int(number or 0)
