"""Part 1, the summary: what was searched, what it cost, what won, what to expect on test."""

from collections.abc import Iterator

from blend.blend_record import WholeRecord
from blend.evidence.blend_report import whole_sentences
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.figures.blend_figures import expectation_figure
from blendfold.report.page.blocks import Block, Part, Prose, Remark, Tile, Tiles
from blendfold.report.page.page_text import ABSENT, number
from blendfold.report.parts.panels import panels
from data_prep.console import duration, duration_range
from data_prep.wording import count
from search.watch.leaderboard import LeaderboardRow


def summary_part(source: ReportSource) -> Part:
    """Return the part."""
    return Part(
        "summary",
        "Summary",
        [
            *panels("The search", lambda: [Prose(list(_paragraph(source)), is_lead=True)]),
            *panels("Key numbers", lambda: [Tiles(list(_tiles(source)))]),
            *panels("Scores", lambda: [expectation_figure(source.whole_blend)] if source.whole_blend else []),
            *panels("Beware", lambda: _warnings(source)),
        ],
    )


def _paragraph(source: ReportSource) -> Iterator[str]:
    yield _searched(source)
    if not source.is_imported:
        yield from _state(source)
        yield from _cost(source)
        yield from _winner(source)
    blend = source.whole_blend
    if blend is None:
        yield "There is no blend yet, so what to expect on test is not known."
        return
    yield _blend_sentence(blend)
    yield _expectation(blend)


def _searched(source: ReportSource) -> str:
    run, study = source.run, source.run.study
    if source.is_imported:
        models, rows = count(len(run.candidates), "model"), count(run.data.manifest.rows["train"], "row")
        return f"{study.get('name', '')} holds predictions of {models} made elsewhere for {rows}, by {run.metric.name}."
    families = {run.settings(candidate).get("backbone", "imported") for candidate in run.candidates}
    tried = count(len(run.candidates), "candidate")
    on = f"{count(len(families), 'backbone')}" if len(families) != 1 else f"the backbone {next(iter(families))}"
    manifest = run.data.manifest
    return (
        f"The study {study.get('name', '')} searched {tried} of {on} on {count(manifest.rows['train'], 'row')} of "
        f"{manifest.task.name}, split into {count(manifest.n_folds, 'fold')}{manifest.in_repeats} ({manifest.scheme}), "
        f"scored by {run.metric.name}."
    )


def _state(source: ReportSource) -> Iterator[str]:
    run, pulse = source.run, source.run.pulse
    if not run.has_driver or pulse is None:
        return
    left = f", {duration_range(pulse.seconds_left, pulse.seconds_left_most)} left" if pulse.seconds_left else ""
    to_come = f", {count(pulse.to_come, 'candidate')} not started" if pulse.to_come else ""
    done = pulse.counts.get("done", pulse.counts["finished"])
    yield (f"It is still running: {count(done, 'fold run')} finished, {len(pulse.running)} on workers{to_come}{left}.")


def _cost(source: ReportSource) -> Iterator[str]:
    run, saved = source.run, source.saved
    if not run.curves:
        return
    spent = run.pulse.spent if run.pulse else None
    held = ""
    if spent is not None:
        gpus = f" and {spent.gpu_hours:.1f} GPU hours" if spent.gpu_hours else ""
        held = f", holding {spent.core_hours:.1f} core hours{gpus}"
    yield f"Training took {duration(60 * saved.trained)}{held}."
    if saved.saved > 0:
        yield (
            f"Early stopping left out {saved.share:.0%} of what every candidate on every fold would have taken "
            f"({duration(60 * saved.full)})."
        )


def _winner(source: ReportSource) -> Iterator[str]:
    rows = source.board.rows
    if not rows:
        yield "No fold run has finished yet."
        return
    best = rows[0]
    ties = sum(1 for row in rows[1:] if row.difference is not None and row.difference.is_noise)
    tied = f"; {count(ties, 'other')} {'is' if ties == 1 else 'are'} within noise of it" if ties else ""
    folds = (
        "all folds" if len(best.folds) == source.board.n_folds else f"{len(best.folds)} of {source.board.n_folds} folds"
    )
    yield (
        f"The best single candidate is {source.names.of(best.candidate)} with a mean {source.board.metric} of "
        f"{best.mean:.4f} over {folds}{tied}."
    )


