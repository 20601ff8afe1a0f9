"""`MemberPredictions`: the predictions of all candidates for the same rows, in the same order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from blend.members.moment_sums import MomentSums, measure, total
from data_prep.scoring.combination import Floats

Floats32 = NDArray[np.float32]

BLOCK_CELLS = 4_000_000
"""Predictions in memory at once while sums are taken: 32 MB."""


@dataclass(frozen=True)
class Member:
    """A candidate whose predictions can take part in a blend."""

    candidate: str
    """Candidate id."""
    label: str
    family: str
    run: str
    """The run directory with its tables."""
    split_hash: str
    retried: tuple[int, ...] = ()
    """Folds that died once and were retried with another seed and lower learning rates."""


@dataclass(frozen=True, eq=False)
class MemberColumns:
    """One member's predictions, memory-mapped where that is possible."""

    oof: tuple[Floats32, ...]
    """For each fold of the prepared data [rows of the fold], in prepared order."""
    test: tuple[Floats32, ...]
    """For each of the candidate's folds [test rows]; a single one where its fold models are not known apart."""
    holdout: tuple[Floats32, ...]
    """For each of the candidate's folds [holdout rows]; empty without holdout, or if it was trained on these rows."""


@dataclass(frozen=True, eq=False)
class NumericColumns:
    """Columns of the prepared tables that are no predictions, by name, with finite values in the members' row order."""

    oof: Mapping[str, Floats] = field(default_factory=dict)
    test: Mapping[str, Floats] = field(default_factory=dict)
    holdout: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MemberPredictions:
    """Aligned predictions of the members; rows are sorted by fold, inside a fold in prepared order.

    With repeats, each row is there once in every repeat, with the same id, target and group.
    """

    members: tuple[Member, ...]
    left_out: tuple[str, ...]
    """One sentence for each candidate that is not a member, and each column that is not used: which one, and why."""
    columns: tuple[MemberColumns, ...]
    """One for each member."""
    ids: pa.Array
    """[rows], of the training folds."""
    target: Floats
    """[rows]"""
    fold: NDArray[np.int8]
    """[rows], ascending."""
    group: NDArray[np.int32]
    """[rows]"""
    holdout_target: Floats | None
    """[holdout rows]; None without holdout."""
    numeric: NumericColumns = field(default_factory=NumericColumns)
    """For makings that stack."""
    row: NDArray[np.intp] | None = None
    """[rows], the number of the row that each is, where it is there once in every repeat; None: there is one repeat."""

    @property
    def first_fold(self) -> NDArray[np.int8]:
        """[rows], the fold in the first repeat: what is fitted without it has not seen the row in any repeat."""
        if self.row is None:
            return self.fold
        _, first, place = np.unique(self.row, return_index=True, return_inverse=True)
        return np.asarray(self.fold[first][place])

    @cached_property
    def folds(self) -> tuple[slice, ...]:
        """The rows of each fold."""
        ends = np.cumsum(np.unique(self.fold, return_counts=True)[1]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @property
    def has_test(self) -> bool:
        """Whether there are test predictions: those of all members, or of none."""
        return all(columns.test for columns in self.columns)

    def take(self, chosen: NDArray[np.bool_]) -> "MemberPredictions":
        """Return the same for some of the rows; folds without any of them are gone."""
        kept = [(fold, chosen[rows]) for fold, rows in enumerate(self.folds) if chosen[rows].any()]

        return replace(
            self,
            columns=tuple(
                replace(columns, oof=tuple(columns.oof[fold][rows] for fold, rows in kept)) for columns in self.columns
            ),
            ids=self.ids.filter(pa.array(chosen)),
            target=self.target[chosen],
            fold=self.fold[chosen],
            group=self.group[chosen],
            row=None if self.row is None else self.row[chosen],
            numeric=replace(self.numeric, oof={name: column[chosen] for name, column in self.numeric.oof.items()}),
        )

    def oof(self, members: Iterable[int]) -> Floats:
        """Return the out-of-fold predictions of some members, [rows, chosen]."""
        return self._gather(members, self.folds)

    def oof_in(self, fold: int, members: Iterable[int]) -> Floats:
        """Return the out-of-fold predictions of some members for the rows of one fold, [rows of the fold, chosen]."""
        return self._gather(members, self.folds[fold : fold + 1], first=fold)

    def _gather(self, members: Iterable[int], folds: Sequence[slice], *, first: int = 0) -> Floats:
        """Return predictions of successive folds, filled in column by column so that nothing is in memory twice."""
        chosen, start = list(members), folds[0].start
        gathered = np.empty((folds[-1].stop - start, len(chosen)))
        for place, member in enumerate(chosen):
            for part, rows in zip(self.columns[member].oof[first:], folds, strict=False):
                gathered[rows.start - start : rows.stop - start, place] = part
        return gathered

    def sums(self, *, block_cells: int = BLOCK_CELLS) -> tuple[MomentSums, ...]:
        """Return the sums of every fold over all members, read in blocks of at most `block_cells` predictions."""
        return tuple(total(self._blocks(fold, block_cells)) for fold in range(len(self.folds)))

    def _blocks(self, fold: int, block_cells: int) -> Iterator[MomentSums]:
        parts, target = [member.oof[fold] for member in self.columns], self.target[self.folds[fold]]
        size = max(1, block_cells // len(parts))
        for start in range(0, len(target), size):
            block = np.stack([part[start : start + size] for part in parts]).astype(np.float64).T
            yield measure(block, target[start : start + size])
