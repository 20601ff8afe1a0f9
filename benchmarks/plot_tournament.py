"""Draw the tournament of a blend: how each way to blend did on rows that it was not fitted on.

    python benchmarks/plot_tournament.py runs/demo/blends/demo/blend.json --out tournament.svg

A dot is the nested metric of a way to blend; its bar reaches one standard error of the difference to the best (paired,
by groups) to each side. Filled dots tie with the best. The vertical lines are the best single candidate and the blend.
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from blend.blend_record import BlendRecord

CHOSEN, OTHER = "#d55e00", "#0072b2"


def picture(blend: BlendRecord) -> Figure:
    """Draw every way to blend, the best at the top."""
    figure = Figure(figsize=(8, 0.25 * len(blend.makings) + 1.5), layout="constrained")
    axes = figure.add_subplot()
    ways = list(blend.makings.items())
    for place, (name, making) in enumerate(ways):
        color = CHOSEN if name == blend.method else OTHER
        filled = color if making.behind.is_noise else "white"
        error = making.behind.standard_error
        axes.errorbar(making.nested, -place, xerr=error, fmt="o", color=color, markerfacecolor=filled, capsize=2)
    axes.set_yticks([-place for place in range(len(blend.makings))], [name for name, _ in ways], fontsize=9)
    for key, label, style in (("best_single", "best single model", ":"), ("blend", "the blend", "--")):
        value = blend.scores[key].nested.pooled
        axes.axvline(value, color="black", linestyle=style, linewidth=1, label=f"{label}: {value:.4f}", zorder=0)
    axes.set_xlabel(f"{blend.metric}, nested (all folds together)")
    axes.set_title(f"{len(blend.makings)} ways to blend; written: {blend.method}", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", fontsize=9)
    return figure


def main() -> None:
    """Read and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blend", type=Path, help="a blend.json")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = json.loads(options.blend.read_text())
    record.pop("seal", None)
    with mpl.rc_context({"svg.hashsalt": "tournament", "svg.fonttype": "none"}):
        picture(BlendRecord.model_validate(record)).savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
