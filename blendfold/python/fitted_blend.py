"""`Blend`: a blend of a run, with its evidence, as tables."""

from functools import cached_property
from pathlib import Path

import pandas as pd

from blend.blend_folder import OOF_FILE, RECORD_FILE, blend_folder, read_blend, read_whole_blend
from blend.blend_record import BlendRecord, WholeRecord
from blend.evidence.blend_report import more_sentences, whole_sentences
from blendfold.python.bundles import bundle, read_submission
from blendfold.python.prepared_data import DataSource
from data_prep.errors import InputError
from data_prep.store.files import join
from data_prep.store.tables import read_table
from data_prep.submission.submission_manifest import SUBMISSION_FILE


class Blend:
    """A blend that `Run.blend` or `blendfold blend` wrote.

    Args:
        run: the run directory that holds it.
        name: its name; of several targets, `NAME/TARGET` for one of them, else the first.

    Raises:
        InputError: no such blend, no such target, or its record is damaged.

    Examples:
        >>> blend = bf.Blend("runs/first", "best")
        >>> round(float(blend.weights["weight"].sum()), 6)
        1.0
        >>> blend.submission.columns.tolist(), len(blend.submission)
        (['id', 'score'], 245)
    """

    def __init__(self, run: str | Path, name: str) -> None:
        self.run = str(run)
        self.record: BlendRecord = read_blend(self.run, name)
        self.whole: WholeRecord = read_whole_blend(self.run, name)

    @property
    def name(self) -> str:
        """Its name, of several targets the same for all."""
        return self.whole.name

    @property
    def targets(self) -> pd.DataFrame:
        """One row for each of several targets, and their `mean`: `nested`, `best_single`, `expected` and `members`.

        With one target, or classes, there is one row.
        """
        found: dict[str, WholeRecord] = {name or "score": blend for name, blend in self.whole.by_target.items()}
        if len(found) > 1:
            found["mean"] = self.whole
        rows = {
            name: {
                "nested": record.scores["blend"].nested.pooled,
                "best_single": record.scores["best_single"].nested.pooled,
                "expected": expected.value if (expected := record.scores["blend"].expected) else float("nan"),
                "members": len(record.weights),
            }
            for name, record in found.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("target")

    @property
    def path(self) -> str:
        """The folder with blend.json, oof.arrow and any submission.csv."""
        return blend_folder(self.run, self.name)

    @property
    def weights(self) -> pd.DataFrame:
        """One row for each member, by its candidate id.

        `label`, `family`, `weight` (all sum to 1), the range `low` to `high` in which 90 % of bootstrap draws lie,
        `present` (share of draws with any weight), the member's own `mean` over folds and `pooled` metric, and
        `drop_cost`: how much worse the nested metric gets without it.
        """
        rows = {
            member.candidate: {
                "label": member.label,
                "family": member.family,
                "weight": member.weight,
                "low": member.resampled.low,
                "high": member.resampled.high,
                "present": member.resampled.present,
                "mean": member.fold_mean,
                "pooled": member.pooled,
                "drop_cost": member.drop_cost.difference if member.drop_cost else float("nan"),
            }
            for member in self.record.members
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("candidate")

    @property
    def expected(self) -> float | None:
        """The metric to expect on test; None where fold models differ on test rows more than is believable."""
        found = self.record.scores["blend"].expected
        return found.value if found else None

    @property
    def nested(self) -> float:
        """The metric over all rows, every choice made without the fold that is scored."""
        return self.record.scores["blend"].nested.pooled

    @property
    def scores(self) -> pd.DataFrame:
        """`in_sample`, `nested`, `expected` (with its 95 % interval `low` to `high`) and `holdout`.

        One row each for the blend, the best single model and the mean of all models.
        """
        rows = {
            name: {
                "in_sample": found.in_sample.pooled,
                "nested": found.nested.pooled,
                "expected": found.expected.value if found.expected else float("nan"),
                "low": found.expected.low if found.expected else float("nan"),
                "high": found.expected.high if found.expected else float("nan"),
                "holdout": float("nan") if found.holdout is None else found.holdout,
            }
            for name, found in self.record.scores.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def ways(self) -> pd.DataFrame:
        """All ways to blend that competed, best first: members, in-sample and nested metric, distance to the best."""
        rows = {
            name: {
                "members": making.members,
                "in_sample": making.in_sample,
                "nested": making.nested,
                "behind": making.behind.difference,
                "standard_error": making.behind.standard_error,
                "share": making.share,
            }
            for name, making in self.record.makings.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("way")
        return table.sort_values("behind", ascending=False, kind="stable") if rows else table

    @property
    def error_correlations(self) -> pd.DataFrame:
        """Correlations of the members' errors [members, members]."""
        names = [member.candidate for member in self.record.members]
        return pd.DataFrame(self.record.error_correlations, index=names, columns=names)

    @property
    def oof(self) -> pd.DataFrame:
        """Nested predictions of the scored rows: id, fold, and score and prediction of each target or class."""
        frame: pd.DataFrame = read_table(join(self.path, OOF_FILE)).to_pandas()
        return frame

    @cached_property
    def submission(self) -> pd.DataFrame:
        """The submission: ids and scores [test rows].

        Raises:
            InputError: there is none, as a member has no test predictions.
        """
        if self.record.submission is None:
            raise InputError(f"{join(self.path, RECORD_FILE)}: has no submission, for want of test predictions")
        return read_submission(join(self.path, SUBMISSION_FILE))

    @property
    def summary(self) -> str:
        """What the command prints: how it was chosen, nested and expected score, comparison with a single model."""
        return "\n".join(whole_sentences(self.whole))

    @property
    def evidence(self) -> str:
        """What the command adds with `--verbose`."""
        return "\n".join(more_sentences(self.record))

    def bundle(self, out: str | Path, *, fp16: bool = False, data: DataSource | None = None) -> Path:
        """Copy everything that it needs to predict into a folder; see `blendfold.bundle`."""
        return bundle(self.run, out, blend=self.name, fp16=fp16, data=data)

    def __repr__(self) -> str:
        return f"Blend({self.run!r}, {self.name!r}): {self.summary}"
