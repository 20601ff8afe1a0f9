"""Shared by the tests that run whole searches: the search that nothing disturbs."""

from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from whole_search import run, write_study


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared, tiny_bert: str) -> Path:
    """Return the run directory of a search that nothing disturbed."""
    study = write_study(tmp_path_factory.mktemp("undisturbed"), prepared_tiny, tiny_bert)
    output = run(study)
    run_dir = study.parent / "runs" / "tiny"
    assert f"blendfold blend {run_dir}" in output.splitlines()[-1]
    return run_dir
