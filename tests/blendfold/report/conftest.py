"""A real run directory with a blend, a ledger and a report of it."""

import contextlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from blend.__main__ import app as blend_app
from blendfold.report.write_report import write_report
from data_prep.console import console

ARCHIVE = Path(__file__).parents[2] / "support" / "old_run.tar.gz"
LEDGER = (
    "submission,sha256,blend,study,members,method,scheme,n_folds,split_hash,metric,cv,nested,expected,public,private,note"
    """
one.csv,,first,,,,group,3,,pearson,0.41,0.40,,0.43,,<b>bold</b>
two.csv,,second,,,,group,3,,pearson,0.45,0.44,,0.46,,
three.csv,,third,,,,kfold,3,,pearson,0.60,,,0.44,,
four.csv,,,,,,group,3,,pearson,0.47,,,0.49,,
"""
)


@dataclass(frozen=True)
class Reported:
    """A run directory and its report."""

    run: Path
    prepared: Path
    page: Path


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("reported")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    run, prepared = folder / "runs/old", folder / "prepared"
    study = run / "study.yaml"
    study.write_text(study.read_text().replace("PREPARED", str(prepared)))
    with contextlib.chdir(folder), console.capture(), contextlib.suppress(SystemExit):
        blend_app(["fit", str(run), "--name", "new", "--clip"], standalone_mode=False)
    ledger = folder / "ledger.csv"
    ledger.write_text(LEDGER)
    return Reported(run, prepared, Path(write_report(str(run), ledger=str(ledger))))
