"""Any damage to any file of a run directory, a prepared folder or a bundle is refused, or changes no result.

One file at a time is damaged at random for some seconds (`--fuzz-seconds`), then read. Files of older versions have no
seals, so there a changed value may go unnoticed, but it never ends in a traceback.
"""

import io
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.numpy
import yaml
from rich.console import Console

from blend.__main__ import app as blend_app
from damaged_files import Damage, do_damage, restore, snapshot
from data_prep.console import console
from data_prep.errors import InputError, StoreError
from data_prep.store.candidate_records import write_settings
from data_prep.store.files import write_bytes, write_json
from data_prep.store.safetensors_files import parse_header
from data_prep.store.sealed_records import read_record, seal, write_record
from data_prep.store.study_record import read_study_record, write_study_record
from models.bundle.read_bundle import open_bundle
from scripted_search import SilentWatcher
from search.driver.conductor import Conductor
from search.run_dir.drawn_candidates import DrawnCandidates
from search.run_dir.run_dir import RunDir
from search.study.kept_study import read_resolved
from search.watch.candidate_stories import explain
from search.watch.leaderboard import leaderboard
from search.watch.status_page import StatusReader
from search.watch.tracked_run import read_tracked

ARCHIVE = Path(__file__).parent / "support" / "old_run.tar.gz"
RUN = "runs/old"
EVEN_DEAD = ("--dead-below", "-1", "--method", "z-mean+line", "--members", "0bb067ed5412,1aa745f80f38")

Reader = Callable[[Path], object]


@pytest.fixture(scope="module", params=["sealed", "as an older version wrote it"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run, its prepared folder, a blend and a bundle of it."""
    root = tmp_path_factory.mktemp("damaged")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    run = root / RUN
    study = yaml.safe_load((run / "study.yaml").read_text().replace("PREPARED", str(root / "prepared")))
    write_study_record(study, str(run))
    if request.param == "sealed":
        seal_all(root)
    call(blend_app, "fit", run, "--name", "early", *EVEN_DEAD)
    call(blend_app, "bundle", run, "--blend", "early", "--out", root / "bundle")
    if request.param != "sealed":
        unseal_all(root)
    return root


def seal_all(root: Path) -> None:
    """Write every record as this version does."""
    run = root / RUN
    for path in [
        *run.glob("*.json"),
        *run.rglob("files.json"),
        run / "weights/shares.json",
        root / "prepared/manifest.json",
    ]:
        if path.name != "sampled.json":
            write_record(read_record(path, dict, remedy=""), path)
    draws = DrawnCandidates(str(run))
    draws._compacted = -1
    draws.compact()
    for path in run.glob("candidates/*.json"):
        write_settings(read_record(path, dict, remedy=""), str(run), path.stem)
    for path in run.rglob("model.safetensors"):
        content = path.read_bytes()
        metadata = seal(parse_header(content).metadata)
        path.write_bytes(safetensors.numpy.save(safetensors.numpy.load(content), metadata))


def unseal_all(root: Path) -> None:
    """Take the seals away."""
    write_bytes(yaml.safe_dump(read_study_record(str(root / RUN))).encode(), root / RUN / "study.yaml")
    for path in [root / "bundle/manifest.json", *(root / RUN / "blends").rglob("*.json")]:
        write_json(read_record(path, dict, remedy=""), path)


def call(application: Callable[..., object], *arguments: object) -> str:
    with console.capture() as capture:
        application([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def shown(page: object) -> str:
    """Return what a console would show."""
    plain = Console(file=io.StringIO(), width=200)
    plain.print(page)
    return str(plain.file.getvalue())  # type: ignore[attr-defined]


def started(root: Path) -> object:
    """Return what a search would start next, and what it says about damaged tables."""
    run, watcher = str(root / RUN), SilentWatcher()
    conductor = Conductor(read_resolved(run), RunDir(run).data, run, watcher, hours_spent=lambda: 0.0)
    assignments = [conductor.next_assignment() for _ in range(3)]
    return [str(each and (each.candidate.id, each.fold, each.attempt)) for each in assignments], watcher.notes


def fitted(root: Path) -> object:
    call(blend_app, "fit", root / RUN, "--name", "again", *EVEN_DEAD)
    return snapshot(root / RUN / "blends/again")


def bundled(root: Path) -> object:
    call(blend_app, "bundle", root / RUN, "--blend", "early", "--out", root / "out")
    return snapshot(root / "out")


def opened(root: Path) -> object:
    """Return all that a bundle predicts with."""
    bundle = open_bundle(root / "bundle")
    for member in bundle.contents.members:
        for fold in member.folds:
            bundle.weights(member, fold)
    return bundle.contents, bundle.candidates


READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "leaderboard": (lambda root: shown(leaderboard(str(root / RUN))), ("prepared", RUN)),
    "status": (lambda root: shown(StatusReader(str(root / RUN), today=lambda: 2e9).read()), (RUN,)),
    "explain": (lambda root: shown(explain(str(root / RUN))), ("prepared", RUN)),
    "track": (lambda root: read_tracked(str(root / RUN)), (RUN,)),
    "run": (started, ("prepared", RUN)),
    "fit": (fitted, ("prepared", f"{RUN}/study.yaml", f"{RUN}/oof", f"{RUN}/test", f"{RUN}/candidates")),
    "bundle": (bundled, ("prepared", f"{RUN}/weights", f"{RUN}/blends", f"{RUN}/candidates", f"{RUN}/oof")),
    "predict": (opened, ("bundle",)),
}
"""What each reads."""


def may_differ(damage: Damage, result: object) -> bool:
    """Tell whether another result is right: a lost file, a lost end of a journal, a table that is trained again."""
    if damage.kind == "delete" or (damage.kind == "truncate" and damage.file.endswith(".journal")):
        return True
    return isinstance(result, tuple) and any("set aside in" in note for note in result[1])


def test_damage_is_refused_or_changes_nothing(
    root: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = request.config.getoption("--fuzz-seconds") / 2
    is_sealed = "seal" in (root / RUN / "study.yaml").read_text()
    before = snapshot(root)
    files = {name: [file for file in before if file.startswith(places)] for name, (_, places) in READERS.items()}
    restore(root, before)
    expected = {}
    for name, (read, _) in READERS.items():
        expected[name] = read(root)
        restore(root, before)
    counts: Counter[str] = Counter()
    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end or seed < len(READERS):
        name = list(READERS)[seed % len(READERS)]
        generator = random.Random(seed)
        damage = do_damage(root, files[name], generator)
        case, damaged = f"seed {seed}: {name} after {damage}", snapshot(root)
        outcome = _outcome(partial(READERS[name][0], root), case)
        if isinstance(outcome, InputError | StoreError):
            counts["refused"] += 1
            assert str(outcome).strip(), case
            if name != "run":
                assert snapshot(root) == damaged, f"{case}: left something behind"
        elif outcome == expected[name]:
            counts["same result"] += 1
        else:
            counts["other result"] += 1
            assert not is_sealed or may_differ(damage, outcome), case
        restore(root, before)
        seed += 1
    with capsys.disabled():
        print(f"\n{seed} damaged files, {'sealed' if is_sealed else 'unsealed'}: {dict(counts)}")  # noqa: T201
    assert counts["refused"]


def _outcome(read: Callable[[], object], case: str) -> object:
    try:
        return read()
    except (InputError, StoreError) as error:
        return error
    except Exception as error:
        raise AssertionError(case) from error
