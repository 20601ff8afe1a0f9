import csv
import hashlib
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr, theilslopes

from blend.__main__ import app
from blend.ledger.cv_vs_leaderboard import ENOUGH, FEW, fit_line, rank_correlation, track_cv
from blend.ledger.ledger_commands import add
from blend.ledger.ledger_entry import LedgerEntry
from blend.ledger.ledger_file import COLUMNS, append_entry, read_ledger, update_scores, write_ledger
from blend.ledger.ledger_picture import render_picture
from blend.ledger.ledger_report import describe, flag_names, verdict
from data_prep.console import console
from data_prep.errors import InputError
from memo import load_memo, read_memo

ROOT = Path(__file__).parents[3]
MEMO_LEDGER = ROOT / "studies" / "memo_ledger.csv"


def blend(*arguments: object) -> str:
    """Run a verb in this process and return what it printed."""
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def points(
    n: int, *, scheme: str = "group", slope: float = 1.0, noise: float = 0.001, **fields: Any
) -> list[LedgerEntry]:
    """Submissions whose leaderboard score follows their CV."""
    rng = np.random.default_rng(n)
    cv = np.linspace(0.80, 0.84, n)
    board = 0.84 + slope * (cv - 0.83) + noise * rng.standard_normal(n)
    return [
        LedgerEntry(f"{scheme}{place}", scheme=scheme, cv=float(x), public=float(y), **fields)
        for place, (x, y) in enumerate(zip(cv, board, strict=True))
    ]


