from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from blend.evidence.earlier_submissions import compare_with_earlier, read_earlier

IDS = [f"t{row:03d}" for row in range(30)]


def write_earlier(run: Path, name: str, ids: list[str], prediction: np.ndarray, header: str = "id,worth") -> None:
    folder = run / "blends" / name
    folder.mkdir(parents=True)
    rows = [f"{key},{value!r}" for key, value in zip(ids, prediction.tolist(), strict=True)]
    (folder / "submission.csv").write_text("\n".join([header, *rows]) + "\n")


def test_likeness_is_taken_on_common_ids_and_sorted(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    new = random.random(30)
    alike, other = new + 0.01 * random.normal(size=30), random.random(30)
    order = random.permutation(30)[:20]
    write_earlier(tmp_path / "one", "other", IDS, other)
    write_earlier(tmp_path / "two", "alike", [IDS[row] for row in order], alike[order], header="ref,label")
    found, faults = read_earlier([str(tmp_path / "one"), str(tmp_path / "two")], IDS)
    assert not faults
    first, second = compare_with_earlier(IDS, new, found)
    assert (first.name, first.rows, second.name, second.rows) == ("alike", 20, "other", 30)
    assert first.pearson == pytest.approx(pearsonr(new[order], alike[order]).statistic, abs=1e-12)
    assert first.spearman == pytest.approx(spearmanr(new[order], alike[order]).statistic, abs=1e-12)
    difference = np.abs(new - other)
    assert second.largest_difference == pytest.approx(difference.max(), abs=1e-15)
    assert second.largest_id == IDS[int(difference.argmax())]


def test_scores_may_stand_left_of_ids(tmp_path: Path) -> None:
    folder = tmp_path / "blends" / "turned"
    folder.mkdir(parents=True)
    (folder / "submission.csv").write_text("worth,id\n0.5,t001\n0.75,t003\n")
    found, _ = read_earlier([str(tmp_path)], IDS)
    assert (found[0].ids, found[0].prediction.tolist()) == (("t001", "t003"), [0.5, 0.75])


def test_the_new_blend_itself_is_left_out_and_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    for name in ("new", "old", "foreign", "broken"):
        write_earlier(
            tmp_path, name, IDS if name != "foreign" else ["a", "b"], np.arange(30 if name != "foreign" else 2)
        )
    (tmp_path / "blends" / "broken" / "submission.csv").write_text("id,worth\nt000,high\n")
    (tmp_path / "blends" / "unfinished").mkdir()
    found, faults = read_earlier([str(tmp_path), str(tmp_path)], IDS, leave_out=str(tmp_path / "blends" / "new"))
    assert [earlier.name for earlier in found] == ["old"]
    assert len(faults) == 2
    assert "broken/submission.csv: cannot be read as a submission" in faults[0]
    assert "foreign/submission.csv: shares no id with this test" in faults[1]


def test_an_earlier_one_that_does_not_fit_its_manifest_is_named(tmp_path: Path) -> None:
    write_earlier(tmp_path, "edited", IDS, np.arange(30))
    (tmp_path / "blends" / "edited" / "submission.json").write_text("{}")
    found, faults = read_earlier([str(tmp_path)], IDS)
    assert not found
    assert "submission.json: is not what this version of blendfold writes" in faults[0]
