"""The drift of members: whose test predictions lie apart from the other members' as they never did out of fold.

Rows are looked at in blocks: groups, or, where groups are small, several of them. In each block a member has a level
(its mean), a spread, and a correlation with the mean of the others. What counts is how far it lies from the median of
the others, so that what all members share is no drift of one. From block to block of train rows that distance varies
by chance. A member drifts where its distance on test rows is another one than chance explains (by a t test, and by
`FURTHER`), and far enough to matter (`LEAST`). The member that is furthest off is set aside, and the rest is looked at
again, so that it does not make others look wrong.

A mean over fold models varies less than each of them, so spread and correlation on test rows are those of single fold
models, averaged. A member with one test column may be such a mean, so less spread and more correlation are no drift of
it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blend.blend_record import DriftRecord
from blend.members.member_predictions import MemberPredictions
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats

LEAST_ROWS = 30
"""Of a block; with fewer, a spread or a correlation is hardly known."""
MOST_GROUPS = 20
"""So many groups of test rows, at most, are looked at one by one: the largest."""
FALSE_ALARMS = 0.0025
"""Share of members that would be said to drift by the t test where test rows are like train rows, in normal noise."""
FURTHER = 2.0
"""A group must also be so many times as far off as any block of train rows is: noise can have long tails."""
QUANTITIES: dict[str, Callable[[Floats], Floats]] = {"level": np.positive, "spread": np.exp, "correlation": np.tanh}
"""With how the number is read that is compared."""
LEAST = np.array([0.1, np.log(1.2), 0.25])[:, None]
"""The least drift that matters: .1 standard deviations, a fifth of the spread, a correlation of .83 in place of .9."""
ALIKE = 0.9999
"""Correlations are taken to be no greater."""
LEAST_SHARED = 0.1
"""Correlations with the others are taken to be no less, where levels are compared."""
FLAT = 1e-9
"""Spreads are taken to be no smaller."""


@dataclass(frozen=True)
class Block:
    """Some rows that are looked at together."""

    rows: NDArray[np.intp]
    group: str | None
    """None: several, or unknown."""


@dataclass(frozen=True, eq=False)
class _Look:
    """Some members on all test rows and, after that, on the largest groups."""

    groups: Sequence[str | None]
    """None: all rows."""
    found: Floats
    """[groups, quantities, members]: mean, logarithm of the spread, Fisher's z."""
    off: Floats
    """How far that is from what the others' test predictions suggest, in units of `scale`."""
    limit: Floats
    """As far off, at most, by chance or without harm."""
    scale: Floats
    """[quantities, members]: for levels, how far a member moves where all together move by a standard deviation."""
    drifts: NDArray[np.bool_]


def find_drift(predictions: MemberPredictions, data: Prepared, *, seed: int = 0) -> tuple[DriftRecord, ...]:
    """Return how each member does on all test rows, and on the groups where it drifts; members that drift come first.

    With fewer than two members or two blocks of train rows there is nothing to compare with; of the last two members,
    both drift or none.
    """
    if predictions.row is not None:  # rows of other repeats are no more rows
        predictions = predictions.take(predictions.fold == predictions.first_fold)
    blocks = [part for rows in predictions.folds for part in _blocks(predictions.group[rows], start=rows.start)]
    left, records = list(range(len(predictions.members))), list[DriftRecord]()
    if len(left) < 2 or len(blocks) < 2:
        return ()
    while True:
        look = _look(predictions, data, left, blocks, np.random.default_rng(seed))
        size = np.where(look.drifts, np.abs(look.off) / LEAST, 0.0).max(axis=(0, 1))
        is_last = len(left) == 2 or not look.drifts.any()
        for place in range(len(left)) if is_last else [int(np.argmax(size))]:
            records += _records(look, place, predictions.members[left[place]].candidate)
        if is_last:
            return tuple(records)
        left.pop(int(np.argmax(size)))


def drift_sentences(records: Sequence[DriftRecord]) -> dict[str, str]:
    """Return, by candidate, what differs for each that drifts: by how much, and where."""
    found: dict[str, list[str]] = {}
    for record in sorted((record for record in records if record.drifts), key=lambda record: -record.excess):
        where = "on test rows" if record.group is None else f"on test rows of {record.group!r}"
        said = (
            f"{where} its {record.quantity} is {record.found:.2f}; the other candidates suggest {record.expected:.2f}"
        )
        found.setdefault(record.candidate, []).append(said)
    return {
        candidate: said[0] + (f" (and {len(said) - 1} more in blend.json)" if len(said) > 1 else "")
        for candidate, said in found.items()
    }


