"""`CvVsLeaderboard`: whether CV tracks the leaderboard, which submissions are outliers, and which CVs leak."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blend.ledger.ledger_entry import LedgerEntry
from data_prep.prepare.folds import GROUPED_SCHEMES, SCHEMES
from data_prep.scoring.metrics import METRICS, spearman

FEW = 4
"""With fewer points, no offset is fitted."""
ENOUGH = 8
"""With fewer points, neither a line nor a rank correlation is fitted."""
LIMIT = 3.0
"""Robust standard deviations beyond which a submission is flagged."""
LEAK_LIMIT = 4.0
"""Robust standard deviations by which a CV must be too good before it is called leaking, which is a grave claim."""
LEAST_SPREAD = 0.0005
"""Lower bound of every robust standard deviation: scores are written with three or four digits."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""
LEAKING_SCHEMES = tuple(scheme for scheme in SCHEMES if scheme not in GROUPED_SCHEMES)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A robust line from CV to leaderboard score: `slope * cv + intercept`."""

    slope: float
    """1 if there are too few points for a line; then only the offset is fitted."""
    intercept: float
    spread: float
    """Robust standard deviation of the residuals."""
    n: int
    of: str
    """Name of the split or scheme that it is fitted to."""

    def at(self, cv: float) -> float:
        """Return the leaderboard score on the line for a CV."""
        return self.slope * cv + self.intercept


@dataclass(frozen=True)
class Flag:
    """A reason not to trust a submission's CV, or to look at it again."""

    kind: str
    """`leaking` or `out of line`."""
    by: str
    """`scheme`: because of its split scheme; `shown`: because of its scores."""
    reason: str


@dataclass(frozen=True)
class TrackedSubmission:
    """A submission, compared with the line of its split."""

    entry: LedgerEntry
    line: Line | None
    residual: float | None
    """Leaderboard score minus the score on the line."""
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of CV with the leaderboard, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SplitSummary:
    """How the CVs of one scheme, or of one of its splits, relate to the leaderboard."""

    name: str
    scheme: str
    splits: tuple[str, ...]
    n: int
    offset: float
    """Mean of leaderboard score minus CV."""
    offset_sd: float | None
    """None for a single point."""
    cv_sd: float | None
    line: Line | None
    rank: RankCorrelation | None
    """None below `ENOUGH` points, or if all CVs or all leaderboard scores are equal."""
    upper: RankCorrelation | None
    """Of the half with the better CVs, from which one chooses; None if that half has fewer than `ENOUGH` points."""
    excess: float | None
    """How much better its CVs are, on average, than those of grouped submissions with the same leaderboard score."""


@dataclass(frozen=True)
class Closeness:
    """How close a score that is known before submitting is to the leaderboard, over the same submissions."""

    name: str
    """`cv`, `nested` or `expected`."""
    n: int
    bias: float
    """Mean of the score minus the leaderboard's."""
    error: float
    """Mean absolute difference."""


@dataclass(frozen=True)
class CvVsLeaderboard:
    """Everything that a ledger shows."""

    board: str
    """`public` or `private`."""
    rows: tuple[TrackedSubmission, ...]
    """In the order of the ledger."""
    schemes: tuple[SplitSummary, ...]
    splits: tuple[SplitSummary, ...]
    """Splits of the schemes that have several."""
    closeness: tuple[Closeness, ...]


def fit_line(cv: ArrayLike, board: ArrayLike, *, of: str = "") -> Line | None:
    """Fit a robust line (Theil-Sen) of leaderboard score on CV; None below `FEW` points.

    The slope is the median of the slopes through all pairs of points, the intercept the median of `board - slope * cv`.
    Below `ENOUGH` points, or where all CVs are equal, only that median is fitted, with slope 1.

    The spread is 1.4826 times the median absolute residual, times n / (n - k - 1) for k fitted numbers. With this
    factor, about one in nine ledgers with normal errors and 4 to 26 points has a point beyond 3 spreads (without it,
    one in three).
    """
    from scipy.stats import theilslopes  # noqa: PLC0415 - slow to import

    x, y = np.asarray(cv, dtype=np.float64), np.asarray(board, dtype=np.float64)
    if len(x) < FEW:
        return None
    sloped = len(x) >= ENOUGH and bool(np.ptp(x) > 0.0)
    slope = float(theilslopes(y, x)[0]) if sloped else 1.0
    intercept = float(np.median(y - slope * x))
    return Line(slope, intercept, _spread(y - slope * x - intercept, n_fitted=2 if sloped else 1), len(x), of)


