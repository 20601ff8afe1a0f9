"""The evidence of a blend as tables and sentences for the console."""

from rich.table import Table

from blend.blend_record import Blend, ComparisonRecord, MetricRecord
from blend.evidence.earlier_submissions import SubmissionSimilarity
from blend.fit.weight_methods import METHODS
from data_prep.console import new_table
from data_prep.store.oof_store import retried_note
from data_prep.wording import count

MOST_EARLIER = 5
"""At most this many earlier submissions are listed."""
WIDEST_CORRELATIONS = 12
"""With more members than this, their error correlations do not fit on a screen; blend.json has all."""


def tables(record: Blend) -> list[Table]:
    """Return the tables of a blend's evidence, in reading order."""
    shown = [_members(record)]
    if 1 < len(record.members) <= WIDEST_CORRELATIONS:
        shown.append(_correlations(record))
    if record.path:
        shown.append(_path(record))
    if record.calibrations:
        shown.append(_calibrations(record))
    return [*shown, _methods(record), _scores(record)]


def sentences(record: Blend) -> list[str]:
    """Return what the evidence says, one sentence a line."""
    return [
        *_choice_sentences(record),
        *_search_sentences(record),
        *(_compared("nested blend against " + entry.against, entry) for entry in record.comparisons),
        *(
            [_compared(f"nested blend against the earlier blend {record.previous.against}", record.previous)]
            if record.previous
            else []
        ),
        *_gain_sentences(record),
        *_test_sentences(record),
        *_warnings(record),
    ]


def similarity_sentences(earlier: list[SubmissionSimilarity]) -> list[str]:
    """Return how similar the submission is to earlier ones, one sentence a line, the most similar first."""
    found = [
        f"similarity to the submission of {other.name}: Pearson {other.pearson:.4f}, Spearman {other.spearman:.4f}, "
        f"largest difference {other.largest_difference:.3f} ({other.largest_id})"
        for other in earlier[:MOST_EARLIER]
    ]
    left = len(earlier) - len(found)
    return [*found, f"and {count(left, 'earlier submission')} that are less similar"] if left else found


def _choice_sentences(record: Blend) -> list[str]:
    found = []
    if record.path:
        best = max(record.path, key=lambda step: -step.behind)
        found.append(
            f"members: {len(record.members)}, the smallest ensemble within one standard error of the best "
            f"({count(best.n_members, 'member')}, nested {best.score:.4f})"
        )
    if record.calibrations:
        best_name = next(iter(record.calibrations.values())).behind.against
        found.append(
            f"calibration: {record.calibration}, the simplest within one standard error of the best ({best_name})"
        )
    return found


def _search_sentences(record: Blend) -> list[str]:
    search, certificate = record.search, record.certificate
    state = "converged" if search.converged else "did NOT converge"
    found = [
        f"{record.method}: {state} after {count(search.evaluations, 'evaluation')}, {count(search.restarts, 'restart')}"
    ]
    if certificate:
        found.append(
            f"certificate: pooled Pearson {certificate.pearson:.6f}, exact optimum with non-negative weights "
            f"{certificate.exact:.6f}, gap {max(certificate.gap, 0.0):.1e}"
        )
    return found


def _compared(what: str, entry: ComparisonRecord) -> str:
    verdict = "within noise" if entry.is_noise else ("better" if entry.difference > 0 else "WORSE")
    return (
        f"{what}: {entry.difference:+.4f} (standard error {entry.standard_error:.4f}, "
        f"95 % {entry.low:+.4f} to {entry.high:+.4f}): {verdict}"
    )


def _gain_sentences(record: Blend) -> list[str]:
    against_best = record.comparisons[0]
    if against_best.is_noise or against_best.difference < 0:
        return ["the blend is not better than its best member by more than noise"]
    return []


def _test_sentences(record: Blend) -> list[str]:
    blend, single = record.scores["blend"].expected, record.scores["best_single"].expected
    if blend is None:
        return [
            "expected on test: unknown; the fold models differ on test rows by more than their predictions vary on "
            "train rows, so the test rows are of another kind"
        ]
    alone = (
        ""
        if single is None
        else f"; the best member alone {single.value:.4f} (blending adds {blend.value - single.value:+.4f})"
    )
    averaging = blend.value - record.scores["blend"].nested.pooled
    return [
        f"expected on test: {blend.value:.4f} (95 % {blend.low:.4f} to {blend.high:.4f}): nested and pooled, plus "
        f"{averaging:+.4f} for averaging the fold models{alone}"
    ]


