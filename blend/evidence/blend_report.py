"""The evidence of a blend as tables and sentences for the console."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from blend.blend_record import BlendRecord, ComparisonRecord, MetricRecord, TargetsRecord, WholeRecord
from blend.evidence.earlier_submissions import SubmissionSimilarity
from blend.evidence.member_drift import drift_sentences
from blend.fit.consensus import CONSENSUS
from data_prep.console import new_table
from data_prep.store.oof_store import retried_note
from data_prep.wording import count

MOST_EARLIER = 5
"""At most this many earlier submissions are listed."""
WIDEST_CORRELATIONS = 12
"""With more members than this, their error correlations do not fit on a screen; blend.json has all."""
SMALLEST_SHOWN = 5e-5
"""A smaller difference is 0.0000 in four digits."""
FEW_GROUPS = 8
"""With fewer groups, what a blend gains is hardly known."""


def tables(record: BlendRecord) -> list[Table]:
    """Return the tables of a blend's evidence, in reading order."""
    shown = [_members(record)]
    if 1 < len(record.members) <= WIDEST_CORRELATIONS:
        shown.append(_correlations(record))
    return [*shown, _makings(record), _scores(record)]


def sentences(record: BlendRecord) -> list[str]:
    """Return what matters most: what was chosen, how good it is, what to expect, and what to beware of."""
    blend = record.scores["blend"]
    return [
        _chosen(record),
        f"nested {record.metric}: {blend.nested.pooled:.4f} (mean over folds {blend.nested.fold_mean:.4f}; in-sample "
        f"{blend.in_sample.pooled:.4f}), every choice made without the {record.units} scored",
        *_rows(record),
        *_test_sentences(record),
        _compared("nested blend against the best single model", record.comparisons[0]),
        *_warnings(record),
    ]


def targets_table(record: TargetsRecord) -> Table:
    """Return a row for each target: how good its blend is, and what it is made of."""
    titles = {"blend": "nested", "best_single": "best single", "mean": "plain mean"}
    table = new_table(f"Targets of {record.name} ({record.metric}, nested)", "", *titles.values(), "members", "method")
    table.columns[0].overflow = "fold"
    rows = [(name, blend.scores, str(len(blend.members)), blend.method) for name, blend in record.by_target.items()]
    for name, scores, members, method in [*rows, ("mean", record.scores, str(len(record.weights)), record.method)]:
        table.add_row(name, *(f"{scores[key].nested.pooled:.4f}" for key in titles), members, method)
    return table


def whole_sentences(record: WholeRecord) -> list[str]:
    """Return what matters most about a blend, of all targets together."""
    return targets_sentences(record) if isinstance(record, TargetsRecord) else sentences(record)


def targets_sentences(record: TargetsRecord) -> list[str]:
    """Return what matters most about all targets together, then what to beware of in single ones."""
    blend, n_targets = record.scores["blend"], count(len(record.targets), "target")
    warnings = by_target({name: _warnings(found) for name, found in record.by_target.items()})
    return [
        f"nested {record.metric}, mean of {n_targets}: {blend.nested.pooled:.4f} (mean over folds "
        f"{blend.nested.fold_mean:.4f}; in-sample {blend.in_sample.pooled:.4f}), every choice made without the rows "
        "scored",
        *_test_sentences(record),
        _compared("nested blends against the best single model of each target", record.comparisons[0]),
        *_worse(record),
        *warnings,
    ]


def left_out_sentences(record: WholeRecord) -> list[str]:
    """Return which candidates and columns were left out, and why; those of all targets once."""
    found = {name: [f"left out: {sentence}" for sentence in blend.left_out] for name, blend in record.by_target.items()}
    return by_target(found)


def by_target(sentences: Mapping[str, Sequence[str]]) -> list[str]:
    """Return first the sentences that all targets share, then the others, each after the name of its target."""
    every = list(sentences.values())
    shared = [sentence for sentence in every[0] if all(sentence in others for others in every)]
    return [*shared, *(f"{name}: {one}" for name, said in sentences.items() for one in said if one not in shared)]


def _chosen(record: BlendRecord) -> str:
    """Say which way to blend was taken, and what parsimony cost."""
    if record.price is None:
        return _way(record)
    cost = f"{record.price.difference:+.4f} (standard error {record.price.standard_error:.4f})"
    return f"{_way(record)}; the price of so few: {cost} of the nested {record.metric}"