def leave_drifting_out(predictions: MemberPredictions, records: Sequence[DriftRecord]) -> MemberPredictions:
    """Return the members that do not drift; where all do, the last two: it cannot be told which of them does."""
    names = list(dict.fromkeys(record.candidate for record in records if record.drifts))
    dropped = names if len(names) < len(predictions.members) else names[:-2]
    kept = [place for place, member in enumerate(predictions.members) if member.candidate not in dropped]
    sentences = drift_sentences(records)
    labels = {member.candidate: member.label for member in predictions.members}
    return replace(
        predictions,
        members=tuple(predictions.members[place] for place in kept),
        columns=tuple(predictions.columns[place] for place in kept),
        left_out=(*predictions.left_out, *(f"{name} {labels[name]}: drifts: {sentences[name]}" for name in dropped)),
    )


def _blocks(group: NDArray[np.generic], *, start: int = 0) -> Iterator[Block]:
    """Yield each group with at least `LEAST_ROWS` rows, and the others joined into blocks of about so many."""
    names, number, counts = np.unique(group, return_inverse=True, return_counts=True)
    parts = np.split(start + np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
    joined: list[NDArray[np.intp]] = []
    for name, part in zip(names, parts, strict=True):
        if len(part) >= LEAST_ROWS:
            yield Block(part, str(name))
        elif joined and len(joined[-1]) < LEAST_ROWS:
            joined[-1] = np.concatenate([joined[-1], part])
        else:
            joined.append(part)
    if len(joined) > 1 and len(joined[-1]) < LEAST_ROWS:
        joined[-2:] = [np.concatenate(joined[-2:])]
    yield from (Block(part, None) for part in joined)


def _look(
    predictions: MemberPredictions,
    data: Prepared,
    members: Sequence[int],
    blocks: Sequence[Block],
    random: np.random.Generator,
) -> _Look:
    rows = _sizes(blocks)
    seen, halves = _measure_oof(predictions, members, blocks, random)
    mean = (rows * seen[:, 0]).sum(axis=0) / rows.sum()
    spread = np.sqrt((rows * (np.exp(2.0 * seen[:, 1]) + (seen[:, 0] - mean) ** 2)).sum(axis=0) / rows.sum())
    moved = spread * np.maximum(np.tanh(seen[:, 2].mean(axis=0)), LEAST_SHARED)
    center, scale = np.stack([mean, np.log(spread), np.zeros_like(mean)]), np.stack([moved, *np.ones((2, len(mean)))])
    apart = _apart((seen - center) / scale)
    usual, variance = apart.mean(axis=0), apart.var(axis=0, ddof=1)
    variance = np.maximum(variance, variance.mean(axis=1, keepdims=True))
    within = (rows[:, None] * _apart(halves / scale) ** 2 / 4.0).mean(axis=0)

    parts = _test_blocks(data, int(rows.mean()))
    found = _measure_test(predictions, members, parts)
    sizes = _sizes(parts)[:, None]
    extra = within * np.maximum(0.0, 1.0 / sizes - (1.0 / rows).mean())  # smaller blocks vary more
    shares = sizes / sizes.sum()
    named = [place for place, block in enumerate(parts) if block.group is not None]
    named = sorted(named, key=lambda place: -len(parts[place].rows))[:MOST_GROUPS] if len(parts) > 1 else []
    off = _apart((found - center) / scale) - usual
    off = np.concatenate([(shares * off).sum(axis=0)[None], off[named]])
    noise = np.concatenate([(shares**2 * (variance + extra)).sum(axis=0)[None], (variance + extra)[named]])
    limit = _quantile(len(blocks), len(members), off[..., 0].size) * np.sqrt(noise + variance / len(blocks))
    limit[1:] = np.maximum(limit[1:], FURTHER * np.abs(apart - usual).max(axis=0))
    found = np.concatenate([(shares * found).sum(axis=0)[None], found[named]])
    limit = np.maximum(limit, LEAST)
    is_single = np.array([len(predictions.columns[member].test) == 1 for member in members])
    averaged = is_single & (off * np.array([0.0, -1.0, 1.0])[:, None] > 0.0)
    drifts = (np.abs(off) > limit) & ~averaged
    return _Look([None, *(parts[place].group for place in named)], found, off, limit, scale, drifts)


def _sizes(blocks: Sequence[Block]) -> Floats:
    return np.array([float(len(block.rows)) for block in blocks])[:, None]


def _quantile(n_blocks: int, n_members: int, n_checks: int) -> float:
    """Return how many standard errors chance explains; members share one variance, or have more."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    return float(stdtrit((n_blocks - 1) * max(n_members - 1, 1), 1.0 - FALSE_ALARMS / 2.0 / n_checks))


def _measure_oof(
    predictions: MemberPredictions, members: Sequence[int], blocks: Sequence[Block], random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return what members show in blocks of train rows, and by how much two halves of each differ."""
    values, halves = [], []
    for fold, rows in enumerate(predictions.folds):
        columns = predictions.oof_in(fold, members)
        for block in (block for block in blocks if rows.start <= block.rows[0] < rows.stop):
            part = random.permutation(block.rows) - rows.start
            middle = len(part) // 2
            values.append(_measure(columns[part]))
            halves.append(_measure(columns[part[:middle]]) - _measure(columns[part[middle:]]))
    return np.stack(values), np.stack(halves)


def _test_blocks(data: Prepared, typical: int) -> list[Block]:
    """Return the groups of test rows; where they have none, parts as large as blocks of train rows are."""
    group = data.test_group
    if group is not None:
        return list(_blocks(np.asarray(group.to_pylist())))
    n_rows = data.test.num_rows
    return [Block(rows, None) for rows in np.array_split(np.arange(n_rows), max(1, n_rows // typical))]


def _measure_test(predictions: MemberPredictions, members: Sequence[int], blocks: Sequence[Block]) -> Floats:
    """Return what members show in blocks of test rows, averaged over fold models."""
    columns = [predictions.columns[member].test for member in members]
    n_models = max(len(column) for column in columns)
    total = np.zeros((len(blocks), len(QUANTITIES), len(members)))
    for model in range(n_models):
        table = np.stack([column[model % len(column)] for column in columns])
        total += np.stack([_measure(table[:, block.rows].T.astype(np.float64)) for block in blocks])
    return total / n_models


def _measure(columns: Floats) -> Floats:
    """Return mean, logarithm of the spread, and Fisher's z of the correlation with the mean of the others.

    `columns` are [rows, members]. In that mean all have the same spread, so that none outweighs the others.
    """
    level = columns.mean(axis=0)
    centred = columns - level
    length = np.sqrt(np.einsum("rm,rm->m", centred, centred))
    unit = centred / np.where(length > 0.0, length, 1.0)
    total, own = unit.sum(axis=1), (length > 0.0).astype(np.float64)
    product = unit.T @ total
    others = np.sqrt(np.maximum(total @ total - 2.0 * product + own, FLAT))
    correlation = np.clip((product - own) / others, -ALIKE, ALIKE)
    return np.stack([level, np.log(np.maximum(length / np.sqrt(len(columns)), FLAT)), np.arctanh(correlation)])


def _apart(values: Floats) -> Floats:
    """Return how far each of `values` [..., members] is from the median of the others."""
    n_others = values.shape[-1] - 1
    ordered = np.sort(values, axis=-1)
    rank = np.argsort(np.argsort(values, axis=-1), axis=-1)
    low, high = (
        np.where(rank > place, ordered[..., place, None], ordered[..., place + 1, None])
        for place in ((n_others - 1) // 2, n_others // 2)
    )
    return np.asarray(values - (low + high) / 2.0)


def _records(look: _Look, place: int, candidate: str) -> Iterator[DriftRecord]:
    for group, name in enumerate(look.groups):
        for kind, (quantity, read) in enumerate(QUANTITIES.items()):
            drifts, found = bool(look.drifts[group, kind, place]), look.found[group, kind, place]
            if name is None or drifts:
                off = look.off[group, kind, place]
                yield DriftRecord(
                    candidate=candidate,
                    quantity=quantity,
                    group=name,
                    found=float(read(found)),
                    expected=float(read(found - off * look.scale[kind, place])),
                    excess=float(abs(off) / look.limit[group, kind, place]),
                    drifts=drifts,
                )
