"""Check in a simulation, where the truth is known, whether nested and expected scores are honest.

    python benchmarks/bench_honesty.py [--seeds 200] [--groups 300] [--candidates 16]

Every seed draws a competition: groups of rows that are hard or easy together, candidates of four families whose errors
have a part that all share, a part of the family, a part of the candidate and a part of each fold's model, folds whose
scale drifts, and test rows of other groups. `blend.make_blend` then does everything that `blendfold blend` does.
The truth is measured on the test rows (what the submission scores) and, for nested scores, on 40 times as many fresh
rows, where each fold's model predicts alone.

Prints bias and spread of each score over seeds, how often the interval contains the truth, and what the submission
would have scored with other choices of members, calibration and method.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.make_blend import make_blend
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from data_prep.prepared import Prepared, PreparedManifest
from data_prep.scoring.combination import Combination, Floats
from data_prep.scoring.metrics import pearson
from data_prep.task import Task

N_FOLDS, N_FAMILIES, PER_GROUP = 5, 4, 8
TASK = Task(name="simulated", text_columns=("left",), group_column="left", score_levels=(0.0, 0.25, 0.5, 0.75, 1.0))
SHARES = (0.205, 0.316, 0.337, 0.110, 0.032)
"""Of the scores, as in PPPM."""


@dataclass(frozen=True)
class World:
    """What candidates are like: sizes of the parts of their errors, on the scale of the score."""

    slope: Floats
    """[candidates]"""
    own: Floats
    """[candidates]"""
    model: Floats
    """[candidates]"""
    drift: Floats
    """[candidates, folds]: shift of each fold's model."""
    stretch: Floats
    """[candidates, folds]"""

    def rows(self, n_groups: int, random: np.random.Generator) -> tuple[np.ndarray, Floats, Floats]:
        """Return group and score of fresh rows, and every model's predictions [candidates, folds, rows]."""
        group = np.repeat(np.arange(n_groups), PER_GROUP)
        score = random.choice(np.array(TASK.score_levels), size=len(group), p=SHARES)
        n_candidates = len(self.slope)
        shared = 0.06 * random.normal(size=n_groups)[group] + 0.09 * random.normal(size=len(group))
        family = 0.07 * random.normal(size=(N_FAMILIES, len(group)))[np.arange(n_candidates) % N_FAMILIES]
        own = self.own[:, None] * random.normal(size=(n_candidates, len(group)))
        model = self.model[:, None, None] * random.normal(size=(n_candidates, N_FOLDS, len(group)))
        true = self.slope[:, None] * score + shared + family + own
        return group, score, self.stretch[:, :, None] * (true[:, None, :] + model) + self.drift[:, :, None]


def draw_world(n_candidates: int, random: np.random.Generator) -> World:
    """Return candidates of Pearson from about .65 to .85."""
    return World(
        slope=random.uniform(0.6, 0.9, n_candidates),
        own=random.uniform(0.04, 0.16, n_candidates),
        model=random.uniform(0.04, 0.10, n_candidates),
        drift=0.02 * random.normal(size=(n_candidates, N_FOLDS)),
        stretch=1.0 + 0.05 * random.normal(size=(n_candidates, N_FOLDS)),
    )


def as_predictions(group: np.ndarray, score: Floats, models: Floats, test: Floats) -> MemberPredictions:
    """Return what `load_predictions` would: each row predicted by the model of its fold."""
    fold = (group % N_FOLDS).astype(np.int8)
    order = np.argsort(fold, kind="stable")
    group, score, fold, models = group[order], score[order], fold[order], models[:, :, order]
    columns = tuple(
        MemberColumns(
            oof=tuple(models[c, k, fold == k].astype(np.float32) for k in range(N_FOLDS)),
            test=tuple(column.astype(np.float32) for column in test[c]),
            holdout=(),
        )
        for c in range(len(models))
    )
    members = tuple(
        Member(f"{c:012x}", f"candidate {c}", f"family {c % N_FAMILIES}", "run", "split") for c in range(len(models))
    )
    ids = pa.array([f"r{row}" for row in order])
    return MemberPredictions(members, (), columns, ids, score, fold, group.astype(np.int32), None)


def as_prepared(group: np.ndarray) -> Prepared:
    """Return a prepared folder in memory with test rows of the groups given."""
    test = pa.table({"id": [f"t{row}" for row in range(len(group))], "left": [f"anchor {g}" for g in group]})
    manifest = PreparedManifest(
        task=TASK,
        scheme="group",
        n_folds=N_FOLDS,
        seed=0,
        holdout=0.0,
        rows={},
        inputs={},
        data_hash="d",
        split_hash="split",
    )
    return Prepared("simulated", manifest, test.slice(0, 0), test)


