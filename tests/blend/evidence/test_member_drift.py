from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.evidence.member_drift import drift_sentences, find_drift, leave_drifting_out
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from data_prep.prepared import Prepared, PreparedManifest
from data_prep.task import Task

N_FOLDS = 4
TASK = Task(name="toy", text_columns=("prompt",), score_range=(-9.0, 9.0), group_column="prompt")


class Drawn:
    """Groups of rows of another level each, and members whose errors, scales and levels differ by group and fold model.

    `test` is [folds, test rows, members], to be spoiled before it is asked for.
    """

    def __init__(self, seed: int, *, n_members: int = 4, n_groups: int = 12, rows: int = 120, prompts: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.n_members, self.tau = n_members, 0.1 * np.exp(0.3 * self.random.normal(size=n_members))
        self.noise = 0.3 * np.exp(0.3 * self.random.normal(size=n_members))
        self.slope = self.random.uniform(0.6, 0.95, n_members)
        parts = [self._rows(rows, 1) for _ in range(n_groups)]
        order = [number for fold in range(N_FOLDS) for number in range(fold, n_groups, N_FOLDS)]
        self.group = np.repeat(order, rows).astype(np.int32)
        self.fold = (self.group % N_FOLDS).astype(np.int8)
        self.oof = np.concatenate([parts[number][0] for number in order])
        self.test = np.concatenate([self._rows(rows, N_FOLDS) for _ in range(prompts)], axis=1)
        self.prompt = np.repeat([f"prompt {number}" for number in range(prompts)], rows)
        self.single: set[int] = set()

    def _rows(self, n_rows: int, n_models: int) -> np.ndarray:
        random = self.random
        truth = 0.4 * random.normal() + random.normal(size=n_rows) + 0.4 * random.normal(size=n_rows)
        level = self.tau * random.normal(size=self.n_members) + 0.2 * random.normal()
        shared = level + self.slope * truth[:, None] * np.exp(0.1 * random.normal())
        shared += self.noise * random.normal(size=(n_rows, self.n_members))
        return shared + 0.2 * random.normal(size=(n_models, n_rows, self.n_members))

    def predictions(self) -> MemberPredictions:
        names = [f"m{number}" for number in range(self.n_members)]
        ends = np.flatnonzero(np.diff(self.fold)) + 1
        columns = [
            MemberColumns(
                oof=tuple(np.split(self.oof[:, number].astype(np.float32), ends)),
                test=(self.test[:, :, number].mean(axis=0),)
                if number in self.single
                else tuple(self.test[:, :, number].astype(np.float32)),
                holdout=(),
            )
            for number in range(self.n_members)
        ]
        return MemberPredictions(
            members=tuple(Member(name, f"{name}-label", name, "run", "split") for name in names),
            left_out=(),
            columns=tuple(columns),
            ids=pa.array([str(row) for row in range(len(self.oof))]),
            target=np.zeros(len(self.oof)),
            fold=self.fold,
            group=self.group,
            holdout_target=None,
        )

    def data(self, *, grouped: bool = True) -> Prepared:
        task = TASK if grouped else TASK.model_copy(update={"group_column": None})
        test = pa.table({"prompt": self.prompt})
        return Prepared("x", PreparedManifest.model_construct(task=task), test, test)

    def drifting(self, **options: Any) -> set[str]:
        return {record.candidate for record in find_drift(self.predictions(), self.data(**options)) if record.drifts}


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"n_groups": 4, "rows": 300},
        {"n_groups": 40, "rows": 40, "prompts": 10},
        {"n_groups": 150, "rows": 6, "prompts": 60},
        {"n_members": 2},
        {"n_members": 12},
    ],
)
def test_rows_like_the_train_rows_raise_no_alarm(shape: dict[str, int]) -> None:
    """In less than one of a hundred members; whether or not the test rows have groups, or fold models are known."""
    n_alarms = n_members = 0
    for seed in range(50):
        world = Drawn(seed, **shape)
        world.single = set(range(seed % (world.n_members + 1)))
        n_alarms += len(world.drifting(grouped=seed % 2 == 0))
        n_members += world.n_members
    assert n_alarms / n_members < 0.01, f"{n_alarms} of {n_members}"


