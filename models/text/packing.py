"""`pack_rows`: the rows of each group packed into as few texts as hold them."""

import numpy as np
from numpy.typing import NDArray


def pack_rows(group: NDArray[np.int64], size: NDArray[np.int64], room: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the text of each row: ascending numbers, texts of one group next to each other, none empty.

    A group whose rows do not fit into one text is cut into texts of about equal size, as many whatever the rows' order.
    `group` [rows] ascends from 0 to groups - 1 without gaps; `size` [rows], in tokens with the separator, is at most
    half of its group's `room` [groups], the tokens that a text has for rows.
    """
    n_groups = len(room)
    total = np.bincount(group, weights=size, minlength=n_groups).astype(np.int64)
    longest = np.zeros(n_groups, dtype=np.int64)
    np.maximum.at(longest, group, size)
    n_rows = np.bincount(group, minlength=n_groups)
    n_texts = np.where(total <= room, 1, np.minimum(-(-total // np.maximum(room - longest, 1)), n_rows))
    text = np.repeat(np.cumsum(n_texts) - n_texts, n_rows)
    first = np.cumsum(n_rows) - n_rows
    for number in np.flatnonzero(n_texts > 1):
        rows = slice(first[number], first[number] + n_rows[number])
        text[rows] += _even_cut(size[rows], int(n_texts[number]))
    return text


def _even_cut(size: NDArray[np.int64], n_texts: int) -> NDArray[np.int64]:
    """Cut a sequence into `n_texts` stretches of about equal total, none empty: a row goes where its middle lies.

    No stretch exceeds total / n_texts by more than the longest row.
    """
    middle = np.cumsum(size) - size / 2
    wanted = np.searchsorted(middle, size.sum() * np.arange(1, n_texts) / n_texts)
    turn = np.arange(1, n_texts)
    cuts = np.maximum.accumulate(wanted - turn) + turn
    cuts = np.clip(cuts, turn, len(size) - n_texts + turn)
    return np.searchsorted(cuts, np.arange(len(size)), side="right")