def table(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> str:
    """A ledger as a person might write it; columns that a row lacks are empty, but for the metric."""
    lines = [",".join(columns)]
    lines += [",".join({"metric": "pearson", **row}.get(column, "") for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


# --- the file


def test_a_ledger_reads_back_as_written_in_the_order_of_its_rows(tmp_path: Path) -> None:
    full = LedgerEntry(
        submission='runs/a, "b"/submission.csv',
        sha256="a" * 64,
        blend="first",
        study="one+two",
        members="0123456789ab:0.6 ba9876543210:0.4",
        method="nelder-mead",
        scheme="stratified_group",
        n_folds=5,
        split_hash="12ab",
        metric="spearman",
        cv=0.1 + 0.2,
        nested=0.29,
        expected=0.31,
        public=-0.5,
        private=1.0,
        note="two\nlines; ünïcode, NA",
    )
    entries = (LedgerEntry("z", metric="spearman"), full, LedgerEntry("a", metric="spearman", cv=0.0))
    write_ledger(entries, tmp_path / "ledger.csv")
    assert read_ledger(tmp_path / "ledger.csv") == entries


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\t=1", "'=1", "''@", "'quoted", "", "plain"])
def test_a_spreadsheet_finds_no_formula_in_a_text(tmp_path: Path, text: str) -> None:
    entry = LedgerEntry(text.strip() or "x", blend=text, members=text, note=text, public=-0.5)
    write_ledger([entry], tmp_path / "ledger.csv")
    assert read_ledger(tmp_path / "ledger.csv") == (entry,)
    (row,) = csv.DictReader((tmp_path / "ledger.csv").open(newline=""))
    assert not row["note"].startswith(("=", "+", "-", "@", "\t"))
    assert row["public"] == "-0.5"
    path = tmp_path / "by-hand.csv"
    path.write_text(table({"submission": "=1+1"}, {"submission": "'=1+1"}))
    with pytest.raises(InputError, match="is the same submission as line 2"):
        read_ledger(path)


def test_a_person_may_shuffle_columns_use_windows_lines_and_leave_cells_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    columns = tuple(reversed(COLUMNS))
    text = table({"submission": "a.csv", "cv": ".83", "public": " 0.84"}, {"submission": "b.csv"}, columns=columns)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_ledger(path) == (LedgerEntry("a.csv", cv=0.83, public=0.84), LedgerEntry("b.csv"))


def test_every_fault_of_a_hand_edited_file_is_told_at_once_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(
        table(
            {"submission": "a.csv", "cv": "0,83".replace(",", "."), "public": "85.04"},
            {"submission": "b.csv", "cv": "nan", "scheme": "Kfold", "n_folds": "1"},
            {"submission": "a.csv", "private": "high"},
            {"submission": "", "sha256": "xyz", "metric": "brier", "score": "1"},
            columns=(*COLUMNS, "score"),
        )
    )
    with pytest.raises(InputError) as caught:
        read_ledger(path)
    said = str(caught.value)
    for expected in (
        r"unknown columns: 'score'; known: submission, sha256",
        r"column public: a pearson score lies in \[-1, 1\].*found 1: line 2 '85.04'",
        r"column cv: must be a number.*line 3 'nan'",
        r"column scheme: must be one of kfold, .*line 3 'Kfold'",
        r"column n_folds: .*line 3 '1'",
        r"column submission: is the same submission as line 2.*line 4 'a.csv'",
        r"column private: must be a number.*line 4 'high'",
        r"column submission: must name.*line 5 ''",
        r"column sha256: must be the 64 hex digits.*line 5 'xyz'",
        r"column metric: must be one of pearson, spearman, kendall.*line 5 'brier'",
    ):
        assert re.search(expected, said), expected
    assert len(caught.value.faults) == 10


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "the file is empty"),
        (",".join(COLUMNS) + "\n", "no rows"),
        (table({"submission": "a"}, columns=COLUMNS[:-1]), "missing columns: 'note'"),
        (table({"submission": "a"}).replace(",", ";"), "separated by ';'"),
        (table({"submission": "a"}) + "b,c\n", r"16 fields.*line 3 '2 fields'"),
        (
            table({"submission": "a", "sha256": "0" * 64}, {"submission": "b", "sha256": "0" * 64}),
            "is the same submission as line 2",
        ),
        (
            table({"submission": "a"}, {"submission": "b", "metric": "rmse"}),
            r"one metric, that of its first row \(pearson\).*line 3 'rmse'",
        ),
        (table({"submission": "a", "metric": "rmse", "cv": "-0.2"}), "never negative"),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read_ledger(path)


def test_a_file_that_was_replaced_under_the_same_name_is_another_submission(tmp_path: Path) -> None:
    entries = (LedgerEntry("a.csv", sha256="0" * 64), LedgerEntry("a.csv", sha256="1" * 64))
    write_ledger(entries, tmp_path / "ledger.csv")
    assert read_ledger(tmp_path / "ledger.csv") == entries


def test_a_ledger_that_cannot_be_written_to_its_end_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.csv"
    write_ledger([LedgerEntry("a.csv")], path)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_ledger([LedgerEntry("a.csv"), LedgerEntry("b.csv")], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.csv"]


def test_new_scores_change_one_row_and_keep_what_is_not_given() -> None:
    entries = (
        LedgerEntry("a", sha256="0" * 64, public=0.8),
        LedgerEntry("b", sha256="1" * 64, public=0.81, note="kept"),
    )
    update = update_scores(entries, "1" * 64, public=None, private=0.79, note="")
    assert update is not None
    assert update.entries == (entries[0], replace(entries[1], private=0.79))
    assert update_scores(entries, "2" * 64, public=0.8, private=None, note="") is None
    with pytest.raises(InputError, match=r"private 79: a pearson score lies in \[-1, 1\]"):
        update_scores(entries, "1" * 64, public=None, private=79.0, note="")


def test_an_entry_that_does_not_belong_is_refused() -> None:
    entries = (LedgerEntry("a"),)
    with pytest.raises(InputError) as caught:
        append_entry(entries, LedgerEntry("a", sha256="0" * 64, metric="rmse", scheme="random"))
    assert re.search(r"scheme 'random'.*\n.*metric is pearson.*\n.*without a sha256", str(caught.value))


# --- lines and ranks, against scipy


def test_the_line_is_that_of_theil_and_sen_and_its_spread_a_corrected_mad() -> None:
    rng = np.random.default_rng(0)
    cv = rng.normal(0.83, 0.01, 12)
    board = 0.4 + 0.5 * cv + rng.normal(0, 0.002, 12)
    line = fit_line(cv, board)
    assert line is not None
    assert line.slope == pytest.approx(theilslopes(board, cv).slope)
    residuals = board - line.slope * cv - line.intercept
    assert np.median(residuals) == pytest.approx(0.0, abs=1e-12)
    assert line.spread == pytest.approx(np.median(np.abs(residuals)) * 1.4826 * 12 / 9)
    assert line.at(0.8) == pytest.approx(0.8 * line.slope + line.intercept)


def test_one_wild_point_hardly_moves_the_line() -> None:
    clean = [(entry.cv, entry.public) for entry in points(12)]
    wild = [*clean[:-1], (clean[-1][0], 0.2)]
    lines = [fit_line(*zip(*rows, strict=True)) for rows in (clean, wild)]
    assert lines[0] is not None
    assert lines[1] is not None
    assert lines[1].at(0.82) == pytest.approx(lines[0].at(0.82), abs=5e-4)


@pytest.mark.parametrize("n", range(1, ENOUGH))
def test_few_points_give_an_offset_and_fewer_nothing(n: int) -> None:
    cv, board = np.linspace(0.8, 0.83, n), np.linspace(0.85, 0.86, n) ** 2
    line = fit_line(cv, board)
    if n < FEW:
        assert line is None
    else:
        assert line is not None
        assert line.slope == 1.0
        assert line.intercept == pytest.approx(np.median(board - cv))


def test_equal_cvs_give_an_offset() -> None:
    line = fit_line([0.83] * 10, np.linspace(0.8, 0.85, 10))
    assert line is not None
    assert line.slope == 1.0


def test_the_rank_correlation_is_scipys_and_its_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal pair whose Pearson correlation is .6
    covered = 0
    for _ in range(400):
        x = rng.standard_normal(14)
        y = 0.6 * x + 0.8 * rng.standard_normal(14)
        found = rank_correlation(x, y)
        assert found is not None
        assert found.value == pytest.approx(spearmanr(x, y).statistic)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_is_that_of_bonett_and_wright() -> None:
    """By hand: r = .8 with 9 points; the variance of atanh(r) is (1 + .32) / 6, where Fisher's would be 1 / 6."""
    found = rank_correlation(range(9), [2, 1, 0, 5, 4, 3, 8, 7, 6])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.17741043, 0.96527180), abs=1e-7)


def test_ties_rank_in_the_mean_and_perfect_order_stays_below_one() -> None:
    tied = rank_correlation([1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 2, 3, 3, 5, 4, 4])
    assert tied is not None
    assert tied.value == pytest.approx(spearmanr([1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 2, 3, 3, 5, 4, 4]).statistic)
    perfect = rank_correlation(range(ENOUGH), range(ENOUGH))
    assert perfect is not None
    assert 0.9 < perfect.low < perfect.high <= 1.0
    assert rank_correlation(range(ENOUGH), [0.8] * ENOUGH) is None


# --- flags


def test_a_submission_that_fell_out_of_line_is_flagged_and_no_other() -> None:
    entries = points(12)
    entries[5] = replace(entries[5], public=(entries[5].public or 0) + 0.02)
    rows = track_cv(entries).rows
    assert [row.entry.submission for row in rows if row.flags] == ["group5"]
    assert flag_names(rows[5].flags) == "out of line"
    assert "above the line of group" in rows[5].flags[0].reason
    assert rows[5].residual == pytest.approx(0.02, abs=0.004)


def test_clean_ledgers_are_seldom_flagged_and_a_real_leak_is_always_found() -> None:
    rng = np.random.default_rng(0)
    leak_said = line_said = 0
    for _ in range(60):
        cv = 0.83 + 0.006 * rng.standard_normal(10)
        board = cv + 0.01 + 0.003 * rng.standard_normal(10)
        entries = [
            LedgerEntry(str(i), scheme="group", cv=x, public=y) for i, (x, y) in enumerate(zip(cv, board, strict=True))
        ]
        flags = [flag for row in track_cv(entries).rows for flag in row.flags]
        leak_said += any(flag.kind == "leaking" for flag in flags)
        line_said += any(flag.kind == "out of line" for flag in flags)
        hidden = track_cv([*entries, LedgerEntry("hidden", cv=0.87, public=0.84)]).rows[-1]
        assert flag_names(hidden.flags) == "leaking (shown)"
    assert leak_said < 7
    assert line_said < 13


def test_a_scheme_that_tears_groups_apart_leaks_by_what_it_is_even_alone() -> None:
    for scheme, leaks in {"kfold": True, "stratified": True, "group": False, "stratified_group": False}.items():
        (row,) = track_cv([LedgerEntry("a", scheme=scheme, cv=0.8, public=0.81)]).rows
        assert flag_names(row.flags) == ("leaking (scheme)" if leaks else "")
        assert [flag.by for flag in row.flags] == ["scheme"] * leaks


def test_a_leak_that_nobody_declared_is_seen_in_a_grouped_split_too() -> None:
    leaking = LedgerEntry("leak", scheme="group", split_hash="other", cv=0.87, public=0.84)
    honest = LedgerEntry("honest", scheme="group", split_hash="other", cv=0.83, public=0.84)
    rows = track_cv([*points(10, split_hash="one"), leaking, honest]).rows
    assert "leaking (shown)" in flag_names(rows[-2].flags)
    assert "an unexpected leak" in rows[-2].flags[0].reason
    assert not rows[-1].flags


def test_a_submission_is_not_among_those_that_it_is_compared_with() -> None:
    """Three others are too few to say that one leaks, four are enough."""
    cvs = (0.79, 0.80, 0.81, 0.82, 0.87)
    entries = [LedgerEntry(str(cv), scheme="group", cv=cv, public=min(cv + 0.01, 0.84)) for cv in cvs]
    for few, leaks in ((entries[1:], False), (entries, True)):
        assert ("leaking" in flag_names(track_cv(few).rows[-1].flags)) is leaks


def test_the_better_half_by_rmse_has_the_smaller_cvs() -> None:
    cvs = np.linspace(0.20, 0.24, 2 * ENOUGH)
    followed = np.where(np.arange(2 * ENOUGH) < ENOUGH, cvs, 0.25 + cvs[::-1])
    entries = [
        LedgerEntry(str(x), scheme="group", metric="rmse", cv=x, public=y) for x, y in zip(cvs, followed, strict=True)
    ]
    (group,) = track_cv(entries).schemes
    assert group.upper is not None
    assert group.upper.value == pytest.approx(1.0)


def test_with_rmse_a_leak_is_a_cv_that_is_too_small() -> None:
    grouped = [replace(entry, metric="rmse", cv=entry.cv, public=entry.public) for entry in points(10)]
    low = LedgerEntry("low", metric="rmse", cv=0.78, public=0.84)
    high = LedgerEntry("high", metric="rmse", cv=0.90, public=0.84)
    rows = track_cv([*grouped, low, high]).rows
    assert flag_names(rows[-2].flags) == "leaking (shown)"
    assert not rows[-1].flags


def test_a_split_with_enough_points_has_its_own_line_and_smaller_ones_that_of_their_scheme() -> None:
    large, small = points(9, split_hash="large"), points(3, split_hash="small", slope=0.9)
    tracking = track_cv([*large, *small])
    assert {row.line.of for row in tracking.rows if row.line} == {"group large", "group"}
    own = fit_line([entry.cv for entry in large], [entry.public for entry in large], of="group large")
    assert all(row.line == own for row in tracking.rows[:9])
    assert [(scheme.n, len(scheme.splits)) for scheme in tracking.schemes] == [(12, 2)]
    assert [(split.name, split.n) for split in tracking.splits] == [("group large", 9), ("group small", 3)]


def test_submissions_without_both_scores_are_shown_and_take_no_part() -> None:
    entries = points(9)
    with_gaps = [
        LedgerEntry("no cv", scheme="group", public=0.1),
        *entries,
        LedgerEntry("no score", scheme="group", cv=0.1),
    ]
    whole, gaps = track_cv(entries), track_cv(with_gaps)
    assert gaps.schemes == whole.schemes
    assert [row.residual for row in gaps.rows] == [None, *(row.residual for row in whole.rows), None]


# --- sentences


def test_offset_and_noise_are_told_by_scheme() -> None:
    entries = points(10)
    gaps = np.array([(entry.public or 0) - (entry.cv or 0) for entry in entries])
    tracking = track_cv(entries)
    said = "\n".join(describe(tracking))
    assert f"leaderboard minus CV is {gaps.mean():+.4f} on average (sd {gaps.std(ddof=1):.4f})" in said
    line = tracking.schemes[0].line
    assert line is not None
    assert f"one may be {2 * np.sqrt(2) * line.spread:.4f} higher" in said
    assert "CV tracks the leaderboard" in said
    assert verdict(tracking) == "The CV of group tracks the public leaderboard."


def test_too_little_data_is_said_plainly() -> None:
    tracking = track_cv(points(ENOUGH - 1))
    assert tracking.schemes[0].rank is None
    assert verdict(tracking).startswith(f"Too little data: no scheme has {ENOUGH} submissions")
    assert any("Too few points to say whether CV tracks the leaderboard" in sentence for sentence in describe(tracking))


@pytest.mark.parametrize("direction", [1, -1])
def test_an_interval_that_covers_zero_and_a_narrow_range_are_told_apart(direction: int) -> None:
    rng = np.random.default_rng(15)
    noise = direction * rng.permutation(np.linspace(-1, 1, 12))
    assert 0.1 < abs(spearmanr(range(12), noise).statistic) < 0.4
    for width, expected in (
        (0.05, "the interval covers 0"),
        (0.0002, "nothing can be said, because the CVs differ by less"),
    ):
        cvs = 0.83 + width * np.linspace(-1, 1, 12)
        entries = [
            LedgerEntry(str(place), scheme="group", cv=float(cv), public=float(0.84 + 0.01 * step))
            for place, (cv, step) in enumerate(zip(cvs, noise, strict=True))
        ]
        tracking = track_cv(entries)
        assert expected in "\n".join(describe(tracking))
        assert verdict(tracking) == "No scheme's CV can be said to track the public leaderboard."


def test_a_reversed_order_is_no_tracking() -> None:
    said = "\n".join(describe(track_cv(points(12, slope=-1.0))))
    assert "the order is reversed" in said
    assert "No scheme's CV can be said to track" in said


def test_which_of_cv_nested_and_expected_is_closest() -> None:
    entries = [
        replace(entry, nested=(entry.public or 0) + 0.003, expected=(entry.public or 0) - 0.001) for entry in points(9)
    ]
    tracking = track_cv([*entries, LedgerEntry("cv only", scheme="group", cv=0.2, public=0.8)])
    found = {item.name: item for item in tracking.closeness}
    assert list(found) == ["cv", "nested", "expected"]
    assert {item.n for item in found.values()} == {9}
    assert found["nested"].bias == pytest.approx(0.003)
    assert found["expected"].error == pytest.approx(0.001)
    assert any("expected is closest." in sentence for sentence in describe(tracking))
    assert any("with 3 submissions do not rely" in sentence for sentence in describe(track_cv(entries[:3])))


def test_the_private_leaderboard_can_be_asked_too() -> None:
    entries = [replace(entry, private=(entry.cv or 0) + 0.05) for entry in points(9, slope=-1.0)]
    tracking = track_cv(entries, board="private")
    assert tracking.schemes[0].offset == pytest.approx(0.05)
    assert verdict(tracking) == "The CV of group tracks the private leaderboard."


# --- the example


def test_the_example_holds_the_memos_scores() -> None:
    noted = {name: experiment.record for name, experiment in load_memo().items()} | read_memo()["ensembles"]
    recorded = {
        name: (record.get("cv"), record["lb"], record.get("split")) for name, record in noted.items() if "lb" in record
    }
    entries = {entry.submission: entry for entry in read_ledger(MEMO_LEDGER)}
    assert len(entries) == 30
    unlisted = set(entries) - set(recorded)
    for name, (cv, lb, split) in recorded.items():
        assert (entries[name].cv, entries[name].public) == (cv, lb), name
        if split:
            assert entries[name].split_hash == f"memo-{split}", name
    assert unlisted <= {"baseline", "baseline_ernie"}


def test_the_example_flags_plain_k_fold_and_says_that_grouped_cv_tracks() -> None:
    tracking = track_cv(read_ledger(MEMO_LEDGER))
    rows = {row.entry.submission: row for row in tracking.rows}
    leaking = {name for name, row in rows.items() if "leaking" in flag_names(row.flags)}
    assert leaking == {"exp001", "exp003"} == {name for name, row in rows.items() if row.entry.scheme == "kfold"}
    assert {flag_names(rows[name].flags) for name in leaking} == {"leaking (scheme, shown)"}
    assert {name for name, row in rows.items() if "out of line" in flag_names(row.flags)} == {"exp009", "exp021"}

    grouped = [row.entry for row in tracking.rows if row.entry.scheme == "stratified_group"]
    summary = next(scheme for scheme in tracking.schemes if scheme.name == "stratified_group")
    assert summary.n == len(grouped) == 26
    assert summary.rank is not None
    columns = np.array([(entry.cv, entry.public) for entry in grouped], dtype=float)
    assert summary.rank.value == pytest.approx(spearmanr(*columns.T).statistic)
    assert verdict(tracking).startswith("The CV of stratified_group tracks the public leaderboard; that of kfold leaks")


def test_without_its_split_the_examples_leak_is_still_seen() -> None:
    entries = [replace(entry, scheme="unknown", split_hash="") if entry.scheme == "kfold" else entry
               for entry in read_ledger(MEMO_LEDGER)]  # fmt: skip
    flagged = {row.entry.submission for row in track_cv(entries).rows if flag_names(row.flags) == "leaking (shown)"}
    assert flagged == {"exp001", "exp003"}


# --- the command line


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """A submission with its manifest, as `blendfold blend` leaves them."""
    folder = tmp_path / "runs" / "demo" / "blends" / "first"
    folder.mkdir(parents=True)
    content = b"id,score\na,0.5\nb,0.25\n"
    (folder / "submission.csv").write_bytes(content)
    manifest = {
        "file": "submission.csv",
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": 2,
        "clipped": 0,
        "blend": "first",
        "method": "nelder-mead",
        "metric": "pearson",
        "members": {"0123456789ab": 0.75, "ba9876543210": 0.25},
        "study": ["demo", "more"],
        "data_hash": "d" * 64,
        "split_hash": "5" * 8,
        "scheme": "stratified_group",
        "n_folds": 4,
        "cv": 0.5887,
        "nested": 0.5845,
        "expected": None,
        "version": "0.2.0",
    }
    (folder / "submission.json").write_text(json.dumps(manifest))
    return folder / "submission.csv"


def test_add_takes_everything_from_the_manifest(tmp_path: Path, submission: Path) -> None:
    path = tmp_path / "ledger.csv"
    printed = blend("ledger", "add", "--submission", submission, "--public", ".6", "--note", "hello", "--ledger", path)
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "submission": str(submission),
        "sha256": hashlib.sha256(submission.read_bytes()).hexdigest(),
        "blend": "first",
        "study": "demo+more",
        "members": "0123456789ab:0.75 ba9876543210:0.25",
        "method": "nelder-mead",
        "scheme": "stratified_group",
        "n_folds": "4",
        "split_hash": "55555555",
        "metric": "pearson",
        "cv": "0.5887",
        "nested": "0.5845",
        "expected": "",
        "public": "0.6",
        "private": "",
        "note": "hello",
    }
    assert str(path) in printed.splitlines()[-1]
    assert "ledger show" in printed.splitlines()[-1]


