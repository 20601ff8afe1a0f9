"""The picture in docs/ladder.md shows what the ladder does."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_picture_is_what_the_ladder_does_now() -> None:
    draw = runpy.run_path(str(DOCS / "draw_ladder.py"))["draw"]
    assert draw() == (DOCS / "ladder.svg").read_text(encoding="utf-8"), "draw it again: python docs/draw_ladder.py"
