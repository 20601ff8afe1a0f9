"""`track_ledger`: a ledger file, compared with a leaderboard."""

from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, track_cv
from blend.ledger.ledger_file import read_ledger
from data_prep.errors import InputError


def track_ledger(ledger: str, board: str) -> CvVsLeaderboard:
    """Read a ledger and return how its CVs relate to the `public` or `private` leaderboard.

    Raises:
        InputError: the ledger is damaged, or no submission in it has both scores.
    """
    tracking = track_cv(read_ledger(ledger), board=board)
    if not tracking.schemes:
        raise InputError(
            f"{ledger}: no submission has both a cv and a {board} score; add one with `blendfold ledger add`"
        )
    return tracking
