"""Part 3, the blend: members, weights, ways to blend, evidence, calibration."""

from collections.abc import Iterator, Sequence

import numpy as np

from blend.blend_record import BlendRecord, EvidenceRecord, MemberRecord, TargetsRecord, WholeRecord
from blend.errors.error_shape import calibration
from blend.evidence.blend_report import more_sentences, sentences, targets_sentences
from blendfold.report.facts.level_predictions import LevelPredictions, by_level
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.figures.blend_figures import (
    correlations_figure,
    costs_figure,
    levels_figure,
    makings_figure,
    reliability_figure,
    sizes_figure,
    target_weights_figure,
    weights_figure,
)
from blendfold.report.page.blocks import Block, Column, DataTable, Heading, Part, Prose, Remark, Row, Value
from blendfold.report.parts.panels import panels
from data_prep.wording import command

TITLES = {"blend": "blend", "best_single": "best single", "mean": "plain mean"}


def blend_part(source: ReportSource) -> Part:
    """Return the part."""
    return Part("blend", "Blend", panels("The blend", lambda: _blocks(source)))


def _blocks(source: ReportSource) -> Iterator[Block]:
    record = source.blend
    if record is None:
        fit = command("blendfold blend", source.run.path)
        yield Remark(f"There is no blend yet. When candidates have all folds, fit one with: {fit}")
        return
    whole = source.whole_blend
    if isinstance(whole, TargetsRecord):
        yield from _all_targets(source, whole, shown=record.name)
    members = sorted(record.members, key=lambda member: -member.weight)
    names = [_name(source, member) for member in members]
    yield Prose([_ended(sentence) for sentence in sentences(record)], is_list=True)
    yield _scores(record)
    yield _members(record, members, names)
    yield weights_figure(members, names)
    if any(member.drop_cost for member in members):
        yield costs_figure(members, names, record.metric)
    if len(members) > 1:
        yield correlations_figure(record, [_name(source, member) for member in record.members])
    if record.makings:
        yield sizes_figure(record)
        yield makings_figure(record)
        yield _makings(record)
    else:
        yield Remark("The version that fitted this blend kept no tournament of ways to blend.", title="Tournament")
    yield from panels("Calibration", lambda: _calibration(source))
    more = [_ended(sentence) for sentence in more_sentences(record)]
    yield Heading("More evidence")
    yield Prose([*more, *(f"Left out: {_ended(reason)}" for reason in record.left_out)], is_list=True)


def _all_targets(source: ReportSource, whole: TargetsRecord, *, shown: str) -> Iterator[Block]:
    """Return what the targets have in common, then which of them the rest is about."""
    yield Prose([_ended(sentence) for sentence in targets_sentences(whole)], is_list=True)
    yield _targets(whole)
    members = {member.candidate: member for blend in whole.blends for member in blend.members}
    yield target_weights_figure(whole, {name: _name(source, member) for name, member in members.items()})
    yield Heading(f"Target {shown.partition('/')[2]}")
    other = next(f"{whole.name}/{target}" for target in whole.targets if f"{whole.name}/{target}" != shown)
    again = command("blendfold report", source.run.path, options={"--blend": other})
    yield Prose([f"From here on, and under errors, all is about this target; another: {again}"])


def _targets(whole: TargetsRecord) -> DataTable:
    columns = [
        Column("target", whole.metric),
        Column("nested", "nested, pooled", 4, hint="Chosen and fitted without the fold that is scored"),
        Column("single", "best single", 4),
        Column("mean", "plain mean", 4),
        Column("expected", "expected on test", 4),
        Column("members", "members", 0),
        Column("method", "way to blend"),
    ]
    rows = []
    shown: list[tuple[str, WholeRecord]] = [*whole.by_target.items(), ("mean of all", whole)]
    for name, blend in shown:
        expected = blend.scores["blend"].expected
        values: list[Value] = [
            name,
            *(blend.scores[key].nested.pooled for key in TITLES),
            None if expected is None else expected.value,
            len(blend.weights),
            blend.method,
        ]
        rows.append(Row(name, values))
    return DataTable("targets", f"Targets of {whole.name}", columns, rows, note="Scores are nested.")


def _ended(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith((".", "!")) else ".")


def _name(source: ReportSource, member: MemberRecord) -> str:
    is_here = member.candidate in source.run.candidates
    return source.names.of(member.candidate) if is_here else f"{member.label} {member.candidate[:6]}"