def test_of_many_that_add_at_once_none_loses_a_row(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def add_one(number: int) -> None:
        file = tmp_path / f"team{number}.csv"
        file.write_text(f"id,score\na,{number}\n")
        together.wait()
        add(submission=str(file), public=0.5, cv=0.7, ledger=str(tmp_path / "ledger.csv"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(8)))
    assert len(read_ledger(tmp_path / "ledger.csv")) == 8


def test_the_same_file_again_updates_its_row_and_says_so(tmp_path: Path, submission: Path) -> None:
    path = tmp_path / "ledger.csv"
    foreign = tmp_path / "team.csv"
    foreign.write_text("id,score\na,1\n")
    blend("ledger", "add", "--submission", submission, "--public", ".6", "--ledger", path)
    blend(
        "ledger", "add", "--submission", foreign, "--public", ".5", "--cv", ".7", "--scheme", "kfold", "--ledger", path
    )
    printed = blend("ledger", "add", "--submission", submission.parent, "--private", "0.61", "--ledger", path)
    assert "first was already in the ledger: private - is now 0.61" in printed
    again = blend("ledger", "add", "--submission", foreign, "--public", ".5", "--ledger", path)
    assert "nothing changed" in again
    first, second = read_ledger(path)
    assert (first.blend, first.public, first.private) == ("first", 0.6, 0.61)
    assert (second.submission, second.cv, second.scheme, second.public) == (str(foreign), 0.7, "kfold", 0.5)
    with pytest.raises(InputError, match="already has this file; change its CV"):
        blend("ledger", "add", "--submission", foreign, "--public", ".5", "--cv", ".8", "--ledger", path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--public", "85.04"], r"public 85.04: a pearson score lies in \[-1, 1\]; write .8504, not 85.04"),
        (["--private", "nan"], "a score must be a finite number"),
        ([], "--public, --private or both"),
        (["--public", ".8", "--cv", ".8"], "already has what --cv would give"),
    ],
)
def test_add_refuses_and_leaves_the_ledger_alone(
    tmp_path: Path, submission: Path, arguments: list[str], match: str
) -> None:
    path = tmp_path / "ledger.csv"
    with pytest.raises(InputError, match=match):
        blend("ledger", "add", "--submission", submission, *arguments, "--ledger", path)
    assert not path.exists()


