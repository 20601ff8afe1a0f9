from typing import Any

from rich.console import Console
from rich.live import Live

from blendfold.python.notebook_output import LATEST, LatestLines


class Place:
    """Stands in for the handle of a notebook's output."""

    text = ""

    def update(self, data: dict[str, str], **_: Any) -> None:
        self.text = data["text/plain"]


def test_the_latest_lines_stay() -> None:
    place = Place()
    console = Console(file=LatestLines(place), force_terminal=True, width=80)
    for number in range(100):
        console.print(f"[bold]line[/] {number}")
    assert place.text.splitlines() == [f"line {number}" for number in range(100 - LATEST, 100)]


def test_a_live_block_is_replaced_and_goes() -> None:
    place = Place()
    console = Console(file=LatestLines(place), force_terminal=True, width=80)
    with Live("one\ntwo", console=console, auto_refresh=False, transient=True) as live:
        live.refresh()
        live.update("three\nfour\nfive", refresh=True)
        assert place.text.splitlines() == ["three", "four", "five"]
        console.print("a fault")
        assert place.text.splitlines() == ["a fault", "three", "four", "five"]
    assert place.text.splitlines() == ["a fault"]
