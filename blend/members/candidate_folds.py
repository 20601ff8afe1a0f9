"""The folds by which a blend is scored: those that its candidates were trained on, where others made and share them."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.members.run_dirs import choose_members, list_candidates, read_imported
from data_prep.prepared import Prepared, refold
from data_prep.store.oof_store import UNKNOWN_SPLIT, OofStore
from data_prep.store.tables import HOLDOUT_FOLD, one_array


def with_candidates_folds(
    data: Prepared, runs: Sequence[str], members: Collection[str] | None, exclude: Collection[str]
) -> Prepared:
    """Return the data with the folds of the candidates if all are imported and no two have different known ones.

    Raises:
        InputError: `members` or `exclude` names no candidate of these runs.
    """
    found = list_candidates(runs, exclude)
    wanted = found if members is None else choose_members(found, runs, members)
    settings = {place: read_imported(*place) for place in wanted if place[1] not in exclude}
    splits = {str(found["split_hash"]) if found else None: place for place, found in settings.items()}
    known = {split: place for split, place in splits.items() if split != UNKNOWN_SPLIT}
    if len(known) != 1 or known.keys() & {None, data.manifest.split_hash}:
        return data
    ((split, (run, candidate)),) = known.items()
    other = refold(data, _folds_of(run, candidate, data))
    return other if other.manifest.split_hash == split else data


def _folds_of(run: str, candidate: str, data: Prepared) -> NDArray[np.int8]:
    """Return the fold of each train row by a candidate's tables."""
    store = OofStore(run)
    table = pa.concat_tables(store.read("oof", candidate, fold) for fold in store.folds(candidate))
    place = pc.index_in(one_array(data.train["id"]), value_set=one_array(table["id"]))
    fold = one_array(table["fold"]).take(place).fill_null(HOLDOUT_FOLD)
    return np.asarray(fold.to_numpy(), dtype=np.int8)
