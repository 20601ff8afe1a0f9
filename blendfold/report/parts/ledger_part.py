"""Part 6, the ledger: CV against the leaderboard."""

from collections.abc import Iterator

from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, SplitSummary
from blend.ledger.ledger_report import describe, flag_names
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.figures.ledger_figures import ledger_figure
from blendfold.report.page.blocks import Block, Column, DataTable, Part, Prose, Remark, Row
from blendfold.report.parts.panels import panels
from data_prep.wording import command


def ledger_part(source: ReportSource) -> Part:
    """Return the part."""
    return Part("ledger", "Ledger", panels("The ledger", lambda: _blocks(source)))


def _blocks(source: ReportSource) -> Iterator[Block]:
    tracking = source.tracking
    if tracking is None:
        blend = source.whole_blend.name if source.whole_blend else "best"
        options = {"--submission": f"{source.run.path}/blends/{blend}", "--public": "SCORE"}
        add = command("blendfold ledger add", options=options)
        yield Remark(f"There is no ledger at {source.ledger_path}. Record a submission’s score with: {add}")
        return
    metric = tracking.rows[0].entry.metric
    yield Prose(describe(tracking), is_list=True)
    if any(row.entry.cv is not None and getattr(row.entry, tracking.board) is not None for row in tracking.rows):
        yield ledger_figure(tracking, metric)
    yield _submissions(tracking)
    if tracking.schemes:
        yield _schemes(tracking)


def _submissions(tracking: CvVsLeaderboard) -> DataTable:
    columns = [
        Column("submission", "submission"),
        Column("split", "split"),
        Column("cv", "CV", 5),
        Column("nested", "nested", 5),
        Column("expected", "expected", 5),
        Column("public", "public", 5),
        Column("private", "private", 5),
        Column("residual", "off the line", 5, signed=True),
        Column("flags", "flags"),
        Column("note", "note"),
    ]
    rows = [
        Row(
            str(place),
            [
                row.entry.title,
                row.entry.split,
                row.entry.cv,
                row.entry.nested,
                row.entry.expected,
                row.entry.public,
                row.entry.private,
                row.residual,
                flag_names(row.flags),
                row.entry.note,
            ],
        )
        for place, row in enumerate(tracking.rows)
    ]
    return DataTable("submissions", "Submissions", columns, rows)


def _schemes(tracking: CvVsLeaderboard) -> DataTable:
    columns = [
        Column("scheme", "split"),
        Column("points", "points", 0),
        Column("offset", "leaderboard − CV", 4, signed=True),
        Column("sd", "sd", 4),
        Column("rank", "rank correlation", 2),
        Column("rank-low", "95 % from", 2),
        Column("rank-high", "to", 2),
        Column("slope", "line: slope", 2),
        Column("intercept", "intercept", 4, signed=True),
        Column("spread", "residuals", 4),
    ]
    rows = [Row(each.name, _summary(each)) for each in (*tracking.schemes, *tracking.splits)]
    return DataTable("schemes", "How CV relates to the leaderboard", columns, rows)


def _summary(each: SplitSummary) -> list[str | float | int | None]:
    rank, line = each.rank, each.line
    return [
        each.name,
        each.n,
        each.offset,
        each.offset_sd,
        *((None, None, None) if rank is None else (rank.value, rank.low, rank.high)),
        *((None, None, None) if line is None else (line.slope, line.intercept, line.spread)),
    ]
