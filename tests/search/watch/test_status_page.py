"""The state of a search, from the files of its run directory."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from data_prep.console import EscapingConsole
from data_prep.errors import InputError
from data_prep.store.files import write_json
from models.candidate import Candidate
from search.__main__ import app
from search.ladder.decisions import BestBlend, CandidateStatus
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.driver_lock import LOCK_FILE, DriverLock, hold_driver_lock
from search.run_dir.pulse_file import (
    Leader,
    LiveRun,
    Pulse,
    Spent,
    Trouble,
    read_pulse,
    write_pulse,
)
from search.run_dir.status_file import write_statuses
from search.watch.heartbeat import Heartbeat
from search.watch.status_page import Status, StatusReader, follow

NOW = 1_000_000.0
ALL = {name: Candidate(seed=seed) for seed, name in enumerate(("done", "going", "idle", "waits", "weak", "broken"))}
PULSE = Pulse(
    metric="pearson",
    n_folds=2,
    at=NOW - 4,
    begun=NOW - 604,
    ended="",
    running=(LiveRun(ALL["going"].id, ALL["going"].label, 1, 0, 75.0, 0.5, 0.61),),
    to_come=7,
    counts={"started": 9, "finished": 4, "stopped": 1, "dead": 0, "failed": 1, "promoted": 3},
    rows_per_second=1234.0,
    seconds_left=300.0,
    seconds_left_most=600.0,
    spent=Spent(12.0, 3.0),
    left=Spent(2.0, 0.5),
    left_most=Spent(4.0, 1.0),
    best=Leader(ALL["done"].id, ALL["done"].label, 0.7, 2),
    blend=BestBlend(0.7321, 1, 1),
    troubles=(Trouble(NOW - 60, "some-run lost its worker (killed)"),),
    moved=NOW - 424,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Return a run directory in which every candidate stands elsewhere."""
    folder = tmp_path / "runs" / "s"
    study = {
        "name": "s",
        "data": "elsewhere",
        "ladder": {"rungs": [0.4, 0.6]},
        "price_per_hour": {"cpu": 0.5, "gpu": 2},
    }
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    for candidate in ALL.values():
        write_json(candidate.model_dump(mode="json"), folder / "candidates" / f"{candidate.id}.json")
    curves = Curves(str(folder))
    reports = [("done", 0, 1.0, 0.68), ("done", 1, 1.0, 0.72), ("going", 0, 0.4, 0.5), ("going", 0, 1.0, 0.65)]
    reports += [("idle", 0, 1.0, 0.66), ("waits", 0, 1.0, 0.6), ("weak", 0, 0.4, 0.3), ("broken", 0, 0.6, 0.4)]
    for name, fold, progress, metric in reports:
        curves.append(CurvePoint(ALL[name].id, fold, progress, 1.0, metric, 60.0))
    states = {
        "done": CandidateStatus("finished", "all 2 folds done"),
        "going": CandidateStatus("running", "goes on"),
        "idle": CandidateStatus("running", "goes on, too"),
        "waits": CandidateStatus("waiting", "rank 3 of 4"),
        "weak": CandidateStatus("stopped", "cut on fold 0 at 40%"),
        "broken": CandidateStatus("failed", "its worker died 3 times"),
    }
    write_statuses(str(folder), {ALL[name].id: status for name, status in states.items()})
    write_pulse(PULSE, str(folder))
    return str(folder)


def read(run_dir: str) -> Status:
    return StatusReader(run_dir, today=lambda: NOW).read()


