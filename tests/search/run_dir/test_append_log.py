"""The record of a search: cut off anywhere it keeps what it promised, altered it says so, and it costs what it has."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.store.files import list_names, read_bytes
from data_prep.store.tables import CURVES_SCHEMA, DamagedTableError, read_table
from models.candidate import Candidate
from search.run_dir.append_log import COMPACT_AT
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.drawn_candidates import DrawnCandidate, DrawnCandidates
from store_server import Store


def point(number: int) -> CurvePoint:
    return CurvePoint("0123456789ab", number % 5, 1 / 3, number / 7, math.sqrt(number), 0.1 * number)


def keep(run_dir: Path, points: Sequence[CurvePoint], *, compact_at: int = COMPACT_AT) -> Curves:
    curves = Curves(str(run_dir), compact_at=compact_at)
    for entry in points:
        curves.append(entry)
    return curves


def files(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.iterdir()}


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 9, 30])
def test_what_was_appended_is_read_back_in_order_wherever_it_lies(number: int, tmp_path: Path) -> None:
    points = [point(n) for n in range(number)]
    curves = keep(tmp_path, points, compact_at=4)
    assert Curves(str(tmp_path)).entries == points
    curves.compact()
    assert Curves(str(tmp_path)).entries == points
    assert files(tmp_path) == ({"curves.arrow"} if number else set())
    if number:
        table = read_table(tmp_path / "curves.arrow", schema=CURVES_SCHEMA)
        assert [CurvePoint(**row) for row in table.to_pylist()] == points


def test_numbers_come_back_exactly_nan_included(tmp_path: Path) -> None:
    odd = CurvePoint("0123456789ab", 0, 0.1 + 0.2, 1e-300, float("nan"), float("inf"))
    keep(tmp_path, [odd])
    assert repr(Curves(str(tmp_path)).entries) == repr([odd])


@pytest.mark.parametrize("compacted", [0, 4])
def test_cut_off_at_any_byte_only_the_line_being_written_is_lost_and_the_search_goes_on(
    compacted: int, tmp_path: Path
) -> None:
    points = [point(n) for n in range(compacted + 3)]
    keep(tmp_path, points, compact_at=4)
    path = tmp_path / "curves.journal"
    content = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 3
    for size in [*range(0, len(content), 5), *ends, *(end - 1 for end in ends)]:
        path.write_bytes(content[:size])
        kept = compacted + sum(end <= size for end in ends)
        torn = Curves(str(tmp_path), compact_at=4)
        assert torn.entries == points[:kept]
        assert path.read_bytes() == content[:size], "who only reads repairs nothing"
        torn.append(points[-1])
        assert Curves(str(tmp_path)).entries == [*points[:kept], points[-1]]
        (tmp_path / "curves.arrow").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        keep(tmp_path, points[:compacted], compact_at=4)


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\0" * 40 + b"\n", b"0123456789abcdef 3 ["])
def test_a_last_line_that_never_fully_reached_the_disk_is_dropped(tail: bytes, tmp_path: Path) -> None:
    points = [point(n) for n in range(3)]
    keep(tmp_path, points)
    with (tmp_path / "curves.journal").open("ab") as file:
        file.write(tail)
    again = Curves(str(tmp_path))
    assert again.entries == points
    again.append(point(3))
    assert Curves(str(tmp_path)).entries == [*points, point(3)]


@pytest.mark.parametrize("place", [-1, -2, -20])
def test_an_altered_last_line_is_damage_also_if_its_end_was_altered(place: int, tmp_path: Path) -> None:
    keep(tmp_path, [point(n) for n in range(3)])
    path = tmp_path / "curves.journal"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedTableError, match="line 3 does not match its checksum"):
        Curves(str(tmp_path))


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_flipped_byte_before_the_last_line_is_named(line: int, tmp_path: Path) -> None:
    keep(tmp_path, [point(n) for n in range(4)])
    path = tmp_path / "curves.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"0123456789ab", b"0123456789ac")
    path.write_bytes(b"".join(lines))
    with pytest.raises(DamagedTableError, match=f"curves.journal: line {line} does not match its checksum.*remove"):
        Curves(str(tmp_path))


def test_a_missing_line_is_named(tmp_path: Path) -> None:
    keep(tmp_path, [point(n) for n in range(4)])
    path = tmp_path / "curves.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(DamagedTableError, match="line 2 is entry 2 where 1 was expected"):
        Curves(str(tmp_path))


def test_an_older_table_under_a_newer_journal_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, [point(n) for n in range(4)], compact_at=4)
    older = (tmp_path / "curves.arrow").read_bytes()
    keep(tmp_path, [point(n) for n in range(4, 10)], compact_at=4)
    (tmp_path / "curves.arrow").write_bytes(older)
    with pytest.raises(DamagedTableError, match="holds 4 entries, but its journal starts at entry 8"):
        Curves(str(tmp_path))


def test_cut_off_between_the_table_and_the_new_journal_nothing_counts_twice(
    tmp_path: Path,
) -> None:
    curves = keep(tmp_path, [point(n) for n in range(4)])
    lines = (tmp_path / "curves.journal").read_bytes()
    curves.compact()
    (tmp_path / "curves.journal").write_bytes(lines)
    assert files(tmp_path) == {"curves.arrow", "curves.journal"}
    assert Curves(str(tmp_path)).entries == [point(n) for n in range(4)]
    keep(tmp_path, [point(4)])
    assert Curves(str(tmp_path)).entries == [point(n) for n in range(5)]


def test_a_line_that_could_not_be_written_is_not_on_record_and_the_next_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = keep(tmp_path, [point(0)])

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(OSError, match="No space left"):
            curves.append(point(1))
    assert curves.entries == [point(0)]
    curves.append(point(2))
    assert Curves(str(tmp_path)).entries == [point(0), point(2)]


WRITER = """
import sys
from search.run_dir.curves import CurvePoint, Curves
curves = Curves(sys.argv[1], compact_at=40)
for number in range(len(curves.entries), 10**6):
    curves.append(CurvePoint("0123456789ab", 0, 0.5, float(number), 0.5, 0.0))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_said_was_on_record(tmp_path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(100)]  # it is compacted in between
            process.kill()
            said += [int(line) for line in process.stdout if line.endswith("\n")]
        epochs = [entry.epoch for entry in Curves(str(tmp_path)).entries]
        assert epochs == list(range(len(epochs)))
        assert len(epochs) in (said[-1] + 1, said[-1] + 2)


