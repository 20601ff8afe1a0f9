"""`panels`: what a part shows of something that may be missing."""

from collections.abc import Callable, Iterable

from blendfold.report.page.blocks import Block, Remark
from data_prep.errors import InputError


def panels(title: str, make: Callable[[], Iterable[Block]]) -> list[Block]:
    """Return the blocks; where a file is missing or damaged, one that says so."""
    try:
        return list(make())
    except InputError as error:
        return [Remark(f"Cannot be shown. {error}", title=title, is_warning=True)]
