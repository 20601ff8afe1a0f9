"""`FoldRows`: the out-of-fold tables of a run directory, checked against the rows of its prepared folder."""

from functools import cached_property

import pyarrow as pa

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import one_array


class FoldRows:
    """Reads tables of predictions that hold exactly the rows of their fold, in prepared order."""

    def __init__(self, store: OofStore, data: Prepared) -> None:
        self._store = store
        self._data = data

    @cached_property
    def _rows(self) -> dict[int, pa.Table]:
        train, n_folds = self._data.train.select(["id", "group"]), self._data.manifest.n_folds
        return {fold: train.filter(pa.array(self._data.in_fold(fold))) for fold in range(n_folds)}

    def read(self, candidate: str, fold: int) -> pa.Table:
        """Read one table, with the group of each row.

        Raises:
            InputError: no such table, a damaged one, or one with other rows.
        """
        table, rows = self._store.read("oof", candidate, fold), self._rows.get(fold)
        if rows is None or one_array(table["id"]) != one_array(rows["id"]):
            raise InputError(
                f"{self._store.path('oof', candidate, fold)}: holds other rows than fold {fold} of the prepared folder "
                f"{self._data.path}; the data was prepared again after the run. Point `data:` in study.yaml to the "
                "folder that the run used, and remove the line `seal:` there"
            )
        return table.append_column("group", rows["group"])
