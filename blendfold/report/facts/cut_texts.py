"""`cut_texts`: which rows candidates do not read to the end, because their text is longer than `max_length`.

Tokens are estimated, as everywhere in the report; which phrases are cut to what is worked out as in training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendfold.report.facts.data_facts import ColumnLengths
from data_prep.errors import InputError
from data_prep.task import Task
from models.candidate import Candidate
from models.text.phrase_lengths import cut, phrase_room
from models.text.recipes import RECIPES, Layout
from models.text.special_tokens import SpecialTokens
from models.text.truncation import Truncation, place_windows
from search.run_dir.run_dir import RunDir


@dataclass(frozen=True, eq=False)
class CutTexts:
    """What one way to write rows as texts cuts off."""

    candidates: tuple[str, ...]
    """Those that write their texts in this way."""
    recipe: str
    max_length: int
    whole: NDArray[np.int64]
    """[train rows] tokens of a row's own phrases."""
    lost: NDArray[np.int64]
    """[train rows] tokens that are never read."""

    @property
    def share(self) -> float:
        """The share of all tokens that are never read."""
        return float(self.lost.sum() / max(self.whole.sum(), 1))


def cut_texts(run: RunDir, lengths: Sequence[ColumnLengths]) -> tuple[CutTexts, ...]:
    """Return every way in which candidates write texts, the one that cuts most first.

    Left out are candidates of other versions, of imports, and those whose recipe does not fit the task.
    """
    columns = {each.name: each.train for each in lengths}
    ways: dict[str, list[Candidate]] = {}
    for name in run.candidates:
        try:
            candidate = run.candidate(name)
        except ValueError:
            continue
        written = candidate.model_dump_json(include={"recipe", "context", "max_length", "truncation", "head_share"})
        ways.setdefault(written, []).append(candidate)
    found = [_cut(candidates, run.data.task, columns) for candidates in ways.values()]
    return tuple(sorted((each for each in found if each is not None), key=lambda each: -each.share))


def _cut(candidates: Sequence[Candidate], task: Task, columns: Mapping[str, NDArray[np.int64]]) -> CutTexts | None:
    first = candidates[0]
    try:
        layout = RECIPES[first.recipe].layout(task, first)
        frame = _frame(layout)
        room = phrase_room(layout, frame, first.max_length)
    except InputError:
        return None
    is_marked = layout.siblings is not None and layout.siblings.arranged == "marked"
    own = [layout.siblings.column] if layout.siblings and is_marked else []
    whole = np.stack([columns[name] for name in (*layout.columns, *own)], axis=1)
    left = cut(whole, room, [layout.columns.index(name) for name in layout.yielding])
    lost = (whole - left).sum(axis=1)
    truncation = Truncation.of(first)
    if truncation.window_overlap is not None:
        lost = lost - place_windows(whole, left, truncation).gained
    return CutTexts(tuple(each.id for each in candidates), first.recipe, first.max_length, whole.sum(axis=1), lost)


def _frame(layout: Layout) -> SpecialTokens:
    """Return the special tokens that most tokenizers put around and between phrases: one at each place."""
    return SpecialTokens((0,), ((0,),) * (len(layout.columns) - 1), (0,), (0,), padding=0)