def shown(found: Status) -> str:
    console = EscapingConsole(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(found)
    return capture.get()


def lines(text: str, word: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with a word."""
    cut = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    return [cells for cells in cut if cells[0].startswith(word)]


def test_every_candidate_stands_on_its_rung_best_first(run_dir: str) -> None:
    with hold_driver_lock(run_dir):
        found = read(run_dir)
    assert [(climb.candidate, climb.state) for climb in found.climbs] == [
        (ALL[name].id, state)
        for name, state in {
            "done": "finished",
            "idle": "queued",
            "going": "running",
            "waits": "waiting",
            "broken": "failed",
            "weak": "stopped",
        }.items()
    ]
    page = shown(found)
    states = ["running", "queued", "waiting", "stopped", "failed", "finished"]
    steps = {step: dict(zip(states, lines(page, step)[0][1:], strict=True)) for step in ("fold 0 at 40%", "1 of 2")}
    assert {state: count for state, count in steps["fold 0 at 40%"].items() if count} == {"stopped": "1"}
    assert {s: n for s, n in steps["1 of 2"].items() if n} == {"running": "1", "queued": "1", "waiting": "1"}
    going = ALL["going"]
    assert re.search(rf"{going.label} {going.id[:6]} +1 +50% +0\.6100 +1m15s", page)


def test_the_top_tells_of_driver_time_money_and_what_is_best(run_dir: str) -> None:
    with hold_driver_lock(run_dir):
        page = shown(read(run_dir))
    assert f"on {socket.gethostname()}, since 20" in page
    assert "updated 4s ago; work last moved 7m04s ago" in page
    assert (
        "1 on workers, 4 finished; in this run 9 started, 1 stopped, 0 failed to learn, 1 failed; candidates: 3 promo"
        in page
    )
    assert "10m00s in this run; 5m00s to 10m00s left; 1,234 training rows/s" in page
    assert "12.00 so far, 2.00 to 4.00 more" in page, "12 x 0.5 + 3 x 2, and 2 x 0.5 + 0.5 x 2"
    assert f"{ALL['done'].label} {ALL['done'].id[:6]}: pearson 0.7000 over 2 of 2 folds" in page
    assert "1 of 1 complete candidate: pearson 0.7321" in page
    assert f"failed   {ALL['broken'].label} {ALL['broken'].id[:6]}: its worker died 3 times" in page
    assert "1m00s ago: some-run lost its worker (killed)" in page


def test_without_a_price_no_money_is_told(run_dir: str) -> None:
    study = Path(run_dir) / "study.yaml"
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "price_per_hour": None}))
    assert "so far" not in shown(read(run_dir))


def test_a_waiting_candidate_whose_next_fold_has_started_runs(run_dir: str) -> None:
    started = LiveRun(ALL["waits"].id, ALL["waits"].label, 1, 0, 1.0, 0.0, None)
    write_pulse(replace(PULSE, running=(*PULSE.running, started)), run_dir)
    with hold_driver_lock(run_dir):
        states = {climb.candidate: climb.state for climb in read(run_dir).climbs}
    assert states[ALL["waits"].id] == "running"
    assert {climb.candidate: climb.state for climb in read(run_dir).climbs}[ALL["waits"].id] == "waiting"


def put_lock(run_dir: str, **changes: object) -> None:
    (Path(run_dir) / LOCK_FILE).write_text(json.dumps(asdict(replace(DriverLock.mine(), **changes))))


def test_a_driver_that_is_gone_is_told_from_one_that_lives(run_dir: str) -> None:
    assert "not running; the last one: its driver.json was removed" in shown(read(run_dir))
    put_lock(run_dir, ticks=-1)
    killed = read(run_dir)
    assert killed.is_over
    assert "killed: process" in shown(killed)
    assert "running now" not in shown(killed), "what ran with a killed driver runs no more"
    put_lock(run_dir, host="far")
    far = read(run_dir)
    assert not far.is_over
    assert "on far, since" in shown(far)
    assert "not responding" not in shown(far)
    write_pulse(replace(PULSE, at=NOW - 300), run_dir)
    assert "not responding: process" in shown(read(run_dir))
    (Path(run_dir) / LOCK_FILE).unlink()
    write_pulse(replace(PULSE, ended="interrupted", running=()), run_dir)
    assert "the last one: interrupted, updated 4s ago" in shown(read(run_dir))


def test_a_long_list_is_cut_unless_asked_for(run_dir: str) -> None:
    curves = Curves(run_dir)
    for seed in range(10, 30):
        candidate = Candidate(seed=seed)
        write_json(candidate.model_dump(mode="json"), f"{run_dir}/candidates/{candidate.id}.json")
        curves.append(CurvePoint(candidate.id, 0, 0.4, 1.0, 0.1, 1.0))
    assert "16 more; show them with --all" in shown(read(run_dir))
    everything = shown(StatusReader(run_dir, show_all=True, today=lambda: NOW).read())
    assert "more; show" not in everything
    assert Candidate(seed=29).id[:6] in everything


def test_the_command_reads_a_uri_and_needs_neither_torch_nor_ray_nor_the_prepared_folder(run_dir: str) -> None:
    program = (
        "import sys; from search.__main__ import app; app(['status', sys.argv[1]], standalone_mode=False); "
        "print('loaded', [name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, f"file://{run_dir}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{ALL['done'].id[:6]}: pearson 0.7000" in done.stdout
    assert f"next: blendfold leaderboard file://{run_dir}" in done.stdout.replace("\n", " ").replace("  ", " ")
    assert done.stdout.strip().endswith("loaded []")


def test_another_folder_is_refused_and_an_old_run_says_what_it_lacks(run_dir: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run directory \(no study.yaml\); make one with"):
        read(str(tmp_path))
    (Path(run_dir) / "pulse.json").write_text('{"metric": "pearson"}')
    with pytest.raises(InputError, match=r"pulse.json: is not what this version"):
        read(run_dir)
    (Path(run_dir) / "pulse.json").unlink()
    with pytest.raises(InputError, match=r"has no pulse.json.*run this where the prepared folder can be read"):
        read(run_dir)


def test_a_run_of_an_older_version_is_told_with_its_prepared_folder(run_dir: str, prepared_tiny: object) -> None:
    study = Path(run_dir) / "study.yaml"
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "data": prepared_tiny.path}))
    (Path(run_dir) / "pulse.json").unlink()
    found = read(run_dir)
    assert (found.run.metric.name, found.run.n_folds, len(found.climbs)) == ("pearson", 4, 6)
    assert "no driver has written its state here" in shown(found)


def test_watching_ends_with_the_driver_or_with_ctrl_c(run_dir: str) -> None:
    console, reads = EscapingConsole(width=120, quiet=True), []

    def sleep(_: float) -> None:
        reads.append(1)
        if len(reads) == 3:
            (Path(run_dir) / LOCK_FILE).unlink()

    put_lock(run_dir)
    assert follow(StatusReader(run_dir), console, sleep=sleep).is_over
    assert len(reads) == 3

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    put_lock(run_dir)
    assert not follow(StatusReader(run_dir), console, sleep=interrupt).is_over
    (Path(run_dir) / LOCK_FILE).unlink()
    done = CliRunner().invoke(app, ["status", run_dir, "--watch"])
    assert done.exit_code == 0
    assert "candidates on the ladder" in done.output


@contextmanager
def beating(run_dir: Path, notes: list[str], write: Callable[[Pulse, str], None] = write_pulse) -> Iterator[Heartbeat]:
    beats = iter(range(1_000_000))

    def take(ended: str) -> Pulse:
        return replace(PULSE, ended=ended, to_come=next(beats))

    with Heartbeat(str(run_dir), take, note=notes.append, seconds=0.01, write=write) as heartbeat:
        yield heartbeat


def test_the_driver_tells_of_itself_until_it_says_how_it_ended(tmp_path: Path) -> None:
    with beating(tmp_path, []) as heartbeat:
        first = read_pulse(str(tmp_path))
        assert first == replace(PULSE, to_come=0)
        heard: list[Pulse] = []
        enough = threading.Event()

        def listen(pulse: Pulse) -> None:
            heard.append(pulse)
            if len(heard) > 3:
                enough.set()

        with heartbeat.heard_by(listen):
            assert enough.wait(20), "it beats on by itself"
    n_heard = len(heard)
    last = read_pulse(str(tmp_path))
    assert last is not None
    assert last.ended == "done"
    assert last.to_come >= n_heard
    assert {pulse.ended for pulse in heard} == {""}
    for error, ended in ((KeyboardInterrupt(), "interrupted"), (ValueError("why\nmore"), "ValueError: why")):
        with pytest.raises(type(error)), beating(tmp_path, []):
            raise error
        assert getattr(read_pulse(str(tmp_path)), "ended", None) == ended


def test_a_pulse_that_cannot_be_written_is_reported_once_and_ends_nothing(tmp_path: Path) -> None:
    tries, notes, enough = [], [], threading.Event()

    def refuse(*_: object) -> None:
        tries.append(1)
        if len(tries) > 3:
            enough.set()
        raise OSError(28, "No space left on device")

    with beating(tmp_path, notes, write=refuse):
        assert enough.wait(20)
    assert len(notes) == 1
    assert "pulse.json cannot be written" in notes[0]


def test_candidates_have_their_names_in_the_study_and_what_tells_them_apart(run_dir: str) -> None:
    study = Path(run_dir) / "study.yaml"
    names = {"first": ALL["done"].id, "again": ALL["going"].id}
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "names": names}))
    with hold_driver_lock(run_dir):
        page = shown(read(run_dir))
    assert f"best     first {ALL['done'].id[:6]}: pearson" in page
    assert re.search(rf"again {ALL['going'].id[:6]} +1 +50%", page)
    assert re.search(rf"first {ALL['done'].id[:6]} +seed=0", page)
    assert re.search(rf"{ALL['weak'].label} {ALL['weak'].id[:6]} +seed=4", page)
