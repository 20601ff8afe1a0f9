"""Part 5, the data: folds, groups, leakage audit, lengths, drift between train and test."""

from collections.abc import Iterator, Sequence

from blendfold.report.facts.data_facts import (
    ColumnLengths,
    FoldRowsCount,
    ShareDrift,
    TextDrift,
    context_drift,
    fold_counts,
    level_names,
    read_audit,
    text_drift,
)
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.figures.data_figures import contexts_figure, leakage_figure, lengths_figure
from blendfold.report.page.blocks import Block, Column, DataTable, Part, Prose, Remark, Row
from blendfold.report.parts.panels import panels
from data_prep.audit.audit_report import AuditReport, Repeats
from data_prep.prepared import Prepared
from data_prep.wording import command, count

MOST_CONTEXTS = 14


def data_part(source: ReportSource) -> Part:
    """Return the part."""
    return Part("data", "Data", panels("The data", lambda: _blocks(source.run.data, source.lengths)))


def _blocks(data: Prepared, lengths: Sequence[ColumnLengths]) -> Iterator[Block]:
    manifest = data.manifest
    holdout = f", {count(manifest.rows['holdout'], 'holdout row')}" if manifest.rows.get("holdout") else ""
    group = f"rows with the same {data.task.group_column} stay together" if data.task.group_column else "no groups"
    yield Prose(
        [
            f"{manifest.task.name}: {count(manifest.rows['train'], 'train row')}{holdout} and "
            f"{count(manifest.rows['test'], 'test row')} with the texts {', '.join(data.task.text_columns)}. Split "
            f"{manifest.scheme} into {manifest.n_folds} folds{manifest.in_repeats} with seed {manifest.seed}; {group}."
        ]
    )
    yield _folds(fold_counts(data), list(level_names(data.task)))
    yield from _audit(data)
    yield lengths_figure(lengths)
    contexts = context_drift(data, most=MOST_CONTEXTS)
    if contexts is not None:
        yield contexts_figure(*contexts)
    if not data.test.num_rows:
        yield Remark("There are no test rows to compare train with.", title="Train against test")
        return
    yield _drift(text_drift(data, lengths))
    if contexts is not None:
        yield _contexts(*contexts)


def _folds(folds: Sequence[FoldRowsCount], levels: Sequence[str]) -> DataTable:
    columns = [
        Column("fold", "fold"),
        Column("rows", "rows", 0),
        Column("groups", "groups", 0),
        Column("mean", "mean score", 4),
        *(Column(f"level-{level}", f"score {level}", 0) for level in levels),
    ]
    rows = [Row(fold.name, [fold.name, fold.rows, fold.groups, fold.score_mean, *fold.score_counts]) for fold in folds]
    return DataTable("folds", "Folds", columns, rows)


def _audit(data: Prepared) -> Iterator[Block]:
    report = read_audit(data)
    if report is None:
        audit = command("blendfold audit", data.path)
        yield Remark(
            f"The folder holds no audit of this data. Measure leakage and repeats with: {audit}", title="Leakage audit"
        )
        return
    yield leakage_figure(report.leakage, data.task.metric)
    columns = [
        Column("scheme", "split scheme"),
        Column("metric", data.task.metric, 4, hint="Of a model that only looks up similar rows"),
        Column("inflation", "inflation", 4, signed=True, hint=f"Over {report.leakage.reference}"),
        Column("error", "± se", 4),
    ]
    rows = [
        Row(each.scheme, [each.scheme, each.metric, each.inflation, each.standard_error])
        for each in report.leakage.schemes
    ]
    yield DataTable("leakage-table", "Leakage by split scheme", columns, rows, is_half=True)
    yield _repeats(report)
    yield _columns(report)


def _repeats(report: AuditReport) -> DataTable:
    columns = [
        Column("what", "rows with the same texts"),
        Column("sets", "sets", 0),
        Column("rows", "rows", 0),
        Column("differ", "scores differ", 0),
        Column("across", "across folds", 0),
    ]
    kinds: dict[str, Repeats | None] = {
        "equal in every text": report.repeated_rows,
        "same pair, several contexts": report.repeated_pairs,
        "equal but for case, plural, order": report.near_duplicates,
        "groups equal but for case, form, ends": report.equal_names,
    }
    rows = [
        Row(name, [name, found.sets, found.rows, found.differing_scores, found.across_folds])
        for name, found in kinds.items()
        if found is not None
    ]
    return DataTable("repeats", "Repeats", columns, rows, is_half=True)


def _columns(report: AuditReport) -> DataTable:
    columns = [
        Column("column", "column"),
        Column("train", "texts in train", 0),
        Column("test", "in test", 0),
        Column("both", "in both", 0),
        Column("several", "in several folds", 0),
        Column("rows", "rows with those", 0),
    ]
    rows = [
        Row(
            each.column,
            [each.column, each.train, each.test, each.in_both, each.in_several_folds, each.rows_in_several_folds],
        )
        for each in report.columns
    ]
    return DataTable("texts", "Different texts", columns, rows, is_half=True)


def _drift(drift: Sequence[TextDrift]) -> DataTable:
    columns = [
        Column("column", "column"),
        Column("train-texts", "texts in train", 0),
        Column("test-texts", "texts in test", 0),
        Column("seen-texts", "test rows seen in train", 1, percent=True),
        Column("train-words", "words in train", 0),
        Column("test-words", "words in test", 0),
        Column("seen-words", "test words seen in train", 1, percent=True),
        Column("train-tokens", "mean tokens, train", 2),
        Column("test-tokens", "mean tokens, test", 2),
    ]
    rows = [Row(each.column, list(vars(each).values())) for each in drift]
    return DataTable("drift", "Train against test", columns, rows)


def _contexts(column: str, shares: Sequence[ShareDrift]) -> DataTable:
    columns = [
        Column("value", column),
        Column("train", "train rows", 0),
        Column("test", "test rows", 0),
        Column("train-share", "share of train", 2, percent=True),
        Column("test-share", "share of test", 2, percent=True),
    ]
    rows = [Row(each.value, list(vars(each).values())) for each in shares]
    note = "The values whose share changes most."
    return DataTable("contexts-table", f"Train against test by {column}", columns, rows, note=note, first=10)