def _scores(record: BlendRecord) -> DataTable:
    columns = [
        Column("what", record.metric),
        Column("in-sample-mean", "in-sample, fold mean", 4),
        Column("in-sample", "in-sample, pooled", 4),
        Column("nested-mean", "nested, fold mean", 4, hint="Chosen and fitted without the fold that is scored"),
        Column("nested", "nested, pooled", 4, hint="Chosen and fitted without the fold that is scored"),
        Column("expected", "expected on test", 4),
        Column("expected-error", "± se", 4),
        Column("expected-low", "95 % from", 4),
        Column("expected-high", "to", 4),
        Column("holdout", "holdout", 4),
    ]
    rows = [Row(key, [TITLES.get(key, key), *_evidence(evidence)]) for key, evidence in record.scores.items()]
    note = "Nested is the number to trust: everything is chosen again without the rows that are scored."
    if all(evidence.holdout is None for evidence in record.scores.values()):
        note += " There are no holdout rows."
    return DataTable("scores", "Scores", columns, rows, note=note)


def _evidence(evidence: EvidenceRecord) -> list[float | None]:
    test = evidence.expected
    return [
        evidence.in_sample.fold_mean,
        evidence.in_sample.pooled,
        evidence.nested.fold_mean,
        evidence.nested.pooled,
        *([None] * 4 if test is None else [test.value, test.standard_error, test.low, test.high]),
        evidence.holdout,
    ]


def _members(record: BlendRecord, members: Sequence[MemberRecord], names: Sequence[str]) -> DataTable:
    columns = [
        Column("name", "member"),
        Column("weight", "weight", 3),
        Column("nested-low", f"without {record.units}, from", 3),
        Column("nested-high", "to", 3),
        Column("low", "resampled, 5 %", 3),
        Column("high", "95 %", 3),
        Column("present", "present", 0, percent=True, hint="Share of the draws in which it has any weight"),
        Column("alone", "alone, pooled", 4),
        Column("alone-mean", "alone, fold mean", 4),
        Column("cost", "cost if dropped", 4, signed=True, hint="Nested metric lost without it"),
        Column("cost-error", "± se", 4),
        Column("verdict", "adds"),
        Column("family", "family"),
        Column("id", "id", is_code=True),
    ]
    rows = []
    for member, name in zip(members, names, strict=True):
        cost, spread = member.drop_cost, member.resampled
        verdict = "" if cost is None else "within noise" if cost.is_noise else "yes" if cost.difference > 0 else "no"
        values: list[Value] = [
            name,
            member.weight,
            min(member.nested_weights),
            max(member.nested_weights),
            spread.low,
            spread.high,
            spread.present,
            member.pooled,
            member.fold_mean,
            None if cost is None else cost.difference,
            None if cost is None else cost.standard_error,
            verdict,
            member.family,
            member.candidate,
        ]
        rows.append(Row(member.candidate, values))
    return DataTable("members", f"Members of {record.name}", columns, rows)


def _makings(record: BlendRecord) -> DataTable:
    columns = [
        Column("name", "way to blend"),
        Column("members", "members", 0),
        Column("nested", "nested", 5),
        Column("in-sample", "in-sample", 5),
        Column("behind", "behind the best", 5),
        Column("behind-error", "± se", 5),
        Column("tie", "verdict"),
        Column("share", "in consensus", 3),
        Column("chosen", "chosen"),
    ]
    rows = []
    for place, (name, making) in enumerate(record.makings.items()):
        verdict = "best" if place == 0 else "tie" if making.behind.is_noise else "behind"
        values: list[Value] = [
            name,
            making.members,
            making.nested,
            making.in_sample,
            -making.behind.difference + 0.0,
            making.behind.standard_error,
            verdict,
            making.share,
            "yes" if name == record.method else "",
        ]
        rows.append(Row(name, values))
    return DataTable("makings", f"Ways to blend, by nested {record.metric}", columns, rows)


def _calibration(source: ReportSource) -> Iterator[Block]:
    rows = source.error_rows
    target, prediction = (np.asarray(rows.frame[name], dtype=np.float64) for name in ("score", "prediction"))
    levels = by_level(target, prediction, rows.task.score_levels)
    yield levels_figure(levels)
    yield reliability_figure(calibration(rows))
    yield _levels(levels)


def _levels(levels: Sequence[LevelPredictions]) -> DataTable:
    columns = [
        Column("level", "true score"),
        Column("rows", "rows", 0),
        Column("mean", "mean prediction", 4),
        Column("low", "5 %", 4),
        Column("median", "median", 4),
        Column("high", "95 %", 4),
    ]
    rows = [
        Row(each.name, [each.name, each.rows, each.mean, each.quantiles[0], each.quantiles[2], each.quantiles[4]])
        for each in levels
    ]
    return DataTable("levels", "Predicted by true score", columns, rows)