def bytes_written() -> int:
    """Return how many bytes this process has written so far."""
    return int(re.search(r"wchar: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]


def test_the_bytes_written_grow_as_the_points_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take long, and change no byte
    written = {}
    for number in (2_000, 8_000):
        before = bytes_written()
        keep(tmp_path / str(number), [point(n) for n in range(number)]).compact()
        written[number] = (bytes_written() - before) / number
    assert 100 < written[2_000] < 300
    assert written[8_000] < 1.2 * written[2_000]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["append", "compact", "open"]), max_size=30))
def test_any_order_of_appending_compacting_and_opening_keeps_everything(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    run_dir = tmp_path_factory.mktemp("steps")
    curves, expected = Curves(str(run_dir)), []
    for step in steps:
        if step == "append":
            expected.append(point(len(expected)))
            curves.append(expected[-1])
        elif step == "compact":
            curves.compact()
        else:
            curves = Curves(str(run_dir))
    assert Curves(str(run_dir)).entries == expected


def test_samples_come_back_from_the_list_as_from_its_journal(tmp_path: Path) -> None:
    chosen = [{"backbone_lr": 1e-5 * n, "head": "cls"} for n in range(1, 4)]
    drawn = [DrawnCandidate(2 * n, entry, Candidate.model_validate(entry)) for n, entry in enumerate(chosen)]
    samples = DrawnCandidates(str(tmp_path))
    for sample in drawn:
        samples.append(sample)
    assert DrawnCandidates(str(tmp_path)).entries == drawn
    samples.compact()
    assert files(tmp_path) == {"sampled.json"}
    assert DrawnCandidates(str(tmp_path)).entries == drawn
    draws = json.loads((tmp_path / "sampled.json").read_text())["draws"]
    assert [entry["number"] for entry in draws] == [0, 2, 4]
    (tmp_path / "sampled.json").write_text(json.dumps(draws))  # as older versions wrote it
    assert DrawnCandidates(str(tmp_path)).entries == drawn


def test_on_an_object_store_the_journal_is_rewritten(store: Store) -> None:
    run_dir = f"{store.uri}/run"
    curves = Curves(run_dir)
    for number in range(3):
        curves.append(point(number))
    assert Curves(run_dir).entries == [point(n) for n in range(3)]
    assert len(read_bytes(f"{run_dir}/curves.journal").splitlines()) == 3
    curves.compact()
    assert Curves(run_dir).entries == [point(n) for n in range(3)]
    assert list_names(run_dir) == ["curves.arrow"]


def test_a_line_carries_the_sha256_of_its_number_and_content(tmp_path: Path) -> None:
    keep(tmp_path, [CurvePoint("0123456789ab", 1, 0.5, 2.0, 0.25, 3.0)])
    text = b'0 ["0123456789ab", 1, 0.5, 2.0, 0.25, 3.0]'
    expected = hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n"
    assert (tmp_path / "curves.journal").read_bytes() == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda _: "7",
        lambda text: text.replace("number", "n"),
        lambda text: text.replace('"number": 0', '"number": 1'),
        lambda text: json.dumps([{**json.loads(text)["draws"][0], "settings": {"head": "mean"}}]),
    ],
)
def test_a_damaged_list_of_samples_is_named_with_what_to_do(damage: Callable[[str], str], tmp_path: Path) -> None:
    samples = DrawnCandidates(str(tmp_path))
    samples.append(DrawnCandidate(0, {"head": "cls"}, Candidate(head="cls")))
    samples.compact()
    path = tmp_path / "sampled.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=rf"{path}: is not what this version.*remove it and sampled\.journal"):
        DrawnCandidates(str(tmp_path))
