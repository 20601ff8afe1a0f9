"""A run directory says what each of its files is."""

import re
from pathlib import Path

from data_prep.store.run_readme import README_FILE, TEXT, write_run_readme

ROOT = Path(__file__).parents[3]


def test_it_is_written_once_and_again_where_it_is_another(tmp_path):
    path = tmp_path / README_FILE
    write_run_readme(str(tmp_path))
    assert path.read_text() == TEXT
    written = path.stat().st_mtime_ns
    write_run_readme(str(tmp_path))
    assert path.stat().st_mtime_ns == written
    path.write_text("of another version")
    write_run_readme(str(tmp_path))
    assert path.read_text() == TEXT


def test_it_names_every_file_that_a_run_directory_may_hold():
    page = (ROOT / "docs" / "architecture.md").read_text()
    listing = re.search(r"^```\n(runs/<study>/.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    files = [name for line in listing.splitlines()[1:] for name in line[:35].replace(",", " ").split()]
    assert len(files) > 15
    for name in files:
        assert name == README_FILE or name.split("/")[0] in TEXT, name
