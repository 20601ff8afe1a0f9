"""Contradictions: rows that say nearly the same and have different scores, so that one of them is mislabeled."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from blend.errors.error_rows import given_names
from data_prep.normal_text import normal_text, normal_words
from data_prep.prepared import Prepared

COLUMNS = ("set", "kind", "spread")
KINDS = ("same texts", "alike", "reordered", "swapped")


def contradictions(data: Prepared) -> pd.DataFrame:
    """Return the train rows (holdout included) whose texts are nearly those of another with another score.

    Texts are nearly the same if the first two are, in either order, but for case, punctuation, plurals and word order
    (`normal_text`), and any third (the context) is equal. Columns: `set`, a number from 1 that such rows share; `kind`
    of the set, the plainest first: `same texts`, `alike` (but for case, punctuation, plurals), `reordered` (words in
    another order, which may mean another thing), `swapped` (the first two texts); `spread`: greatest score - least
    score, the greatest first inside a kind; `id`, the texts, `fold` (-1: holdout), `score` (of classes,
    the number of the class, from 0).
    """
    texts = given_names(data.task.text_columns, COLUMNS)
    frame: pd.DataFrame = data.train.select(["id", *data.task.text_columns, "fold"]).to_pandas()
    frame.columns = pd.Index(["id", *texts, "fold"])
    frame["score"] = data.one_target.astype(np.float64)
    pair, rest = [frame[name] for name in texts[:2]], [frame[name] for name in texts[2:]]
    words, normal = (
        [column.map(_by_text(column, change)) for column in pair] for change in (normal_words, normal_text)
    )
    swapped = normal[0] > normal[-1]
    number = _numbers([normal[0].where(~swapped, normal[-1]), normal[-1].where(~swapped, normal[0]), *rest])
    sets = frame["score"].groupby(number)
    frame["spread"] = sets.transform("max") - sets.transform("min")
    is_one = [_numbers(columns).groupby(number).transform("nunique") == 1 for columns in (pair, words, normal)]
    frame["kind"], frame["set"] = np.select(is_one, range(3), default=3), number
    found = frame[frame["spread"] > 0.0]
    found = found.sort_values(["kind", "spread", "set", "score"], ascending=[True, False, True, True], kind="stable")
    found = found.assign(set=pd.factorize(found["set"])[0] + 1, kind=[KINDS[place] for place in found["kind"]])
    return found[[*COLUMNS, "id", *texts, "fold", "score"]].reset_index(drop=True)


def _numbers(columns: list[pd.Series]) -> pd.Series:
    """Return a number [rows] that rows share which are equal in all columns."""
    return pd.DataFrame(dict(enumerate(columns))).groupby(list(range(len(columns))), sort=False).ngroup()


def _by_text(texts: pd.Series, change: Callable[[str], str]) -> dict[str, str]:
    return {text: change(text) for text in texts.unique()}
