import shutil

import numpy as np
import pyarrow as pa
import pytest

from data_prep.errors import InputError
from data_prep.store.oof_store import OofStore, Provenance, home_of
from data_prep.store.tables import OOF_SCHEMA, TEST_SCHEMA, DamagedTableError, metadata_of, write_table

CANDIDATE = "0123456789ab"


def provenance(candidate: str = CANDIDATE, fold: int = 2) -> Provenance:
    """Return the provenance of a fold run."""
    return Provenance(candidate=candidate, fold=fold, data_hash="d", split_hash="s", seed=7, epoch=1.5, attempt=1)


def oof_table(n_rows: int = 6, fold: int = 2) -> pa.Table:
    """Return an out-of-fold table."""
    columns = {
        "id": [f"r{row}" for row in range(n_rows)],
        "fold": np.full(n_rows, fold),
        "score": np.arange(n_rows) / n_rows,
        "prediction": np.arange(n_rows) / 7,
    }
    return pa.table(columns).cast(OOF_SCHEMA)


def unscored_table(n_rows: int = 4, fold: int = 2) -> pa.Table:
    """Return a test prediction table."""
    return oof_table(n_rows, fold).select(TEST_SCHEMA.names)


@pytest.fixture
def store(tmp_path) -> OofStore:
    return OofStore(tmp_path / "run")


def write(store: OofStore, candidate: str = CANDIDATE, fold: int = 2, *, holdout: bool = False) -> None:
    """Write one fold run."""
    extra = oof_table(3, fold) if holdout else None
    store.write(provenance(candidate, fold), oof=oof_table(fold=fold), test=unscored_table(fold=fold), holdout=extra)


def test_a_fold_run_comes_back_with_its_provenance(store):
    write(store, holdout=True)
    assert store.read("oof", CANDIDATE, 2).equals(oof_table())
    assert store.read("test", CANDIDATE, 2).equals(unscored_table())
    assert store.read("holdout", CANDIDATE, 2).equals(oof_table(3))
    for kind in ("oof", "test", "holdout"):
        table = store.read(kind, CANDIDATE, 2)
        assert Provenance.of(table) == provenance()
        assert {"version", "checksum", "seed", "epoch"} <= set(metadata_of(table))


def test_the_store_lists_what_is_finished(store):
    assert list(store.fold_runs()) == []
    assert store.candidates() == []
    for candidate, fold in (("bbbbbbbbbbbb", 10), ("bbbbbbbbbbbb", 9), ("aaaaaaaaaaaa", 0)):
        assert not store.is_finished(candidate, fold)
        write(store, candidate, fold)
        assert store.is_finished(candidate, fold)
    assert list(store.fold_runs()) == [("aaaaaaaaaaaa", 0), ("bbbbbbbbbbbb", 9), ("bbbbbbbbbbbb", 10)]


def test_a_finished_fold_run_is_never_rewritten(store):
    write(store)
    with pytest.raises(FileExistsError, match="never rewritten"):
        write(store)


def test_a_fold_run_whose_oof_file_is_missing_is_unfinished_and_can_be_repeated(store, tmp_path):
    blocker = tmp_path / "run" / "oof" / CANDIDATE
    blocker.parent.mkdir(parents=True)
    blocker.touch()  # where the folder of the OOF file belongs, which is written last
    with pytest.raises(OSError, match=CANDIDATE):
        write(store, holdout=True)
    assert (tmp_path / "run" / "holdout" / CANDIDATE / "fold-2.arrow").exists()
    assert not store.is_finished(CANDIDATE, 2)
    assert list(store.fold_runs()) == []
    blocker.unlink()
    write(store, holdout=True)
    assert store.is_finished(CANDIDATE, 2)


def test_a_table_of_another_fold_run_is_damage(store, tmp_path):
    write(store)
    write(store, "bbbbbbbbbbbb", 2)
    path = tmp_path / "run/oof" / CANDIDATE / "fold-2.arrow"
    path.write_bytes((tmp_path / "run/oof/bbbbbbbbbbbb/fold-2.arrow").read_bytes())
    with pytest.raises(DamagedTableError, match="was written for candidate bbbbbbbbbbbb fold 2"):
        store.read("oof", CANDIDATE, 2)