def _warnings(record: Blend) -> list[str]:
    found = []
    if METHODS[record.method].free_sign:
        nested = record.methods[record.method].nested.fold_mean
        others = {name: entry for name, entry in record.methods.items() if not METHODS[name].free_sign}
        best = max(others, key=lambda name: others[name].behind.difference)
        found.append(
            f"WARNING: weights of free sign overfit: in-sample "
            f"{record.methods[record.method].in_sample.fold_mean:.4f}, nested {nested:.4f}; "
            f"{best} with weights of one sign {others[best].nested.fold_mean:.4f} nested"
        )
    return [*found, *(f"WARNING: {note}" for note in record.notes)]


def _members(record: Blend) -> Table:
    title = f"Members of {record.name} ({record.metric}: mean over folds, pooled)"
    numbers = ("weight", "without a fold", "resampled 90 %", "folds", "pooled", "cost if dropped")
    table = new_table(title, "candidate", "label", *numbers, n_text=2)
    table.columns[1].overflow = "fold"
    for member in sorted(record.members, key=lambda member: -member.weight):
        cost = member.drop_cost
        table.add_row(
            member.candidate,
            member.label + retried_note(member.retried),
            f"{member.weight:.3f}",
            f"{min(member.nested_weights):.2f}-{max(member.nested_weights):.2f}",
            f"{member.resampled.low:.2f}-{member.resampled.high:.2f}",
            f"{member.fold_mean:.4f}",
            f"{member.pooled:.4f}",
            "-" if cost is None else f"{cost.difference:+.4f} ± {cost.standard_error:.4f}",
        )
    return table


def _correlations(record: Blend) -> Table:
    table = new_table("Correlation of errors", "", *(member.candidate[:6] for member in record.members))
    for member, row in zip(record.members, record.error_correlations, strict=True):
        table.add_row(member.candidate[:6], *(f"{value:.2f}" for value in row))
    return table


def _path(record: Blend) -> Table:
    title = "Ensemble size (exact weights, scored on rows they were not fitted on)"
    table = new_table(title, "members", record.metric, "behind the best", n_text=0)
    for step in record.path:
        chosen = " chosen" if step.n_members == len(record.members) else ""
        table.add_row(
            f"{step.n_members}{chosen}", f"{step.score:.4f}", f"{-step.behind:.4f} ± {step.standard_error:.4f}"
        )
    return table


def _calibrations(record: Blend) -> Table:
    title = "Calibrations (mean over folds / pooled; nested: on rows not fitted on)"
    table = new_table(title, "", "nested", "behind the best")
    for name, entry in record.calibrations.items():
        chosen = " (chosen)" if name == record.calibration else ""
        table.add_row(name + chosen, _pair(entry.nested), _behind(entry.behind))
    return table


def _methods(record: Blend) -> Table:
    title = "Methods, same members (mean over folds / pooled; nested: on rows not fitted on)"
    table = new_table(title, "", "in-sample", "nested", "behind the best", "")
    for name, entry in record.methods.items():
        chosen = " (this blend)" if name == record.method else ""
        tie = "tie" if entry.behind.is_noise else ""
        table.add_row(name + chosen, _pair(entry.in_sample), _pair(entry.nested), _behind(entry.behind), tie)
    return table


def _scores(record: Blend) -> Table:
    title = f"{record.metric} (mean over folds / pooled; nested: on rows not fitted on)"
    table = new_table(title, "", "in-sample", "nested", "expected on test", "holdout")
    titles = {"blend": f"blend ({record.method})", "best_single": "best member", "mean": "plain mean"}
    for key, evidence in record.scores.items():
        test = evidence.expected
        expected = "-" if test is None else f"{test.value:.4f} ± {test.standard_error:.4f}"
        holdout = "-" if evidence.holdout is None else f"{evidence.holdout:.4f}"
        table.add_row(titles[key], _pair(evidence.in_sample), _pair(evidence.nested), expected, holdout)
    return table


def _pair(values: MetricRecord) -> str:
    return f"{values.fold_mean:.4f} / {values.pooled:.4f}"


def _behind(entry: ComparisonRecord) -> str:
    return "-" if entry.difference == 0.0 else f"{-entry.difference:.4f} ± {entry.standard_error:.4f}"
