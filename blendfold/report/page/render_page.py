"""`render_page`: the parts of a report as one HTML file that needs nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2

from blendfold.report.page.blocks import Block, DataTable, Figure, Part
from blendfold.report.page.page_text import LONGEST, in_full, plain, script_json, shown

RELOAD_SECONDS = 20
"""Time after which a page of a running search loads itself again."""


def render_page(parts: Sequence[Part], *, title: str, subtitle: str, written: str, watched: bool) -> str:
    """Return the page; `watched`: it loads itself again while the search runs."""
    parts = [replace(part, blocks=list(_paired(part.blocks))) for part in parts]
    figures = [block for part in parts for block in part.blocks if isinstance(block, Figure)]
    return _template().render(
        parts=parts,
        title=title,
        subtitle=subtitle,
        written=written,
        reload_seconds=RELOAD_SECONDS if watched else 0,
        figures={figure.id: _spec(figure) for figure in figures},
        style=_asset("report.css"),
        script=_asset("report.js"),
        plotly=_plotly() if figures else "",
    )


def _paired(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield the blocks; one of half the width that has no other beside it gets the whole width."""
    waiting: Figure | DataTable | None = None
    for block in blocks:
        is_half = isinstance(block, Figure | DataTable) and block.is_half
        if waiting is not None:
            yield waiting if is_half else replace(waiting, is_half=False)
        if waiting is None and isinstance(block, Figure | DataTable) and block.is_half:
            waiting = block
        else:
            waiting = None
            yield block
    if waiting is not None:
        yield replace(waiting, is_half=False)


def _spec(figure: Figure) -> dict[str, Any]:
    return {"data": list(figure.data), "layout": {**figure.layout, "height": figure.height}}


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - slow to import

    return str(get_plotlyjs()).replace("</script", "<\\/script")


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, finalize=_finalized, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"script_json": script_json, "in_full": in_full}
    environment.globals |= {"shown": shown, "kind_of": _kind_of, "longest": LONGEST}
    return environment.from_string(_asset("report.html.j2"))


def _finalized(value: Any) -> Any:
    """Write out what does not print in every text; markup of our own is marked as such."""
    return plain(value) if type(value) is str else value


def _kind_of(block: Block) -> str:
    return block.kind