@pytest.mark.parametrize("kind", ["oof", "test", "holdout"])
def test_a_damaged_file_is_set_aside_and_only_its_fold_run_repeated(kind, store, tmp_path):
    for fold in (0, 1, 2):
        write(store, fold=fold, holdout=True)
    assert store.set_aside_damaged() == []
    damaged = tmp_path / "run" / kind / CANDIDATE / "fold-1.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    reports = store.set_aside_damaged()
    assert len(reports) == 1
    assert str(damaged) in reports[0]
    assert list(store.fold_runs()) == [(CANDIDATE, 0), (CANDIDATE, 2)]
    assert len(list((tmp_path / "run/damaged").iterdir())) == 3
    write(store, fold=1, holdout=True)
    assert store.set_aside_damaged() == []


def test_what_a_killed_process_left_half_written_is_cleared_away_and_nothing_else(store, tmp_path):
    write(store, holdout=True)
    whole = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for kind in ("oof", "test", "holdout"):
        (tmp_path / "run" / kind / CANDIDATE / "fold-3.arrow.123-abc.partial").write_bytes(b"half")
    assert store.set_aside_damaged() == []
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == whole


def test_a_missing_test_table_makes_a_fold_run_unfinished(store, tmp_path):
    write(store)
    (tmp_path / "run/test" / CANDIDATE / "fold-2.arrow").unlink()
    assert len(store.set_aside_damaged()) == 1
    assert not store.is_finished(CANDIDATE, 2)


def test_damage_twice_keeps_both_files(store, tmp_path):
    for _ in range(2):
        write(store)
        path = tmp_path / "run/oof" / CANDIDATE / "fold-2.arrow"
        path.write_bytes(b"nothing")
        store.set_aside_damaged()
    assert len(list((tmp_path / "run/damaged").iterdir())) == 4


def test_a_missing_table_is_an_input_error(store):
    with pytest.raises(InputError, match="no such file"):
        store.read("oof", CANDIDATE, 0)


def test_a_uri_is_as_good_as_a_path(tmp_path):
    write(OofStore(f"file://{tmp_path}/run"))
    assert OofStore(tmp_path / "run").read("oof", CANDIDATE, 2).equals(oof_table())


def test_foreign_names_in_the_store_are_no_fold_runs(store, tmp_path):
    write(store)
    folder = tmp_path / "run/oof" / CANDIDATE
    (folder / "fold-3.arrow.123-abc.partial").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    (folder / "fold-old.arrow").write_text("x")
    shutil.copyfile(folder / "fold-2.arrow", folder / "fold-02.arrow")
    (tmp_path / "run/oof/.DS_Store").write_text("x")
    assert list(store.fold_runs()) == [(CANDIDATE, 2)]


@pytest.mark.parametrize("kind", ["oof", "test", "holdout"])
@pytest.mark.parametrize("change", [{"seed": "8"}, {"attempt": "0"}, {"version": "0"}])
def test_a_table_of_other_provenance_than_its_twin_is_damage(kind, change, store):
    write(store, holdout=True)
    table = store.read(kind, CANDIDATE, 2)
    write_table(table, store.path(kind, CANDIDATE, 2), schema=table.schema, metadata={**metadata_of(table), **change})
    with pytest.raises(DamagedTableError, match="its provenance is not that of"):
        store.read(kind, CANDIDATE, 2)
    (report,) = store.set_aside_damaged()
    assert "set aside" in report


def test_a_candidate_is_at_home_where_most_of_its_folds_are(store, tmp_path):
    copy = OofStore(tmp_path / "copy")
    for place in (store, copy):
        write(place)
    assert home_of(CANDIDATE, copy.root, store.root) == copy.root
    write(store, fold=3)
    assert home_of(CANDIDATE, copy.root, store.root) == store.root