def _spread(residuals: Floats, *, n_fitted: int) -> float:
    """Return the robust standard deviation of residuals whose median is 0."""
    raw = NORMAL_MAD * float(np.median(np.abs(residuals)))
    return max(raw * len(residuals) / (len(residuals) - n_fitted - 1), LEAST_SPREAD)


def rank_correlation(cv: ArrayLike, board: ArrayLike) -> RankCorrelation | None:
    """Return Spearman's rank correlation; None below `ENOUGH` points, or where one side is constant.

    The interval is `tanh(atanh(r) ± 1.96 sqrt((1 + r**2 / 2) / (n - 3)))` (Bonett & Wright, 2000, Psychometrika 65).
    For 8 to 26 normal points its simulated coverage is 94 to 97 %; for 6 points it can be 86 %, hence `ENOUGH`.
    """
    x, y = np.asarray(cv, dtype=np.float64), np.asarray(board, dtype=np.float64)
    if len(x) < ENOUGH or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    value = spearman(x, y)
    centre = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    half = NormalDist().inv_cdf(0.975) * np.sqrt((1 + value**2 / 2) / (len(x) - 3))
    low, high = np.tanh([centre - half, centre + half]).tolist()
    return RankCorrelation(value, low, high, len(x))


def track_cv(entries: Sequence[LedgerEntry], *, board: str = "public") -> CvVsLeaderboard:
    """Compare CV and leaderboard over a whole ledger with one metric, where a submission has both.

    A submission's line is that of its split (scheme and hash) if that has `ENOUGH` points, else that of its scheme.
    """
    scored = [entry for entry in entries if _is_scored(entry, board)]
    schemes = list(dict.fromkeys(entry.scheme for entry in scored))
    lines = {scheme: _line([e for e in scored if e.scheme == scheme], board, scheme) for scheme in schemes}
    for split in dict.fromkeys(entry.split for entry in scored):
        points = [entry for entry in scored if entry.split == split]
        if len(points) >= ENOUGH:
            lines[split] = _line(points, board, split)
    rows = tuple(_compare_one(entry, lines, scored, board) for entry in entries)
    summaries = tuple(
        _summary(scheme, [e for e in scored if e.scheme == scheme], scored, board, lines[scheme]) for scheme in schemes
    )
    splits = tuple(
        _summary(split, [e for e in scored if e.split == split], scored, board, lines.get(split))
        for scheme in summaries
        if len(scheme.splits) > 1
        for split in scheme.splits
    )
    return CvVsLeaderboard(board, rows, summaries, splits, _closeness(scored, board))


def _board_score(entry: LedgerEntry, board: str) -> float:
    score: float | None = getattr(entry, board)
    assert score is not None
    return score


def _cv(entry: LedgerEntry) -> float:
    assert entry.cv is not None
    return entry.cv


def _is_scored(entry: LedgerEntry, board: str) -> bool:
    return entry.cv is not None and getattr(entry, board) is not None


def _columns(entries: Sequence[LedgerEntry], board: str) -> tuple[Floats, Floats]:
    return np.array([_cv(entry) for entry in entries]), np.array([_board_score(entry, board) for entry in entries])


def _line(entries: Sequence[LedgerEntry], board: str, of: str) -> Line | None:
    return fit_line(*_columns(entries, board), of=of)


