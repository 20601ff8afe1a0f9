"""What stays in a run directory: weights the blend may want, checkpoints that go on, all within the disk budget."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import OOF_SCHEMA, TEST_SCHEMA
from search.ladder.decisions import CandidateStatus, StateName
from search.run_dir.disk_budget import (
    GIGABYTE,
    DiskBudget,
    bytes_used,
    candidates_with_weights,
    describe_use,
    read_shares,
    write_shares,
)
from search.run_dir.weight_keeper import Keep, WeightKeeper, blend_shares, sweep_checkpoints

N_ROWS = 200
RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.normal(size=(2, N_ROWS))
NOISE = {name: RANDOM.normal(size=(2, N_ROWS)) for name in ("good", "other", "noise")}
COLUMNS = {
    "good": TRUTH + 0.8 * NOISE["good"],
    "other": TRUTH + 0.8 * NOISE["other"],
    "noise": -TRUTH + NOISE["noise"],
}


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Return a run directory with tables and weights of three candidates on two folds."""
    store = OofStore(tmp_path)
    for name, columns in COLUMNS.items():
        for fold in (0, 1):
            rows = {"id": [str(n) for n in range(N_ROWS)], "fold": np.full(N_ROWS, fold, np.int8)}
            table = pa.table({**rows, "score": TRUTH[fold], "prediction": columns[fold]})
            provenance = Provenance(name, fold, "data", "split", 42, 1.0)
            test = table.select(TEST_SCHEMA.names)
            store.write(provenance, oof=table.select(OOF_SCHEMA.names), test=test)
            put(tmp_path, name, fold)
    return str(tmp_path)


def put(run_dir: str | Path, candidate: str, fold: int, size: int = 1000) -> None:
    folder = Path(run_dir) / "weights" / candidate / f"fold-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(bytes(size))


def where(**states: StateName) -> Mapping[str, CandidateStatus]:
    return {name: CandidateStatus(state, "") for name, state in states.items()}


def test_shares_are_the_best_non_negative_blend_over_all_folds(run_dir: str) -> None:
    shares = blend_shares(OofStore(run_dir), list(COLUMNS))
    assert shares["noise"] == 0.0
    assert sum(shares.values()) == pytest.approx(1)

    def pearson(share: float) -> float:
        mixed = [share * COLUMNS["good"][f] + (1 - share) * COLUMNS["other"][f] for f in (0, 1)]
        centred = [np.concatenate([part - part.mean() for part in parts]) for parts in (mixed, TRUTH)]
        return float(np.corrcoef(*centred)[0, 1])

    grid = np.linspace(0, 1, 2001)
    assert shares["good"] == pytest.approx(grid[np.argmax([pearson(share) for share in grid])], abs=1e-3)


@pytest.mark.parametrize(
    ("states", "left"),
    [
        ({"good": "running", "other": "running", "noise": "running"}, ["good", "noise", "other"]),
        ({"good": "running", "other": "running", "noise": "failed"}, ["good", "other"]),
        ({"good": "running", "other": "waiting", "noise": "stopped"}, ["good", "noise", "other"]),
        ({"good": "finished", "other": "waiting", "noise": "stopped"}, ["good", "other"]),
        ({"good": "finished", "other": "finished", "noise": "finished"}, ["good", "other"]),
        ({"good": "finished", "other": "stopped", "noise": "running"}, ["good", "noise"]),
    ],
)
def test_weights_stay_while_their_candidate_can_be_in_the_blend(
    run_dir: str, states: dict[str, StateName], left: list[str]
) -> None:
    before = {path: path.read_bytes() for path in Path(run_dir).rglob("*.arrow")}
    put(run_dir, "backbones", 0)
    WeightKeeper(run_dir, "members").settle(lambda: where(**states))
    assert candidates_with_weights(run_dir) == left
    assert {path: path.read_bytes() for path in Path(run_dir).rglob("*.arrow")} == before
    assert len(before) == 12
    assert list(Path(run_dir).glob("weights/backbones/*/*")), "what is kept of backbones is no candidate's"