def test_add_refuses_a_file_that_is_not_the_manifests_or_has_none(tmp_path: Path, submission: Path) -> None:
    add = ("ledger", "add", "--public", ".8", "--ledger", tmp_path / "ledger.csv", "--submission")
    submission.write_bytes(submission.read_bytes() + b"c,0.1\n")
    with pytest.raises(InputError, match=r"is not the file that .*submission.json describes"):
        blend(*add, submission)
    submission.with_suffix(".json").write_text("[]")
    with pytest.raises(InputError, match="it holds list, not names with values"):
        blend(*add, submission)
    submission.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"has no manifest .*--cv, .*--scheme"):
        blend(*add, submission)
    with pytest.raises(InputError, match="scheme 'random' is unknown"):
        blend(*add, submission, "--cv", ".8", "--scheme", "random")
    with pytest.raises(InputError, match="no such file"):
        blend(*add, tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="a local file"):
        blend("ledger", "add", "--public", ".8", "--submission", submission, "--ledger", "s3://bucket/ledger.csv")


def test_show_prints_every_row_the_reasons_and_the_verdict() -> None:
    printed = blend("ledger", "show", "--ledger", MEMO_LEDGER)
    for entry in read_ledger(MEMO_LEDGER):
        assert re.search(rf"│ {entry.submission} +│", printed), entry.submission
    assert "exp001, exp003: leaking: kfold does not keep groups together" in printed
    assert "exp003: leaking: its CV is 0.0385 better than that of grouped submissions" in printed
    assert printed.splitlines()[-1].startswith("The CV of stratified_group tracks the public leaderboard")
    with pytest.raises(InputError, match="no submission has both a cv and a private score"):
        blend("ledger", "show", "--board", "private", "--ledger", MEMO_LEDGER)


