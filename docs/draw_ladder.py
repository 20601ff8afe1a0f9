"""Draws `docs/ladder.svg`: one search of twelve candidates over rungs and folds, played through the real ladder.

    python docs/draw_ladder.py

Predictions are made up (score + an error that a family shares in part); utilities are their Pearson, less what a run
has yet to learn. Beside each bar is the reason as the ladder gave it.
"""

from collections import deque
from html import escape
from pathlib import Path

import numpy as np

from search.ladder.decisions import FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings

N_FOLDS, N_ROWS, N_SLOTS = 4, 20_000, 3
RUNGS = (1 / 3, 2 / 3, 1.0)
FAMILIES = {
    "deberta": (0.18, [0.10, 0.12, 0.15, 0.11, 0.17, 0.13]),
    "electra": (0.20, [0.11, 0.13, 0.17, 0.14]),
    "minilm": (0.25, [0.10, 0.16]),
}
"""Size of the error that the family shares, and of each candidate's own."""
COLOURS = {"deberta": "#2563a8", "electra": "#2f855a", "minilm": "#b7791f"}
LEFT, TOP, COLUMN, ROW = 56, 56, 46, 40


def surface() -> tuple[list[np.ndarray], dict[tuple[str, int], np.ndarray], dict[str, str]]:
    """Return scores by fold, predictions by candidate and fold, and the family of each candidate."""
    generator = np.random.default_rng(5)
    scores = [generator.choice([0.0, 0.25, 0.5, 0.75, 1.0], size=N_ROWS) for _ in range(N_FOLDS)]
    predictions, family = {}, {}
    for name, (shared, own) in FAMILIES.items():
        errors = [generator.normal(size=N_ROWS) for _ in range(N_FOLDS)]
        for number, size in enumerate(own, start=1):
            family[f"{name[0]}{number}"] = name
            for fold, score in enumerate(scores):
                mine = generator.normal(size=N_ROWS)
                predictions[f"{name[0]}{number}", fold] = score + shared * errors[fold] + size * mine
    return scores, predictions, family


def play() -> tuple[FoldLadder, dict[tuple[str, int, float], float], dict[str, str]]:
    """Play the search, three fold runs at a time in turns; return the ladder, the metrics seen, the families."""
    scores, predictions, family = surface()
    ladder, seen = FoldLadder(LadderSettings(), n_folds=N_FOLDS), {}
    fresh = deque(["d1", "e3", "d2", "m1", "d3", "e1", "d5", "e2", "d4", "m2", "e4", "d6"])
    live: deque[tuple[FoldRun, tuple[float, ...]]] = deque()
    while True:
        while len(live) < N_SLOTS:
            run = ladder.next_run(new_available=bool(fresh))
            if run is None and fresh:
                run = FoldRun(fresh[0], family[fresh.popleft()], 0)
            if run is None:
                break
            ladder.start(run)
            live.append((run, RUNGS))
        if not live:
            return ladder, seen, family
        run, (progress, *rest) = live.popleft()
        key = (run.candidate, run.fold)
        metric = float(np.corrcoef(predictions[key], scores[run.fold])[0, 1]) - 0.06 * (1 - progress)
        seen[*key, progress] = metric
        if progress == 1:
            ladder.finish(run, metric, predictions[key], scores[run.fold])
        elif ladder.report(run, progress, metric).go:
            live.append((run, tuple(rest)))


def place(fold: int, progress: float) -> float:
    """Return the abscissa of a point."""
    return LEFT + COLUMN * (3 * progress if fold == 0 else 3.4 + fold)


def draw() -> str:
    """Return the picture."""
    ladder, seen, family = play()
    outcomes = ladder.status()
    names = sorted(outcomes, key=lambda name: (list(FAMILIES).index(family[name]), name))
    right = place(N_FOLDS - 1, 1) + 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1010 {TOP + ROW * len(names) + 12}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        "<title>One search of twelve candidates on the fold ladder</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    heads = [(place(0, p), f"{p:.0%}") for p in RUNGS] + [(place(k, 1), f"fold {k}") for k in range(1, N_FOLDS)]
    lines += [f'<text x="{x:.0f}" y="44" text-anchor="middle" fill="#555">{text}</text>' for x, text in heads]
    lines.append(f'<text x="{place(0, 0.5):.0f}" y="24" text-anchor="middle" fill="#222">fold 0</text>')
    lines.append(f'<text x="{place(2, 1):.0f}" y="24" text-anchor="middle" fill="#222">later folds</text>')
    lines += [f'<path d="M{x:.0f} 50V{TOP + ROW * len(names)}" stroke="#e5e5e5"/>' for x, _ in heads]
    for row, name in enumerate(names):
        points = {key[1:]: metric for key, metric in seen.items() if key[0] == name}
        lines += bar(TOP + ROW * row + ROW / 2, name, COLOURS[family[name]], points, outcomes[name].state)
        lines += note(TOP + ROW * row + ROW / 2, right, outcomes[name].reason)
    return "\n".join([*lines, "</svg>", ""])


def bar(y: float, name: str, colour: str, points: dict[tuple[int, float], float], state: str) -> list[str]:
    """Return how far one candidate came, with its metrics over the points and its end: a cross, or a ring."""
    marks = {place(fold, progress): metric for (fold, progress), metric in points.items() if fold == 0 or progress == 1}
    end = max(marks)
    lines = [
        f'<text x="14" y="{y + 4:.0f}" fill="{colour}" font-weight="bold">{name}</text>',
        f'<path d="M{LEFT - 16} {y:.0f}H{end:.0f}" stroke="{colour}" stroke-width="3"/>',
    ]
    for x, metric in marks.items():
        lines.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5" fill="{colour}"/>')
        lines.append(f'<text x="{x:.0f}" y="{y - 7:.0f}" text-anchor="middle" fill="#333">{metric:.4f}</text>')
    if state == "finished":
        lines.append(f'<circle cx="{end:.0f}" cy="{y:.0f}" r="7" fill="none" stroke="{colour}" stroke-width="2"/>')
    else:
        lines.append(f'<path d="M{end - 6:.0f} {y - 6:.0f}l12 12m0 -12l-12 12" stroke="#c53030" stroke-width="2.5"/>')
    return lines


def note(y: float, x: float, reason: str) -> list[str]:
    """Return the ladder's reason on up to three lines."""
    rows = [""]
    for word in reason.split():
        if len(rows[-1]) + len(word) > 108:
            rows.append("")
        rows[-1] += f"{word} "
    first = y + 4 - 5.5 * (len(rows) - 1)
    return [
        f'<text x="{x:.0f}" y="{first + 11 * number:.0f}" fill="#444" font-size="10">{escape(row.strip())}</text>'
        for number, row in enumerate(rows)
    ]


if __name__ == "__main__":
    Path(__file__).with_name("ladder.svg").write_text(draw(), encoding="utf-8")