def _way(record: BlendRecord) -> str:
    ways, members, stack = len(record.makings), count(len(record.members), "member"), record.combination.stack
    if stack and stack.columns:
        members += f" and {count(len(stack.columns), 'numeric column')}"
    if record.method == CONSENSUS.name:
        taking_part = sum(making.share > 0.0 for making in record.makings.values())
        return f"chosen: the consensus of {taking_part} of {ways - 1} ways to blend, {members}"
    if CONSENSUS.name not in record.makings:  # one way was asked for, or parsimony made it smaller
        return f"chosen: {record.method}{', as asked' if record.price is None else ''}, {members}"
    ties = [name for name, making in record.makings.items() if making.behind.is_noise and name != record.method]
    best, tied = next(iter(record.makings)), f"; it ties with {count(len(ties), 'other way')}" if ties else ""
    of_all = f"the best of {count(ways, 'way')}" if best == record.method else f"of {count(ways, 'way')}"
    return f"chosen: {record.method}, {of_all} to blend, {members}{tied}"


def more_sentences(record: BlendRecord) -> list[str]:
    """Return what else the evidence says, one sentence a line."""
    search, certificate, stack = record.search, record.certificate, record.combination.stack
    state = "converged" if search.converged else "did NOT converge"
    found = [
        f"{record.method}: {state} after {count(search.evaluations, 'evaluation')}, {count(search.restarts, 'restart')}"
    ]
    if stack:
        weights = ", ".join(f"{name} {w:+.3g}" for name, w in zip(stack.columns, stack.weights, strict=True))
        found.append(
            f"stacked: the members' weights are those of its linear part; numeric columns: {weights or 'none'}; "
            f"{count(len(stack.trees), 'tree')} on what the linear part leaves"
        )
    if certificate:
        found.append(
            f"certificate: Pearson {certificate.pearson:.6f} in-sample, exact optimum of the same members with "
            f"non-negative weights {certificate.exact:.6f}, gap {max(certificate.gap, 0.0):.1e}"
        )
    if abs(record.optimism) >= 5e-5:
        found.append(
            f"choosing it among {len(record.makings)} ways flatters it by {record.optimism:.4f}: taken off above"
        )
    found += [_compared(f"nested blend against the {entry.against}", entry) for entry in record.comparisons[1:]]
    if record.previous:
        found.append(_compared(f"nested blend against the earlier blend {record.previous.against}", record.previous))
    return found


def _rows(record: BlendRecord) -> list[str]:
    """Return on which rows scores and weights stand, where they were chosen."""
    return [
        f"{what} on {count(rows.rows, 'row')} ({' and '.join(rows.chosen) or 'all'})"
        for what, rows in (("all scores stand", record.scored_rows), ("weights were fitted", record.fitted_rows))
        if rows
    ]


def is_worse(record: WholeRecord) -> bool:
    """Tell whether the best single candidate or the plain mean is better, nested, than what was written."""
    return any(entry.difference <= -SMALLEST_SHOWN for entry in record.comparisons)


def similarity_sentences(earlier: list[SubmissionSimilarity]) -> list[str]:
    """Return how similar the submission is to earlier ones, one sentence a line, the most similar first."""
    found = [
        f"similarity to the submission of {other.name}: Pearson {other.pearson:.4f}, Spearman {other.spearman:.4f}, "
        f"largest difference {other.largest_difference:.3f} ({other.largest_id})"
        for other in earlier[:MOST_EARLIER]
    ]
    left = len(earlier) - len(found)
    return [*found, f"and {count(left, 'earlier submission')} that are less similar"] if left else found


def _compared(what: str, entry: ComparisonRecord) -> str:
    verdict = "within noise" if entry.is_noise else ("better" if entry.difference > 0 else "WORSE")
    return (
        f"{what}: {entry.difference:+.4f} (standard error {entry.standard_error:.4f}, "
        f"95 % {entry.low:+.4f} to {entry.high:+.4f}): {verdict}"
    )


