"""What a conductor takes over from the one before it, besides the decisions, and how it is closed."""

import errno
import json
from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from scripted_search import CutOffError, ScriptedWorker, conductor, study
from search.driver.conductor import closing
from search.run_dir.status_file import read_statuses


def promotions(run_dir: Path) -> dict[str, str]:
    return {name: status.promotion for name, status in read_statuses(str(run_dir)).items() if status.promotion}


def test_why_candidates_went_on_outlives_their_driver(tmp_path: Path, prepared_tiny: Prepared) -> None:
    first = conductor(study(prepared_tiny), prepared_tiny, tmp_path)
    with pytest.raises(CutOffError):
        ScriptedWorker(prepared_tiny, tmp_path, effects=60).run(first)
    first.close()
    before = promotions(tmp_path)
    assert any("promoted: " in why for why in before.values())
    second = conductor(study(prepared_tiny), prepared_tiny, tmp_path)
    ScriptedWorker(prepared_tiny, tmp_path).run(second)
    second.close()
    after = promotions(tmp_path)
    assert before.items() <= after.items()
    assert not [why for why in after.values() if "had been started before" in why]


def test_without_its_list_of_samples_a_search_goes_on(tmp_path: Path, prepared_tiny: Prepared) -> None:
    first = conductor(study(prepared_tiny), prepared_tiny, tmp_path)
    with pytest.raises(CutOffError):
        ScriptedWorker(prepared_tiny, tmp_path, effects=25).run(first)
    first.close()
    stamps = {table: table.stat().st_mtime_ns for table in tmp_path.rglob("fold-*.arrow")}
    assert stamps
    assert json.loads((tmp_path / "sampled.json").read_text())
    (tmp_path / "sampled.json").unlink()
    (tmp_path / "sampled.journal").unlink(missing_ok=True)
    second = conductor(study(prepared_tiny), prepared_tiny, tmp_path)
    ScriptedWorker(prepared_tiny, tmp_path).run(second)
    second.close()
    assert stamps.items() <= {table: table.stat().st_mtime_ns for table in tmp_path.rglob("fold-*.arrow")}.items()
    assert any(status.state == "finished" for status in second.status().values())
    assert len(list(OofStore(tmp_path).fold_runs())) > len(stamps) / 2


class FullDisk:
    """A conductor whose disk is full when its record is to be closed."""

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "status.json")


@pytest.mark.parametrize("first", [KeyError("a mistake"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full", "curves")])
def test_a_record_that_cannot_be_closed_hides_nothing(first: BaseException) -> None:
    messages: list[str] = []
    with pytest.raises(type(first)) as raised, closing(FullDisk(), messages.append):  # type: ignore[arg-type]
        raise first
    assert raised.value is first
    assert "the record stays in its journals" in messages[0]


def test_a_record_that_cannot_be_closed_is_reported_if_nothing_else_failed() -> None:
    with pytest.raises(OSError, match="No space left on device"), closing(FullDisk(), pytest.fail):  # type: ignore[arg-type]
        pass
