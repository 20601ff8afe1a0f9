"""Contradictions: rows that say nearly the same and have different scores, so that one of them is mislabeled."""

import numpy as np
import pandas as pd

from blend.errors.error_rows import given_names
from data_prep.normal_text import normal_text
from data_prep.prepared import Prepared

COLUMNS = ("set", "kind", "spread")
KINDS = ("same texts", "alike", "swapped")


def contradictions(data: Prepared) -> pd.DataFrame:
    """Return the train rows (holdout included) whose texts are nearly those of another with another score.

    Texts are nearly the same if the first two are, in either order, but for case, punctuation, plurals and word order
    (`normal_text`), and any third (the context) is equal. Columns: `set`, a number from 1 that such rows share, the
    greatest `spread` first; `kind` of the set: `same texts`, `alike`, or `swapped` where only the order of both texts
    makes the difference; `spread`: greatest score - least score; `id`, the texts, `fold` (-1: holdout), `score`.
    """
    texts = given_names(data.task.text_columns, COLUMNS)
    frame: pd.DataFrame = data.train.select(["id", *data.task.text_columns, "fold", "score"]).to_pandas()
    frame.columns = pd.Index(["id", *texts, "fold", "score"])
    frame["score"] = frame["score"].astype(np.float64)
    normal = [frame[name].map(_normal_by_text(frame[name])) for name in texts[:2]]
    first, second, rest = normal[0], normal[-1], [frame[name] for name in texts[2:]]
    swapped = first > second
    number = _numbers([first.where(~swapped, second), second.where(~swapped, first), *rest])
    sets = frame["score"].groupby(number)
    frame["spread"] = sets.transform("max") - sets.transform("min")
    distinct = [
        _numbers(columns).groupby(number).transform("nunique")
        for columns in ([frame[name] for name in texts], [first, second, *rest])
    ]
    frame["kind"] = np.select([distinct[0] == 1, distinct[1] == 1], KINDS[:2], default=KINDS[2])
    frame["set"] = number
    found = frame[frame["spread"] > 0.0]
    found = found.sort_values(["spread", "set", "score"], ascending=[False, True, True], kind="stable")
    found = found.assign(set=pd.factorize(found["set"])[0] + 1)
    return found[[*COLUMNS, "id", *texts, "fold", "score"]].reset_index(drop=True)


def _numbers(columns: list[pd.Series]) -> pd.Series:
    """Return a number [rows] that rows share which are equal in all columns."""
    return pd.DataFrame(dict(enumerate(columns))).groupby(list(range(len(columns))), sort=False).ngroup()


def _normal_by_text(texts: pd.Series) -> dict[str, str]:
    return {text: normal_text(text) for text in texts.unique()}