@pytest.mark.parametrize("shape", [{}, {"n_members": 3}, {"n_groups": 5, "rows": 300, "n_members": 6}])
def test_a_level_that_is_off_on_one_prompt_is_found_there_and_nowhere_else(shape: dict[str, int]) -> None:
    hits, others = [], []
    for seed in range(20):
        world = Drawn(seed, **shape)
        world.test[:, world.prompt == "prompt 1", 2] += 1.36
        records = find_drift(world.predictions(), world.data())
        drifts = [record for record in records if record.drifts]
        others.append(len({record.candidate for record in drifts} - {"m2"}))
        found = [record for record in drifts if record.group == "prompt 1" and record.quantity == "level"]
        hits.append(bool(found))
        assert all(record.found - record.expected == pytest.approx(1.36, abs=0.5) for record in found)
        assert {record.group for record in drifts if record.candidate == "m2"} <= {"prompt 1", None}
    assert np.mean(hits) >= 0.9
    assert sum(others) <= 1


def test_a_broken_member_is_found_by_its_spread_and_correlation() -> None:
    for seed in range(20):
        world = Drawn(seed, n_members=3 + seed % 3)
        spread = world.test[:, :, 1].std()
        world.test[:, :, 1] = 2.0 * spread * world.random.normal(size=world.test.shape[1])
        records = [record for record in find_drift(world.predictions(), world.data()) if record.drifts]
        assert {record.candidate for record in records} == {"m1"}
        assert {"spread", "correlation"} <= {record.quantity for record in records}


def test_what_all_members_share_is_no_drift_of_one() -> None:
    """Where a prompt is harder, every member moves as far as it follows the truth."""
    for seed in range(20):
        world = Drawn(seed)
        world.test[:, world.prompt == "prompt 0"] += 2.0 * world.slope
        assert not world.drifting()


def test_a_mean_over_fold_models_is_no_drift_but_a_flat_column_is() -> None:
    """A single column may spread less than its fold models, and correlate more with the others."""
    world = Drawn(3)
    world.test[:, :, 0] += 0.9 * world.random.normal(size=world.test.shape[:2])
    world.oof[:, 0] += 0.9 * world.random.normal(size=len(world.oof))
    world.single = {0}
    assert not world.drifting()
    world.test[:, :, 0] = 0.0
    assert world.drifting() == {"m0"}


def test_of_two_members_it_cannot_be_told_which_one_drifts() -> None:
    world = Drawn(1, n_members=2)
    world.test[:, :, 0] += 3.0
    predictions = world.predictions()
    records = find_drift(predictions, world.data())
    assert {record.candidate for record in records if record.drifts} == {"m0", "m1"}
    assert len(leave_drifting_out(predictions, records).members) == 2


def test_members_that_drift_are_left_out_with_a_sentence() -> None:
    world = Drawn(0)
    world.test[:, world.prompt == "prompt 2", 3] += 1.36
    predictions = world.predictions()
    records = find_drift(predictions, world.data())
    left = leave_drifting_out(predictions, records)
    assert [member.candidate for member in left.members] == ["m0", "m1", "m2"]
    assert len(left.columns) == 3
    (sentence,) = left.left_out
    assert sentence.startswith("m3 m3-label: drifts: on test rows of 'prompt 2' its level is ")
    assert drift_sentences(records)["m3"] in sentence


def test_every_member_has_its_figures_on_all_test_rows() -> None:
    world = Drawn(0)
    records = find_drift(world.predictions(), world.data())
    assert [record.quantity for record in records] == ["level", "spread", "correlation"] * 4
    levels = {record.candidate: record.found for record in records if record.quantity == "level"}
    means = world.test.mean(axis=(0, 1))
    assert list(levels.values()) == pytest.approx(means.tolist(), abs=1e-6)


def test_one_member_or_one_block_of_rows_can_be_compared_with_nothing() -> None:
    assert not find_drift(Drawn(0, n_members=1).predictions(), Drawn(0).data())
    world = Drawn(0, n_groups=4, rows=4)
    world.fold[:] = 0
    assert not find_drift(world.predictions(), world.data())