def _test_sentences(record: WholeRecord) -> list[str]:
    blend, single = record.scores["blend"].expected, record.scores["best_single"].expected
    if blend is None and record.submission is None:
        return ["expected on test: no more is known than nested; the data has no test rows"]
    if blend is None:
        return [
            "expected on test: unknown; the fold models differ on test rows by more than their predictions vary on "
            "train rows, so the test rows are of another kind"
        ]
    alone = "" if single is None else f"; the best single model {single.value:.4f}"
    averaging = f", and {blend.value - record.scores['blend'].nested.pooled:+.4f} for averaging the fold models"
    added = averaging if blend.averaged_out else "; what averaging fold models adds is unknown"
    return [f"expected on test: {blend.value:.4f} (95 % {blend.low:.4f} to {blend.high:.4f}): nested{added}{alone}"]


def _worse(record: WholeRecord) -> list[str]:
    return [
        f"WARNING: the {entry.against} is better, nested, by {-entry.difference:.4f} than this blend"
        f"{', within noise' if entry.is_noise else ''}"
        for entry in record.comparisons
        if entry.difference <= -SMALLEST_SHOWN
    ]


def _warnings(record: BlendRecord) -> list[str]:
    found = _worse(record)
    if record.n_groups is not None and record.n_groups < FEW_GROUPS:
        found.append(
            f"WARNING: only {record.n_groups} groups: how others differ is hardly known, so intervals are wide"
        )
    drift = drift_sentences(record.drift)
    found += [f"WARNING: {m.label} drifts: {drift[m.candidate]}" for m in record.members if m.candidate in drift]
    return [*found, *(f"WARNING: {note}" for note in record.notes)]


def _members(record: BlendRecord) -> Table:
    title = f"Members of {record.name} ({record.metric})"
    numbers = ("weight", "without a fold", "resampled 90 %", "alone", "cost if dropped")
    table = new_table(title, "", *numbers)
    table.columns[0].overflow = "fold"
    for member in sorted(record.members, key=lambda member: -member.weight):
        cost = member.drop_cost
        table.add_row(
            f"{member.label} {member.candidate[:6]}{retried_note(member.retried)}",
            f"{member.weight:.3f}",
            f"{min(member.nested_weights):.2f}-{max(member.nested_weights):.2f}",
            f"{member.resampled.low:.2f}-{member.resampled.high:.2f}",
            f"{member.pooled:.4f}",
            "-" if cost is None else f"{cost.difference:+.4f} ±{cost.standard_error:.4f}",
        )
    return table


def _correlations(record: BlendRecord) -> Table:
    table = new_table("Correlation of errors", "", *(member.candidate[:6] for member in record.members))
    for member, row in zip(record.members, record.error_correlations, strict=True):
        table.add_row(member.candidate[:6], *(f"{value:.2f}" for value in row))
    return table


def _makings(record: BlendRecord) -> Table:
    title = f"Ways to blend ({record.metric}; nested: on rows not fitted on)"
    table = new_table(title, "", "nested", "behind the best", "", "in consensus")
    table.columns[0].overflow = "fold"
    for name, making in record.makings.items():
        chosen = " (chosen)" if name == record.method else ""
        tie = "tie" if making.behind.is_noise else ""
        share = f"{making.share:.3f}" if making.share else ""
        table.add_row(name + chosen, f"{making.nested:.4f}", _behind(making.behind), tie, share)
    return table


def _scores(record: BlendRecord) -> Table:
    title = f"{record.metric} (mean over folds/pooled; nested: on rows not fitted on)"
    table = new_table(title, "", "in-sample", "nested", "expected on test", "holdout")
    titles = {"blend": "blend", "best_single": "best single", "mean": "plain mean"}
    for key, evidence in record.scores.items():
        test = evidence.expected
        expected = "-" if test is None else f"{test.value:.4f} ±{test.standard_error:.4f}"
        holdout = "-" if evidence.holdout is None else f"{evidence.holdout:.4f}"
        table.add_row(titles[key], _pair(evidence.in_sample), _pair(evidence.nested), expected, holdout)
    return table


def _pair(values: MetricRecord) -> str:
    return f"{values.fold_mean:.4f}/{values.pooled:.4f}"


def _behind(entry: ComparisonRecord) -> str:
    return "-" if entry.difference == 0.0 else f"{-entry.difference:.4f} ±{entry.standard_error:.4f}"