def _compare_one(
    entry: LedgerEntry, lines: dict[str, Line | None], scored: Sequence[LedgerEntry], board: str
) -> TrackedSubmission:
    if not _is_scored(entry, board):
        return TrackedSubmission(entry, None, None, _scheme_flags(entry))
    line = lines.get(entry.split) or lines[entry.scheme]
    residual = None if line is None else _board_score(entry, board) - line.at(_cv(entry))
    flags = [*_scheme_flags(entry), *_leak_flags(entry, scored, board)]
    if line is not None and residual is not None and abs(residual) > LIMIT * line.spread:
        side = "above" if residual > 0 else "below"
        reason = (
            f"its {board} score is {abs(residual):.4f} {side} the line of {line.of} ({_times(residual, line.spread)}): "
            "check that it is the model that was validated"
        )
        flags.append(Flag("out of line", "shown", reason))
    return TrackedSubmission(entry, line, residual, tuple(flags))


def _times(distance: float, spread: float) -> str:
    return f"{abs(distance) / spread:.1f} robust standard deviations"


def _scheme_flags(entry: LedgerEntry) -> tuple[Flag, ...]:
    if entry.scheme not in LEAKING_SCHEMES:
        return ()
    reason = f"{entry.scheme} does not keep groups together, so its models were trained on the groups that CV scores"
    return (Flag("leaking", "scheme", reason),)


def _leak_flags(entry: LedgerEntry, scored: Sequence[LedgerEntry], board: str) -> tuple[Flag, ...]:
    """Flag a CV too good for its leaderboard score, by their offset: a leaking CV is outside the line's range."""
    others = [other for other in scored if other.scheme in GROUPED_SCHEMES and other is not entry]
    if len(others) < FEW:
        return ()
    gaps = np.array([_gap(other, board) for other in others])
    centre = float(np.median(gaps))
    spread = _spread(gaps - centre, n_fitted=1)
    excess = centre - _gap(entry, board)
    if excess <= LEAK_LIMIT * spread:
        return ()
    reason = (
        f"its CV is {excess:.4f} better than that of grouped submissions with its {board} score "
        f"({_times(excess, spread)})"
    )
    if entry.scheme not in LEAKING_SCHEMES:
        reason += ": an unexpected leak, or not the model that was validated"
    return (Flag("leaking", "shown", reason),)


def _gap(entry: LedgerEntry, board: str) -> float:
    """Return how much better the leaderboard score is than the CV."""
    metric = METRICS[entry.metric]
    return metric.utility(_board_score(entry, board)) - metric.utility(_cv(entry))


def _summary(
    name: str, entries: Sequence[LedgerEntry], scored: Sequence[LedgerEntry], board: str, line: Line | None
) -> SplitSummary:
    x, y = _columns(entries, board)
    grouped = [_gap(other, board) for other in scored if other.scheme in GROUPED_SCHEMES]
    scheme = entries[0].scheme
    excess = None
    if len(grouped) >= FEW and scheme not in GROUPED_SCHEMES:
        excess = float(np.median(grouped) - np.mean([_gap(entry, board) for entry in entries]))
    better = x * METRICS[entries[0].metric].utility(1.0)
    top = better >= np.median(better)
    return SplitSummary(
        name=name,
        scheme=scheme,
        splits=tuple(dict.fromkeys(entry.split for entry in entries)),
        n=len(entries),
        offset=float(np.mean(y - x)),
        offset_sd=float(np.std(y - x, ddof=1)) if len(x) > 1 else None,
        cv_sd=float(np.std(x, ddof=1)) if len(x) > 1 else None,
        line=line,
        rank=rank_correlation(x, y),
        upper=rank_correlation(x[top], y[top]),
        excess=excess,
    )


def _closeness(scored: Sequence[LedgerEntry], board: str) -> tuple[Closeness, ...]:
    """Compare cv, nested and expected, over the submissions that have all of those that occur in the ledger."""
    names = [name for name in ("cv", "nested", "expected") if any(getattr(e, name) is not None for e in scored)]
    entries = [entry for entry in scored if all(getattr(entry, name) is not None for name in names)]
    if len(names) < 2 or not entries:
        return ()
    found = []
    for name in names:
        differences = np.array([getattr(entry, name) - _board_score(entry, board) for entry in entries])
        found.append(Closeness(name, len(entries), float(differences.mean()), float(np.abs(differences).mean())))
    return tuple(found)