def alone(combination: Combination, places: list[int], models: Floats, score: Floats) -> float:
    """Return the mean over folds of what a blend of each fold's models scores."""
    values = []
    for k in range(N_FOLDS):
        parts = zip(combination.parts, places, strict=True)
        blended = sum(part.weight * part.scaled(k, models[place, k]) for part, place in parts)
        values.append(pearson(score, blended))
    return float(np.mean(values))


def simulate(seed: int, n_groups: int, n_candidates: int) -> dict[str, float]:
    """Return every claimed score of one competition, and the truth behind it."""
    random = np.random.default_rng(seed)
    world = draw_world(n_candidates, random)
    group, score, models = world.rows(n_groups, random)
    test_group, test_score, test_models = world.rows(n_groups // 2, random)
    _, fresh_score, fresh_models = world.rows(20 * n_groups, random)
    predictions, data = as_predictions(group, score, models, test_models), as_prepared(test_group)

    def submitted(combination: Combination) -> float:
        places = [int(part.candidate, 16) for part in combination.parts]
        return pearson(test_score, combination.predict([list(test_models[place]) for place in places]))

    record = make_blend(predictions, data, BlendSettings(clip=True), name="blend").record.by_target[""]
    places = [int(part.candidate, 16) for part in record.combination.parts]
    blend, single = record.scores["blend"], record.scores["best_single"]
    assert blend.expected is not None
    assert single.expected is not None
    truth = submitted(record.combination)
    best = max(
        range(n_candidates),
        key=lambda c: np.mean([pearson(score[group % 5 == k], models[c, k][group % 5 == k]) for k in range(5)]),
    )
    single_truth = pearson(test_score, test_models[best].mean(axis=0))
    found = {
        "one": alone(record.combination, places, fresh_models, fresh_score),
        "in-sample": blend.in_sample.fold_mean,
        "nested": blend.nested.fold_mean,
        "test": truth,
        "expected": blend.expected.value,
        "nested pooled": blend.nested.pooled,
        "inside": float(blend.expected.low <= truth <= blend.expected.high),
        "single test": single_truth,
        "single expected": single.expected.value,
        "gain expected": blend.expected.value - single.expected.value,
        "gain nested": blend.nested.pooled - single.nested.pooled,
        "gain test": truth - single_truth,
        "members": float(len(record.members)),
        "policy: as chosen by nested scores": truth,
        "policy: best single member": single_truth,
        "policy: plain mean": pearson(test_score, np.mean([m.mean(axis=0) for m in test_models], axis=0)),
    }
    for name, method in (
        ("Nelder-Mead", "nelder-mead+line"),
        ("free ridge", "free-ridge+line"),
        ("the consensus", "consensus"),
    ):
        settings = BlendSettings(method=method)
        found[f"policy: every candidate, {name}"] = submitted(
            fit_blend(predictions, TASK.measure, settings).combination
        )
    return found


def main() -> None:
    """Simulate and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=200)
    arguments.add_argument("--groups", type=int, default=300)
    arguments.add_argument("--candidates", type=int, default=16)
    options = arguments.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        for name, value in simulate(seed, options.groups, options.candidates).items():
            found[name].append(value)
    table = {name: np.array(values) for name, values in found.items()}
    print(f"{options.seeds} seeds, {options.groups} groups of {PER_GROUP} rows, {options.candidates} candidates")
    print(f"{'score':58} {'mean':>8} {'bias':>9} {'its SE':>8} {'sd':>8}")
    for name, truth in (
        ("in-sample", "one"),
        ("nested", "one"),
        ("nested pooled", "test"),
        ("expected", "test"),
        ("single expected", "single test"),
        ("gain nested", "gain test"),
        ("gain expected", "gain test"),
    ):
        error = table[name] - table[truth]
        against = {"one": "one fold's model on fresh rows", "test": "the submission"}.get(truth, truth)
        print(
            f"{name + ', against ' + against:58} {table[name].mean():8.4f} {error.mean():+9.4f} "
            f"{error.std(ddof=1) / len(error) ** 0.5:8.4f} {error.std(ddof=1):8.4f}"
        )
    print(f"the interval of 95 % holds the submission's score in {table['inside'].mean():.1%}")
    print(f"members chosen: {table['members'].mean():.1f} on average")
    chosen = table["policy: as chosen by nested scores"]
    print(f"{'what the submission scores':58} {'mean':>8} {'to chosen':>9} {'its SE':>8}")
    for name in (name for name in table if name.startswith("policy: ")):
        difference = table[name] - chosen
        print(
            f"{name.removeprefix('policy: '):58} {table[name].mean():8.4f} {difference.mean():+9.4f} "
            f"{difference.std(ddof=1) / len(difference) ** 0.5:8.4f}"
        )


if __name__ == "__main__":
    main()