def _blend_sentence(blend: WholeRecord) -> str:
    nested, single, n_targets = blend.scores["blend"].nested.pooled, blend.comparisons[0], len(blend.by_target)
    mean, each = (f", the mean of {count(n_targets, 'target')}", " of each target") if n_targets > 1 else ("", "")
    verdict = "within noise of" if single.is_noise else ("better than" if single.difference > 0 else "worse than")
    return (
        f"The blend {blend.name} of {count(len(blend.weights), 'member')} scores {nested:.4f} nested{mean}, on rows "
        f"that it was not fitted on: {single.difference:+.4f} (95 % {single.low:+.4f} to {single.high:+.4f}), "
        f"{verdict} the best single model{each}."
    )


def _expectation(blend: WholeRecord) -> str:
    evidence = blend.scores["blend"]
    expected = evidence.expected
    if expected is None:
        return next(line for line in whole_sentences(blend) if line.startswith("expected on test")).capitalize() + "."
    gain = expected.value - evidence.nested.pooled
    why = (
        f"the nested score, and {gain:+.4f} because a test prediction is the mean over the fold models, which averages "
        "out part of their noise"
        if expected.averaged_out
        else "the nested score, as what averaging the fold models adds is unknown"
    )
    return (
        f"On test, expect {expected.value:.4f} (95 % {expected.low:.4f} to {expected.high:.4f}): {why}; the interval "
        "covers the noise of train and test having only so many groups, not test rows of another kind."
    )


def _tiles(source: ReportSource) -> Iterator[Tile]:
    if not source.is_imported:
        yield from _search_tiles(source)
    if source.whole_blend is not None:
        yield from _blend_tiles(source.whole_blend)


def _search_tiles(source: ReportSource) -> Iterator[Tile]:
    run, rows = source.run, source.board.rows
    complete = sum(len(row.folds) == source.board.n_folds for row in rows)
    done = sum(len(row.folds) for row in rows)
    yield Tile("candidates", "candidates", f"{len(run.candidates):,}", len(run.candidates), f"{complete} on all folds")
    yield Tile(
        "fold-runs",
        "finished fold runs",
        f"{done:,}",
        done,
        f"of {len(run.candidates) * run.n_folds:,} in the full grid",
    )
    if run.curves:
        yield Tile(
            "trained",
            "training time",
            duration(60 * source.saved.trained),
            source.saved.trained,
            f"{source.saved.share:.0%} of the full grid saved",
        )
    if rows:
        yield _single_tile(source, rows[0])


def _blend_tiles(blend: WholeRecord) -> Iterator[Tile]:
    evidence = blend.scores["blend"]
    fold_mean = f"mean over folds {number(evidence.nested.fold_mean, 4)}"
    yield Tile("nested", "blend, nested", number(evidence.nested.pooled, 4), evidence.nested.pooled, fold_mean)
    expected = evidence.expected
    yield Tile(
        "expected",
        "expected on test",
        ABSENT if expected is None else number(expected.value, 4),
        None if expected is None else expected.value,
        "" if expected is None else f"95 %: {number(expected.low, 4)} to {number(expected.high, 4)}",
    )


def _single_tile(source: ReportSource, best: LeaderboardRow) -> Tile:
    return Tile(
        "best", f"best single, {source.board.metric}", number(best.mean, 4), best.mean, source.names.of(best.candidate)
    )


def _warnings(source: ReportSource) -> Iterator[Block]:
    if source.whole_blend is None:
        return
    for sentence in whole_sentences(source.whole_blend):
        if sentence.partition(": ")[0] == "note" or "WARNING" in sentence:
            yield Remark(sentence, is_warning=True)
