"""Prints a replay as tables and sentences."""

from rich.console import Group
from rich.table import Table

from data_prep.wording import count
from search.replay.replay_search import Replay, SchedulerSummary, Spread


def replay_report(found: Replay) -> Group:
    """Return the table of schedulers, that of blends where predictions are known, and what was not replayed."""
    recording = found.recording
    families = len({candidate.family for candidate in recording.candidates})
    clock = "seconds as recorded" if recording.is_timed else "an epoch takes equally long for every candidate"
    notes = [
        f"{count(len(recording.candidates), 'candidate')} of {count(families, 'family', 'families')} on "
        f"{recording.n_folds} folds, "
        f"{recording.epochs:g} fold-epochs; {count(found.n_orders, 'order')} of arrival, "
        f"{count(found.n_workers, 'worker')} ({clock})",
        *recording.left_out,
        "A score is the mean over folds at the end of each run. Over orders: mean ± standard deviation, range.",
    ]
    if recording.rows is None:
        notes.append("The recording has no predictions: the ladder decides without blends, and no blend is scored.")
    tables = [_main_table(found), *([_blend_table(found)] if recording.rows is not None else [])]
    return Group(*notes, *tables)


def _main_table(found: Replay) -> Table:
    table = Table(title="What each scheduler spends and keeps")
    for heading in ("scheduler", "fold-epochs of the grid", "regret of the best", "families", "completed"):
        table.add_column(heading, justify="left" if heading == "scheduler" else "right")
    for member in found.members:
        table.add_column(f"{member} kept", justify="right")
    for row in found.summaries:
        table.add_row(
            row.name,
            _text(row.cost, ".1%"),
            _regret(row),
            _text(row.families, ".1f"),
            _text(row.completed, ".1f"),
            *(f"{share:.1%}" for share in row.members),
        )
    return table


def _blend_table(found: Replay) -> Table:
    table = Table(
        title=f"Nested blended Pearson, mean over folds; full grid {found.grid_blend:.4f}",
        caption="weights >= 0, fitted without the scored fold; SE: bootstrap over groups of the paired difference",
    )
    for heading in ("scheduler", "score", "behind the full grid", "SE", "orders within one SE"):
        table.add_column(heading, justify="left" if heading == "scheduler" else "right")
    for row in found.summaries:
        if row.blend is not None:
            table.add_row(
                row.name,
                _text(row.blend.score, ".4f"),
                _text(row.blend.behind, "+.4f"),
                f"{row.blend.standard_error:.4f}",
                f"{row.blend.within:.1%}",
            )
    return table


def _text(value: Spread, form: str) -> str:
    plain = form.removeprefix("+")
    return f"{value.mean:{form}} ± {value.sd:{plain}}\n{value.low:{form}} to {value.high:{form}}"


def _regret(row: SchedulerSummary) -> str:
    if row.empty == 1:
        return "none completed"
    return _text(row.regret, ".4f") + (f"\nnone completed in {row.empty:.1%}" if row.empty else "")
