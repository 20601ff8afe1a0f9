"""Draw blend quality against compute, one line for each scheduler of a replay.

    python benchmarks/plot_replay.py RUN_OR_KEPT_FOLDER --out blend-against-compute.svg [--orders 200] [--workers 4]

A line shows the nested Pearson of the blend of the candidates completed so far: the mean over orders of arrival, from
the point where every order has completed one. The dot is where the scheduler ends on average. The band around the
ladder's line holds the middle 80 % of orders. Random search is the full grid, taken candidate by candidate. The dashed
line is the full grid; its band is one standard error of the paired difference to what the ladder ends with (bootstrap
over groups).
"""

import argparse

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from search.replay.ladder_option import read_ladder_option
from search.replay.recording import read_recording
from search.replay.replay_search import Replay, SchedulerSummary, replay

NAMES = {"full grid": "random search", "Wilcoxon pruner": "Optuna's Wilcoxon pruner"}
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#cc79a7", "#009e73", "#7f7f7f")


def picture(found: Replay) -> Figure:
    """Draw the lines of all schedulers; random search of fixed sizes is part of the full grid's line."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in found.summaries if row.blend is not None and not row.name.startswith("random")]
    for row, colour in zip(rows, COLOURS, strict=True):
        _draw(axes, row, colour, is_ladder=row is rows[0])
    ladder = rows[0].blend
    assert ladder is not None
    band = (found.grid_blend - ladder.standard_error, found.grid_blend + ladder.standard_error)
    axes.axhline(found.grid_blend, color="black", linestyle="--", linewidth=1, label="every candidate on every fold")
    axes.axhspan(*band, color="black", alpha=0.08)
    axes.set_xlabel("compute, as a share of training every candidate on every fold")
    axes.set_ylabel("Pearson of the blend, nested")
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlim(0.2, 1.02)
    widest = max(found.grid_blend - row.blend.score.mean for row in rows if row.blend is not None)
    room = max(6 * widest, 6 * ladder.standard_error)
    axes.set_ylim(found.grid_blend - room, found.grid_blend + room / 8)
    axes.set_title(
        f"What a blend scores for the compute spent ({len(found.recording.candidates)} candidates, "
        f"mean of {found.n_orders} orders of arrival)",
        fontsize=11,
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", title="where each scheduler ends, on average", title_fontsize=9, fontsize=9)
    return figure


def _draw(axes: Axes, row: SchedulerSummary, colour: str, *, is_ladder: bool) -> None:
    assert row.blend is not None
    label = f"{NAMES.get(row.name, row.name)}: {row.blend.score.mean:.4f} at {row.cost.mean:.0%}"
    if row.blend.curve:
        shares, means, lows, highs = zip(*row.blend.curve, strict=True)
        axes.plot(shares, means, color=colour, linewidth=2.6 if is_ladder else 1.4, label=label, zorder=3)
        if is_ladder:
            axes.fill_between(shares, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.plot(row.cost.mean, row.blend.score.mean, "o", color=colour, markersize=9 if is_ladder else 6, zorder=4)


def main() -> None:
    """Read, play, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", help="a run directory, or a folder from `blendfold replay RUN --keep DIR`")
    parser.add_argument("--out", required=True, help="picture to write: .svg, .png or .pdf")
    parser.add_argument("--ladder", help="settings of the ladder, as for `blendfold replay`")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recording = read_recording(given.curves)
    if recording.rows is None:
        parser.error(f"{given.curves} holds no predictions, so no blend can be scored")
    settings = read_ladder_option(given.ladder).for_metric(recording.metric)
    found = replay(recording, settings, n_orders=given.orders, n_workers=given.workers, seed=given.seed, progress=print)
    with mpl.rc_context({"svg.hashsalt": "blendfold", "svg.fonttype": "none"}):
        metadata = {"Date": None} if given.out.endswith(".svg") else None
        picture(found).savefig(given.out, metadata=metadata)
    print(f"wrote {given.out}; the numbers: blendfold replay {given.curves}")


if __name__ == "__main__":
    main()
