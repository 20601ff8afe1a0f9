"""Part 4, errors: worst rows, slices, confusion, residuals, disagreement, contradictions, cut texts."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from blend.errors.contradictions import contradictions
from blend.errors.disagreement import most_disputed
from blend.errors.error_rows import ErrorRows
from blend.errors.error_shape import confusion, error_histogram, worst_rows
from blend.errors.error_slices import FEW_ROWS, slices
from blendfold.report.facts.cut_texts import CutTexts, cut_texts
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.figures.error_figures import confusion_figure, residuals_figure, slices_figure
from blendfold.report.page.blocks import Block, Column, DataTable, Part, Prose, Remark, Row, Value
from blendfold.report.parts.panels import panels
from data_prep.store.tables import column_names
from data_prep.target_views import target_views
from data_prep.wording import count

WORST = 50
DISPUTED = 30
CONTRADICTIONS = 60
CUT_ROWS = 20
MOST_MEMBERS = 40
"""Members whose predictions have columns."""


def errors_part(source: ReportSource) -> Part:
    """Return the part."""
    blocks = panels("Errors", lambda: _blocks(source))
    return Part(
        "errors",
        "Errors",
        [
            *blocks,
            *panels("Contradicting scores", lambda: _contradictions(source)),
            *panels("Texts cut by max_length", lambda: _cut(source)),
        ],
    )


def _blocks(source: ReportSource) -> Iterator[Block]:
    if not source.n_finished:
        yield Remark("No fold run has finished yet, so there are no predictions to look at.")
        return
    rows = source.error_rows
    metric, what = rows.metric.name, "rows" if rows.data.task.classes is None else "probabilities, one for each class,"
    overall = rows.metric(rows.frame["score"].to_numpy(), rows.frame["prediction"].to_numpy())
    yield Prose(
        [
            f"Errors of {rows.source} on {len(rows.frame):,} {what}, by {rows.kind} predictions: each row is "
            f"predicted by models that did not see it. Over all of these {what}, {metric} is {overall:.4f}.",
        ]
    )
    found = slices(rows)
    yield slices_figure(found, metric, overall)
    yield residuals_figure(error_histogram(rows))
    if not (counts := confusion(rows)).empty:
        yield confusion_figure(counts)
        yield _confusion(counts)
    yield _slices(found, metric)
    yield _rows_table("worst", "Worst rows", source, worst_rows(rows, WORST), rows)
    if len(rows.members) > 1:
        yield _rows_table("disputed", "Where members disagree most", source, most_disputed(rows, DISPUTED), rows)
    else:
        yield Remark("One member cannot disagree with itself.", title="Where members disagree most")


def _confusion(counts: pd.DataFrame) -> DataTable:
    levels = [f"{level:g}" for level in counts.columns]
    columns = [
        Column("true", "true score"),
        *(Column(f"level-{level}", f"predicted {level}", 0) for level in levels),
        Column("right", "nearest is right", 1, percent=True),
    ]
    rows = []
    for place, (level, row) in enumerate(counts.iterrows()):
        numbers = [int(n) for n in row]
        rows.append(Row(f"{level:g}", [f"{level:g}", *numbers, numbers[place] / max(sum(numbers), 1)]))
    return DataTable("confusion-counts", "Confusion by level, rows", columns, rows)


def _slices(found: pd.DataFrame, metric: str) -> DataTable:
    columns = [
        Column("column", "column"),
        Column("value", "value"),
        Column("n", "rows", 0),
        Column("groups", "groups", 0),
        Column("metric", metric, 4),
        Column("metric_error", "± se", 4),
        Column("bias", "bias", 4, signed=True, hint="Mean of prediction minus true score"),
        Column("bias_error", "± se", 4),
        Column("rmse", "rmse", 4),
        Column("few", f"under {FEW_ROWS} rows"),
    ]
    rows = [
        Row(
            f"{each['column']}={each['value']}",
            [
                str(each["column"]),
                str(each["value"]),
                int(each["n"]),
                int(each["groups"]),
                *(float(each[name]) for name in ("metric", "metric_error", "bias", "bias_error", "rmse")),
                "few" if each["few"] else "",
            ],
            muted=bool(each["few"]),
        )
        for each in found.to_dict("records")
    ]
    note = (
        f"Gray slices have under {FEW_ROWS} rows. A correlation inside one score level does not exist. Standard errors "
        "come from resampling groups."
    )
    return DataTable("slices-table", "Slices", columns, rows, note=note, first=20)


def _rows_table(name: str, title: str, source: ReportSource, frame: pd.DataFrame, rows: ErrorRows) -> DataTable:
    members = list(rows.members)[:MOST_MEMBERS]
    disputed = "disagreement" in frame.columns
    columns = [
        *(Column(text, text) for text in rows.texts),
        Column("score", "true", 2),
        Column("prediction", "predicted", 3),
        Column("error", "error", 3, signed=True),
        *(
            [Column("disagreement", "spread", 2, hint="Standard deviation over members, each on its own scale")]
            * disputed
        ),
        Column("fold", "fold", 0),
        *(Column(f"member-{candidate}", _member(source, candidate), 3) for candidate in members),
        Column("id", "id", is_code=True),
    ]
    shown = []
    for each in frame.to_dict("records"):
        values: list[Value] = [
            *(str(each[text]) for text in rows.texts),
            float(each["score"]),
            float(each["prediction"]),
            float(each["error"]),
            *([float(each["disagreement"])] if disputed else []),
            int(each["fold"]),
            *(float(each[candidate]) for candidate in members),
            str(each["id"]),
        ]
        shown.append(Row(str(each["id"]), values))
    note = "Members’ predictions are on their own scale." + (
        f" The first {MOST_MEMBERS} of {count(len(rows.members), 'member')} are shown."
        if len(rows.members) > MOST_MEMBERS
        else ""
    )
    return DataTable(name, title, columns, shown, note=note, first=15)


def _member(source: ReportSource, candidate: str) -> str:
    return source.names.of(candidate) if candidate in source.run.candidates else candidate[:6]


def _contradictions(source: ReportSource) -> Iterator[Block]:
    data = source.run.data
    found = contradictions(data)
    if found.empty:
        yield Remark("No two rows say nearly the same and have different scores.", title="Contradicting scores")
        return
    texts = [name for name in found.columns if name not in ("set", "kind", "spread", "id", "fold", "score")]
    columns = [
        Column("set", "set", 0),
        Column("kind", "how alike"),
        Column("spread", "scores apart", 2),
        *(Column(text, text) for text in texts),
        Column("score", "score", 2),
        Column("fold", "fold", 0),
        Column("id", "id", is_code=True),
    ]
    chosen = _whole_sets(found, CONTRADICTIONS)
    rows = [
        Row(
            str(each["id"]),
            [
                int(each["set"]),
                str(each["kind"]),
                float(each["spread"]),
                *(str(each[text]) for text in texts),
                float(each["score"]),
                int(each["fold"]),
                str(each["id"]),
            ],
        )
        for each in chosen.to_dict("records")
    ]
    n_sets, n_rows = found["set"].nunique(), len(found)
    note = (
        f"{n_sets:,} sets, {n_rows:,} rows of all folds; the {chosen['set'].nunique():,} sets with the widest scores "
        "are shown. Rows of a set say nearly the same, so at least one score is doubtful: label noise that "
        "no model can learn."
    )
    yield DataTable("contradictions", "Near-duplicates with contradicting scores", columns, rows, note=note, first=16)


def _cut(source: ReportSource) -> Iterator[Block]:
    title = "Texts cut by max_length"
    ways = cut_texts(source.run, source.lengths) if not source.is_imported else ()
    if not ways:
        yield Remark("No candidate here says how it writes rows as texts.", title=title)
        return
    cutting = [way for way in ways if way.lost.any()]
    if not cutting:
        least = min(way.max_length for way in ways)
        said = f"No row is longer than the smallest max_length ({least} tokens), by an estimate of its tokens."
        yield Remark(said, title=title)
        return
    errors = _errors_by_id(source)
    yield _cut_table(source, cutting, errors)
    yield _cut_rows(source, cutting[0])


def _errors_by_id(source: ReportSource) -> pd.Series:
    """Return the errors of the rows that are scored, by id; none where nothing is finished."""
    if not source.n_finished:
        return pd.Series(dtype=float)
    frame, view = source.error_rows.frame, target_views(source.run.data.task)[0]
    ids = view.row_ids(pa.array(frame["id"])).to_numpy(zero_copy_only=False)
    return pd.Series(frame["error"].to_numpy(), index=np.repeat(ids, view.cells))


def _cut_table(source: ReportSource, ways: Sequence[CutTexts], errors: pd.Series) -> DataTable:
    columns = [
        Column("recipe", "recipe"),
        Column("max_length", "max_length", 0),
        Column("candidates", "candidates", 0),
        Column("rows", "rows cut", 0),
        Column("share", "of all rows", 1, percent=True),
        Column("tokens", "tokens never read", 1, percent=True),
        Column("rmse-cut", "rmse of these", 4),
        Column("rmse-whole", "rmse of the others", 4),
        Column("names", "which"),
    ]
    ids = np.asarray(source.run.data.train["id"].to_pylist(), dtype=object)
    rows = []
    for way in ways:
        is_cut = way.lost > 0
        sizes = [_rmse(errors[errors.index.isin(ids[part])]) for part in (is_cut, ~is_cut)]
        names = ", ".join(source.names.of(candidate) for candidate in way.candidates)
        values: list[Value] = [
            way.recipe,
            way.max_length,
            len(way.candidates),
            int(is_cut.sum()),
            float(is_cut.mean()),
            way.share,
            *sizes,
            names,
        ]
        rows.append(Row(way.candidates[0], values))
    note = (
        "Tokens are estimated: a word has one for each seven letters. The errors are those above; rows that are cut "
        "may be harder for other reasons too."
    )
    return DataTable("cut-texts", "Texts cut by max_length", columns, rows, note=note)


def _rmse(errors: pd.Series) -> float | None:
    return float(np.sqrt((errors**2).mean())) if len(errors) else None


def _cut_rows(source: ReportSource, way: CutTexts) -> DataTable:
    """Return the rows of which the least is read."""
    train, task = source.run.data.train, source.run.data.task
    texts, scores = task.text_columns, column_names("score", task.target.names)
    columns = [
        *(Column(f"text-{text}", text) for text in texts),
        Column("whole", "tokens", 0),
        Column("lost", "never read", 0),
        *(Column(name, name.replace("score_", ""), 2) for name in scores),
        Column("id", "id", is_code=True),
    ]
    worst = np.argsort(-way.lost, kind="stable")[: min(CUT_ROWS, int((way.lost > 0).sum()))]
    rows = []
    for place, row in zip(worst.tolist(), train.take(worst).to_pylist(), strict=True):
        values: list[Value] = [*(row[text] for text in texts), int(way.whole[place]), int(way.lost[place])]
        rows.append(Row(row["id"], [*values, *(row[name] for name in scores), row["id"]]))
    title = f"Rows that lose most, with recipe {way.recipe} and max_length {way.max_length}"
    return DataTable("cut-rows", title, columns, rows, first=10)


def _whole_sets(found: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the first sets, whole, with at most so many rows together (but at least one set)."""
    sizes: Sequence[int] = found.groupby("set", sort=True).size().cumsum().tolist()
    n_sets = max(1, sum(total <= most for total in sizes))
    return found[found["set"] <= n_sets]