def test_show_gives_another_program_the_same(tmp_path: Path) -> None:
    blend("ledger", "show", "--ledger", MEMO_LEDGER, "--csv", tmp_path / "rows.csv")
    tracking = track_cv(read_ledger(MEMO_LEDGER))
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["submission"] for row in rows] == [row.entry.submission for row in tracking.rows]
    found = [float(row["residual"]) if row["residual"] else None for row in rows]
    assert found == [row.residual for row in tracking.rows]
    assert rows[1]["flags"].split()[0] == "leaking:scheme"


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_plot_draws_every_point_and_names_the_flagged(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"memo.{kind}"
    printed = blend("ledger", "plot", "--ledger", MEMO_LEDGER, "--out", out)
    assert str(out) in printed
    drawn = out.read_bytes()
    assert len(drawn) > 20_000
    assert drawn == render_picture(track_cv(read_ledger(MEMO_LEDGER)), kind)
    if kind == "png":
        assert drawn.startswith(b"\x89PNG")
        return
    text = drawn.decode()
    for words in (
        "exp001",
        "exp003",
        "exp009",
        "exp021",
        "kfold memo-K (2)",
        "stratified_group memo-B (14)",
        "leaking",
    ):
        assert words in text, words
    assert "exp018" not in text


def test_plot_refuses_another_kind_and_draws_a_single_point(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the suffix must be one of .svg, .png, .pdf"):
        blend("ledger", "plot", "--ledger", MEMO_LEDGER, "--out", tmp_path / "memo.jpeg")
    assert b"scheme not known (1)" in render_picture(track_cv([LedgerEntry("a", cv=0.8, public=0.81)]), "svg")


def test_names_are_no_formulas_in_a_picture() -> None:
    names = ["$x$", r"$\frac{", "bell\x07\x1b[31m", "<b>"]
    leaking = [LedgerEntry(name, scheme="kfold", cv=0.8, public=0.81) for name in names]
    picture = render_picture(track_cv(leaking), "svg").decode()
    ElementTree.fromstring(picture)
    for drawn in ("$x$", r"$\frac{", r"bell\x07\x1b[31m", "&lt;b&gt;"):
        assert drawn in picture


def test_the_next_command_keeps_the_board(tmp_path: Path) -> None:
    ledger = tmp_path / "my ledger.csv"
    write_ledger([LedgerEntry("a", cv=0.8, private=0.81)], ledger)
    printed = blend("ledger", "plot", "--board", "private", "--ledger", ledger, "--out", tmp_path / "a.svg")
    assert f"blendfold ledger show --board private --ledger '{ledger}'" in printed


def test_the_command_fails_with_the_message_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blend", "ledger", "show", "--ledger", tmp_path / "none.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
