"""The ledger's evidence as tables and sentences for the console."""

import math
from collections.abc import Callable

from rich.table import Table

from blend.ledger.cv_vs_leaderboard import (
    ENOUGH,
    FEW,
    LEAKING_SCHEMES,
    Closeness,
    CvVsLeaderboard,
    Flag,
    RankCorrelation,
    SplitSummary,
    TrackedSubmission,
)
from blend.ledger.ledger_entry import UNKNOWN
from data_prep.wording import count

ABSENT = "-"


def row_table(tracking: CvVsLeaderboard) -> Table:
    """Return every submission with its scores, its residual and its flags."""
    entries = [row.entry for row in tracking.rows]
    scores = [
        name
        for name in ("cv", "nested", "expected", "public", "private")
        if name in ("cv", "public") or any(getattr(entry, name) is not None for entry in entries)
    ]
    table = Table(
        title=f"{count(len(entries), 'submission')}; residual: {tracking.board} score minus the line of its split"
    )
    table.add_column("submission", overflow="fold")
    table.add_column("split", overflow="fold", min_width=10)
    for name in (*scores, "residual"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flags", overflow="fold")
    for row in tracking.rows:
        cells = [_number(getattr(row.entry, name)) for name in scores]
        table.add_row(row.entry.title, row.entry.split, *cells, _signed(row.residual), flag_names(row.flags))
    return table


def flag_names(flags: tuple[Flag, ...]) -> str:
    """Return the kinds of flags, each once; for a leak, also how it was found."""
    ways = [flag.by for flag in flags if flag.kind == "leaking"]
    names = [f"leaking ({', '.join(ways)})"] if ways else []
    return "; ".join([*names, *(flag.kind for flag in flags if flag.kind != "leaking")])


def split_table(tracking: CvVsLeaderboard) -> Table:
    """Return how the CVs of each scheme, and of each of its splits, relate to the leaderboard."""
    table = Table(title=f"CV against {tracking.board} leaderboard; rank: Spearman with its 95 % interval")
    table.add_column("split", overflow="fold", min_width=10)
    for name in ("points", "LB - CV", "sd", "rank", "interval", "line", "residuals"):
        table.add_column(name, justify="right")
    for scheme in tracking.schemes:
        table.add_row(scheme.name, *_summary_cells(scheme), style="bold" if len(scheme.splits) > 1 else None)
        if len(scheme.splits) > 1:
            for split in tracking.splits:
                if split.scheme == scheme.name:
                    table.add_row(f"  {split.name}", *_summary_cells(split))
    return table


def _summary_cells(summary: SplitSummary) -> tuple[str, ...]:
    rank, line = summary.rank, summary.line
    return (
        str(summary.n),
        _signed(summary.offset),
        _number(summary.offset_sd),
        ABSENT if rank is None else f"{rank.value:.2f}",
        ABSENT if rank is None else f"{rank.low:.2f} to {rank.high:.2f}",
        ABSENT if line is None else f"{line.slope:.2f} CV {line.intercept:+.4f}",
        ABSENT if line is None else f"{line.spread:.4f}",
    )


def describe(tracking: CvVsLeaderboard) -> list[str]:
    """Return what the ledger shows, one or two sentences a line: flags, schemes, noise, the verdict."""
    sentences = [*_flag_sentences(tracking.rows), *(_scheme_sentence(scheme, tracking) for scheme in tracking.schemes)]
    sentences += [sentence for scheme in tracking.schemes if (sentence := _noise_sentence(scheme, tracking))]
    if tracking.closeness:
        sentences.append(_closeness_sentence(tracking.closeness, tracking.board))
    return [*sentences, verdict(tracking)]


def _flag_sentences(rows: tuple[TrackedSubmission, ...]) -> list[str]:
    """Return each reason; one that follows from the scheme once for all its submissions."""
    declared: dict[str, list[str]] = {}
    single = []
    for row in rows:
        for flag in row.flags:
            if flag.by == "scheme":
                declared.setdefault(flag.reason, []).append(row.entry.title)
            else:
                single.append(f"{row.entry.title}: {flag.kind}: {flag.reason}")
    return [*(f"{', '.join(names)}: leaking: {reason}" for reason, names in declared.items()), *single]


def _scheme_sentence(scheme: SplitSummary, tracking: CvVsLeaderboard) -> str:
    points = count(scheme.n, "point")
    over = f" over {len(scheme.splits)} splits" if len(scheme.splits) > 1 else ""
    head = f"{scheme.name} ({points}{over}): {tracking.board} leaderboard minus CV is {scheme.offset:+.4f} on average"
    head += "" if scheme.offset_sd is None else f" (sd {scheme.offset_sd:.4f})"
    if scheme.excess is not None and scheme.name in LEAKING_SCHEMES:
        head += f", its CV {scheme.excess:+.4f} against grouped submissions with the same leaderboard score"
    return f"{head}. {_order(scheme)}"


def _order(scheme: SplitSummary) -> str:
    """Say whether CV orders submissions like the leaderboard."""
    if scheme.n < ENOUGH:
        return f"Too few points to say whether CV tracks the leaderboard; {ENOUGH} are needed."
    if scheme.rank is None:
        return "All its CVs, or all its leaderboard scores, are equal, so there is no order to compare."
    text = f"Rank correlation of CV with leaderboard {_rank(scheme.rank)}: "
    if scheme.rank.low > 0:
        return text + f"CV tracks the leaderboard.{_upper(scheme.upper)}"
    if scheme.rank.high < 0:
        return text + "the order is reversed; do not choose by this CV."
    if is_narrow(scheme):
        assert scheme.cv_sd is not None
        return text + (
            f"nothing can be said, because the CVs differ by less (sd {scheme.cv_sd:.4f}) than the leaderboard "
            "scatters around their line."
        )
    return text + "the interval covers 0, so there is too little data to say that CV tracks the leaderboard."


def is_narrow(summary: SplitSummary) -> bool:
    """Tell whether CVs differ by less than the residuals, so that no order could be seen even if CV tracked it."""
    return summary.line is not None and summary.cv_sd is not None and summary.cv_sd < summary.line.spread


def _upper(upper: RankCorrelation | None) -> str:
    if upper is None:
        return ""
    text = f" Among the {upper.n} with the best CVs it is {_rank(upper)}"
    return text + (": there too." if upper.low > 0 else ": too few to say that CV orders these.")


def _rank(rank: RankCorrelation) -> str:
    return f"{rank.value:.2f} (95 % interval {rank.low:.2f} to {rank.high:.2f})"


def _noise_sentence(scheme: SplitSummary, tracking: CvVsLeaderboard) -> str | None:
    if scheme.line is None or scheme.name in LEAKING_SCHEMES:
        return None
    spread = scheme.line.spread
    return (
        f"{scheme.name}: submissions scatter by {spread:.4f} (robust sd) around the line, so of two with the same CV "
        f"one may be {2 * math.sqrt(2) * spread:.4f} higher on the {tracking.board} leaderboard (95 %): "
        "a smaller difference there is noise."
    )


def _closeness_sentence(found: tuple[Closeness, ...], board: str) -> str:
    best = min(found, key=lambda item: item.error)
    parts = ", ".join(f"{item.name} {item.error:.4f} (bias {item.bias:+.4f})" for item in found)
    n = found[0].n
    few = f"; with {count(n, 'submission')} do not rely on this" if n < ENOUGH else ""
    return (
        f"Mean distance to the {board} score over {count(n, 'submission')} that have all of them: {parts}; "
        f"{best.name} is closest{few}."
    )


def verdict(tracking: CvVsLeaderboard) -> str:
    """Say which scheme's CV to trust, or that there is too little data."""
    tracks = _names(tracking, lambda scheme: _tracks(scheme) and scheme.name not in LEAKING_SCHEMES)
    leaking = _names(tracking, lambda scheme: scheme.name in LEAKING_SCHEMES)
    if tracks:
        head = f"The CV of {tracks} tracks the {tracking.board} leaderboard"
        return head + (f"; that of {leaking} leaks: do not compare it with the others." if leaking else ".")
    most = max((scheme.n for scheme in tracking.schemes), default=0)
    tail = f" The CV of {leaking} leaks." if leaking else ""
    if most < ENOUGH:
        return (
            f"Too little data: no scheme has {count(ENOUGH, 'submission')} with CV and {tracking.board} score (the "
            f"most is {most}), so none can be said to track the leaderboard; offsets need at least {FEW}.{tail}"
        )
    return f"No scheme's CV can be said to track the {tracking.board} leaderboard.{tail}"


def _tracks(summary: SplitSummary) -> bool:
    return summary.rank is not None and summary.rank.low > 0


def _names(tracking: CvVsLeaderboard, wanted: Callable[[SplitSummary], bool]) -> str:
    return " and ".join(
        "submissions of unknown scheme" if scheme.name == UNKNOWN else scheme.name
        for scheme in tracking.schemes
        if wanted(scheme)
    )


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return ABSENT if value is None else f"{value:+.4f}"
