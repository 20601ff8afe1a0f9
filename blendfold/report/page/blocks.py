"""The blocks that a part of the report consists of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    key: str
    title: str
    digits: int | None = None
    """Digits after the point of a number; None: the column holds text."""
    signed: bool = False
    """Numbers are shown with their sign."""
    percent: bool = False
    """Shares are shown as percentages."""
    is_code: bool = False
    """Ids and hashes, which do not wrap."""
    hint: str = ""
    """What the column means, for those who point at its head."""

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers."""
        return self.digits is not None


@dataclass(frozen=True)
class Row:
    """A row of a table: its key, and its values in the order of the columns."""

    key: str
    values: Sequence[Value]
    muted: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table whose columns sort the rows; every number stands there in full precision too."""

    kind: ClassVar[str] = "table"
    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    first: int = 25
    """Rows that are shown before the reader asks for all."""
    is_half: bool = False
    """Whether a wide screen shows another block beside it."""


@dataclass(frozen=True)
class Menu:
    """A menu above a figure that shows the traces whose `meta` is the chosen value."""

    label: str
    values: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A Plotly figure; colors that start with `@` are names in the style sheet."""

    kind: ClassVar[str] = "figure"
    id: str
    title: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    note: str = ""
    """How to read it."""
    height: int = 380
    """Pixels."""
    min_width: int = 0
    """Pixels; on a narrower screen the figure scrolls inside its frame."""
    choice: Menu | None = None
    is_half: bool = False
    """Whether a wide screen shows another block beside it."""


@dataclass(frozen=True)
class Prose:
    """Sentences: the paragraph that a part begins with, or a list."""

    kind: ClassVar[str] = "prose"
    sentences: Sequence[str]
    is_list: bool = False
    is_lead: bool = False
    """Larger than other text."""


@dataclass(frozen=True)
class Remark:
    """One sentence in place of something that cannot be shown, or about what to beware of."""

    kind: ClassVar[str] = "remark"
    text: str
    title: str = ""
    is_warning: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading inside a part."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Tiles:
    """A few key numbers."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence["Tile"]


@dataclass(frozen=True)
class Tile:
    """One key number with its name."""

    key: str
    name: str
    shown: str
    value: Value = None
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


Block = DataTable | Figure | Prose | Remark | Heading | Tiles | Code


@dataclass(frozen=True)
class Part:
    """One of the parts of the report."""

    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
