"""Fit a blend with the version of blendfold that PYTHONPATH names, for `bench_blend_truth.py --earlier`.

    PYTHONPATH=CHECKOUT python benchmarks/earlier_blend.py FOLDER METRIC

Reads rows.npz from the folder (columns [rows, models], target, group and fold [rows]; columns of the rows set aside)
and writes prediction.npy, by the defaults of that version.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from data_prep.scoring.metrics import METRICS


def main(folder: Path, metric: str) -> None:
    """Fit and predict."""
    columns, target, group, fold, aside = np.load(folder / "rows.npz").values()
    order = np.argsort(fold, kind="stable")
    ends = np.cumsum(np.unique(fold, return_counts=True)[1])[:-1]
    names = [f"m{number}" for number in range(columns.shape[1])]
    members = tuple(Member(name, name, name, "run", "split") for name in names)
    own = {"own_fold": None} if "own_fold" in MemberColumns.__dataclass_fields__ else {}
    tables = tuple(
        MemberColumns(
            oof=tuple(np.split(columns[order, place].astype(np.float32), ends)),
            test=(aside[:, place].astype(np.float32),),
            holdout=(),
            **own,
        )
        for place in range(len(names))
    )
    ids = pa.array([str(row) for row in order])
    rows = (ids, target[order], fold[order].astype(np.int8), group[order].astype(np.int32), None)
    fit = fit_blend(MemberPredictions(members, (), tables, *rows), METRICS[metric], BlendSettings())
    used = [names.index(part.candidate) for part in fit.combination.parts]
    np.save(
        folder / "prediction.npy",
        fit.combination.predict([[aside[:, place]] * len(fit.combination.parts[0].scalings) for place in used]),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
