"""Reads the tables of a report back, as the numbers and texts that a reader gets."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """A cell: what it shows, and its number in full precision, if it has one."""

    text: str
    value: float | None


@dataclass
class _Reader(HTMLParser):
    tables: dict[str, dict[str, dict[str, Cell]]] = field(default_factory=dict)
    tiles: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._table = self._row = ""
        self._keys: list[str] = []
        self._cells: list[Cell] = []
        self._text: list[str] | None = None
        self._value: float | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "table":
            self._table, self._keys = found["id"], []
            self.tables[self._table] = {}
        elif tag == "th":
            self._keys.append(found["data-key"])
        elif tag == "tr" and "data-row" in found:
            self._row, self._cells = found["data-row"], []
        elif tag == "td":
            self._text = []
            self._value = float(found["data-value"]) if found.get("data-value") else None
        elif found.get("data-tile"):
            self.tiles[found["data-tile"]] = float(found["data-value"] or "nan")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            assert self._text is not None
            self._cells.append(Cell("".join(self._text), self._value))
            self._text = None
        elif tag == "tr" and self._cells:
            self.tables[self._table][self._row] = dict(zip(self._keys, self._cells, strict=True))
            self._cells = []


@dataclass(frozen=True)
class ReadPage:
    """A report, read back."""

    source: str
    tables: dict[str, dict[str, dict[str, Cell]]]
    """Cells by table, row and column."""
    tiles: dict[str, float]

    def values(self, table: str, column: str) -> dict[str, float | None]:
        """Return the numbers of a column by row."""
        return {row: cells[column].value for row, cells in self.tables[table].items()}


def read_page(path: Path | str) -> ReadPage:
    source = Path(path).read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(source)
    return ReadPage(source, reader.tables, reader.tiles)