@pytest.mark.parametrize("keep", ["all", "none"])
def test_other_policies_remove_nothing(run_dir: str, keep: Keep) -> None:
    WeightKeeper(run_dir, keep).settle(lambda: where(good="finished", other="stopped", noise="failed"))
    assert candidates_with_weights(run_dir) == ["good", "noise", "other"]
    assert read_shares(run_dir) == {"good": 1.0, "other": 0.0, "noise": 0.0}


def test_a_keeper_is_asked_only_as_often_as_its_share_of_the_time_allows(run_dir: str) -> None:
    times = iter([0.0, 0.0, 1.0, 1.0, 10.0, 22.0, 22.0, 22.0])
    keeper, asked = WeightKeeper(run_dir, "all", clock=lambda: next(times)), []

    def status() -> Mapping[str, CandidateStatus]:
        asked.append(1)
        return where(good="running")

    for expected in (1, 1, 2):
        keeper.offer(status)
        assert len(asked) == expected


def test_the_budget_removes_what_the_blend_misses_least_and_nothing_in_vain(run_dir: str) -> None:
    told: list[str] = []
    put(run_dir, "new", 0)
    write_shares(run_dir, {"good": 0.7, "other": 0.3, "noise": 0.0})
    used = bytes_used(run_dir)
    assert used > 7000
    budget = DiskBudget(run_dir, (used + 500) / GIGABYTE, told.append)
    for n_bytes, granted, left in [
        (500, True, ["good", "new", "noise", "other"]),
        (1_000_000, False, ["good", "new", "noise", "other"]),
        (501, True, ["good", "new", "other"]),
        (2600, True, ["good", "new"]),
        (7000, False, ["good", "new"]),
        (7000, False, ["good", "new"]),
    ]:
        with budget.room(n_bytes, "a checkpoint") as answer:
            assert answer is granted
        assert candidates_with_weights(run_dir) == left
    assert len(told) == 4
    assert "no room for a checkpoint of 0.001 GB: more than the whole budget" in told[0]
    assert "removed the weights of noise, whose share of the blend is 0.000" in told[1]
    assert "removed the weights of other, whose share of the blend is 0.300" in told[2]
    assert "no room for a checkpoint of 7e-06 GB: it waits until there is" in told[3]


def test_without_a_budget_everything_has_room(tmp_path: Path) -> None:
    with DiskBudget(str(tmp_path), None, pytest.fail).room(10**15, "a checkpoint") as granted:
        assert granted
    assert not list(tmp_path.iterdir())


def test_what_is_used_is_told_beside_what_may_be(tmp_path: Path) -> None:
    (tmp_path / "weights" / "good").mkdir(parents=True)
    (tmp_path / "weights" / "good" / "fold0.safetensors").write_bytes(bytes(1_230_000))
    (tmp_path / "oof").mkdir()
    (tmp_path / "oof" / "table.arrow").write_bytes(bytes(5_000_000))

    assert describe_use(str(tmp_path), None) == "Checkpoints and weights take 0.00123 GB"
    assert describe_use(str(tmp_path), 2.5) == "Checkpoints and weights take 0.00123 GB of the 2.5 GB of budget.disk_gb"


def test_checkpoints_that_will_not_go_on_are_swept(run_dir: str) -> None:
    root = Path(run_dir) / "checkpoints"
    for folder in ("good/fold-0", "good/fold-2", "noise/fold-2-retry", "other/fold-2", "other/by-hand", "gone/fold-2"):
        (root / folder).mkdir(parents=True)
        (root / folder / "state.pt").write_bytes(b"state")
    sweep_checkpoints(run_dir, where(good="running", noise="failed", other="finished"))
    left = sorted(str(path.parent.relative_to(root)) for path in root.rglob("state.pt"))
    assert left == ["gone/fold-2", "good/fold-2", "other/by-hand"]
