"""Take data of other shapes from raw files to a submission, by the commands that `blendfold init` prints.

    python benchmarks/bench_tasks.py --pppm FOLDER --ratings FOLDER --out FOLDER [--rows 3000] [--only levels]

`--pppm` holds the competition's `train.csv`; `--ratings` the folder `hutto_ICWSM_2014` of the source archive of
vaderSentiment on PyPI (MIT; Hutto and Gilbert 2014): 23,703 sentences of tweets, reviews and editorials, each rated by
10 to 100 people from -4 to 4. Three tasks are made of them, each with test rows that are kept aside:

- `levels`: the competition's five scores as ordered levels 0 to 4, test anchors not in train; quadratic weighted kappa
- `numbers`: the mean of a sentence's ratings and their standard deviation; mean of both root mean squared errors
- `shares`: the shares of raters below, at and above 0, as three classes; multi-class log loss

For each, the commands run as printed. The submission is scored against the test rows kept aside, beside the score that
blendfold expected and beside TF-IDF (words, pairs of words, pieces of words) with ridge or logistic regression, fitted
on the same train rows. A metric that no file can tell is the one line that is changed in `task.yaml`.
"""

import argparse
import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import cohen_kappa_score

SOURCES = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Of ridge; a fifth of the train rows chooses."""
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Of logistic regression; likewise."""

Table = list[dict[str, object]]


@dataclass(frozen=True)
class Shape:
    """A task of one shape: its rows, its metric, and what others would use."""

    rows: Callable[[argparse.Namespace], tuple[Table, Table]]
    """Train and test rows, with targets both."""
    targets: tuple[str, ...]
    texts: tuple[str, ...]
    metric: str
    """As `task.yaml` calls it."""
    score: Callable[[np.ndarray, np.ndarray], float]
    """Of truth and submission, [rows, targets] both."""
    baseline: Callable[[csr_matrix, np.ndarray, csr_matrix], np.ndarray]
    """From features and targets of train, and features of test, to a submission."""


def phrase_levels(given: argparse.Namespace) -> tuple[Table, Table]:
    """Return pairs of phrases of the competition, score 0 to 4; no anchor is in both tables."""
    with (Path(given.pppm) / "train.csv").open(newline="") as file:
        rows: Table = [{**row, "score": round(4 * float(row["score"]))} for row in csv.DictReader(file)]
    random = np.random.default_rng(1)
    anchors = random.permutation(sorted({str(row["anchor"]) for row in rows})).tolist()
    order = {anchor: place for place, anchor in enumerate(anchors)}
    rows.sort(key=lambda row: order[str(row["anchor"])])  # stable: whole anchors, in a random order
    last = rows[given.rows]["anchor"]
    train = [row for row in rows[: given.rows] if row["anchor"] != last]
    test = [row for row in rows[given.rows :] if row["anchor"] != last]
    return train, test[: given.rows // 2]


def rated_sentences(given: argparse.Namespace) -> list[tuple[str, np.ndarray]]:
    """Return sentences with their ratings [raters], from -4 to 4, in a random order."""
    found: dict[str, np.ndarray] = {}
    for source in SOURCES:
        texts: dict[str, str] = {}
        ratings: dict[str, str] = {}
        for kept, ending in ((texts, "GroundTruth"), (ratings, "anonDataRatings")):
            content = (Path(given.ratings) / f"{source}_{ending}.txt").read_text("utf-8-sig", errors="replace")
            kept |= {line.split("\t")[0]: line.split("\t")[-1] for line in content.splitlines()}
        found |= {texts[key].strip(): np.array(ast.literal_eval(ratings[key])) for key in texts if key in ratings}
    sentences = [(text, ratings) for text, ratings in found.items() if text]
    return [sentences[place] for place in np.random.default_rng(1).permutation(len(sentences))]


def rating_numbers(given: argparse.Namespace) -> tuple[Table, Table]:
    """Return sentences with mean and standard deviation of their ratings."""
    rows: Table = [
        {"id": number, "sentence": text, "sentiment": round(ratings.mean(), 4), "disagreement": round(ratings.std(), 4)}
        for number, (text, ratings) in enumerate(rated_sentences(given))
    ]
    return rows[: given.rows], rows[given.rows : given.rows * 3 // 2]


def rating_shares(given: argparse.Namespace) -> tuple[Table, Table]:
    """Return sentences with the shares of raters who found them negative, neutral and positive."""
    rows: Table = [
        {
            "id": number,
            "sentence": text,
            **{
                name: round(float(np.mean(np.sign(ratings) == sign)), 6)
                for name, sign in (("negative", -1), ("neutral", 0), ("positive", 1))
            },
        }
        for number, (text, ratings) in enumerate(rated_sentences(given))
    ]
    return rows[: given.rows], rows[given.rows : given.rows * 3 // 2]


# What one would use instead


def features(train: Table, test: Table, texts: Sequence[str]) -> tuple[csr_matrix, csr_matrix]:
    """Return TF-IDF of words, pairs of words and pieces of words, of each text and of all together."""
    parts = []
    for columns in [list(texts), *([[name] for name in texts] if len(texts) > 1 else [])]:
        joined = [[" ".join(str(row[name]) for name in columns) for row in rows] for rows in (train, test)]
        for settings in ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (3, 5)}):
            words = TfidfVectorizer(sublinear_tf=True, min_df=2, **settings)
            parts.append((words.fit_transform(joined[0]), words.transform(joined[1])))
    return hstack([part[0] for part in parts]).tocsr(), hstack([part[1] for part in parts]).tocsr()


def ridge(x: csr_matrix, y: np.ndarray, others: csr_matrix) -> np.ndarray:
    """Return predictions of ridge regression for each target, its penalty chosen on the last fifth of the rows."""
    cut, columns = len(y) * 4 // 5, []
    for target in y.T:
        errors = [
            np.mean((Ridge(p).fit(x[:cut], target[:cut]).predict(x[cut:]) - target[cut:]) ** 2) for p in PENALTIES
        ]
        columns.append(Ridge(PENALTIES[int(np.argmin(errors))]).fit(x, target).predict(others))
    return np.column_stack(columns)


def ridge_levels(x: csr_matrix, y: np.ndarray, others: csr_matrix) -> np.ndarray:
    """Return levels that are as frequent as in train, in the order of ridge regression."""
    prediction, levels = ridge(x, y, others)[:, 0], np.sort(y[:, 0])
    ranks = np.argsort(np.argsort(prediction)) / len(prediction)
    return np.asarray(levels[(ranks * len(levels)).astype(int)][:, None])


def logistic(x: csr_matrix, y: np.ndarray, others: csr_matrix) -> np.ndarray:
    """Return probabilities of logistic regression on shares [rows, classes], each row once for every class."""

    def fit(rows: csr_matrix, shares: np.ndarray, strength: float) -> LogisticRegression:
        n_rows, n_classes = shares.shape
        every = np.repeat(np.arange(n_rows), n_classes)
        model = LogisticRegression(C=strength, max_iter=1000)
        return model.fit(rows[every], np.tile(np.arange(n_classes), n_rows), sample_weight=shares.ravel())

    cut = len(y) * 4 // 5
    losses = [log_loss(y[cut:], fit(x[:cut], y[:cut], strength).predict_proba(x[cut:])) for strength in STRENGTHS]
    return np.asarray(fit(x, y, STRENGTHS[int(np.argmin(losses))]).predict_proba(others))


# Metrics, by other code than blendfold's


def kappa(truth: np.ndarray, told: np.ndarray) -> float:
    """Return the quadratic weighted kappa of levels [rows, 1]."""
    return float(cohen_kappa_score(truth[:, 0].astype(int), np.rint(told[:, 0]).astype(int), weights="quadratic"))


def mean_rmse(truth: np.ndarray, told: np.ndarray) -> float:
    """Return the mean over targets of the root mean squared error."""
    return float(np.sqrt(np.mean((truth - told) ** 2, axis=0)).mean())


def log_loss(truth: np.ndarray, told: np.ndarray) -> float:
    """Return the cross-entropy of shares and probabilities."""
    probabilities = np.clip(told / told.sum(axis=1, keepdims=True), 1e-15, 1)
    return float(-np.mean(np.sum(truth * np.log(probabilities), axis=1)))


SHAPES = {
    "levels": Shape(phrase_levels, ("score",), ("anchor", "target"), "qwk", kappa, ridge_levels),
    "numbers": Shape(rating_numbers, ("sentiment", "disagreement"), ("sentence",), "rmse", mean_rmse, ridge),
    "shares": Shape(
        rating_shares, ("negative", "neutral", "positive"), ("sentence",), "multiclass_log_loss", log_loss, logistic
    ),
}


# From raw files to a score


def write(rows: Table, path: Path, *, without: Sequence[str] = ()) -> None:
    """Write rows as CSV."""
    names = [name for name in rows[0] if name not in without]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def run(folder: Path, command: str) -> str:
    """Run a command of blendfold in a folder, show it, and return what it printed."""
    print(f"$ {command}", flush=True)
    words = [sys.executable, "-m", *shlex.split(command)]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        words, cwd=folder, text=True, stdout=subprocess.PIPE, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    print(done.stdout, flush=True)
    if done.returncode not in (0, 3):  # 3: the blend is written, with a warning
        raise SystemExit(f"{command}: exit code {done.returncode}")
    return done.stdout


def numbers(rows: Sequence[dict[str, object]], names: Sequence[str]) -> np.ndarray:
    """Return columns of rows, [rows, names]."""
    return np.array([[float(str(row[name])) for name in names] for row in rows])


def measure(name: str, shape: Shape, given: argparse.Namespace) -> dict[str, object]:
    """Go the whole way for one task; return the scores."""
    folder, train, test = Path(given.out) / name, *shape.rows(given)
    if not (said := folder / "said.txt").exists():
        folder.mkdir(parents=True)
        write(train, folder / "train.csv")
        write(test, folder / "test.csv", without=shape.targets)
        said.write_text(run(folder, "blendfold init train.csv test.csv"))
    task = (folder / "task.yaml").read_text()
    changed = re.sub(r"(?m)^metric: .*$", f"metric: {shape.metric}", task)
    (folder / "task.yaml").write_text(changed)
    for line in said.read_text().splitlines():
        if line.startswith("blendfold "):
            run(folder, line)
    record = json.loads(next(folder.glob("runs/*/blends/*/blend.json")).read_text())
    with next(folder.glob("runs/*/blends/*/submission.csv")).open(newline="") as file:
        submission = {row["id"]: row for row in csv.DictReader(file)}
    truth = numbers(test, shape.targets)
    told = numbers([submission[str(row["id"])] for row in test], shape.targets)
    x, others = features(train, test, shape.texts)
    plain = shape.baseline(x, numbers(train, shape.targets), others)
    return {
        "task": name,
        "train": len(train),
        "test": len(test),
        "metric": shape.metric,
        "nested": record["scores"]["blend"]["nested"]["fold_mean"],
        "expected": (record["scores"]["blend"]["expected"] or {}).get("value"),
        "blendfold": shape.score(truth, told),
        "TF-IDF": shape.score(truth, plain),
    }


def main() -> None:
    """Measure the tasks, write `tasks.json`, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pppm", required=True)
    parser.add_argument("--ratings", required=True)
    parser.add_argument("--out", required=True, help="a folder; what an interrupted run left there goes on")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--only", choices=SHAPES)
    given = parser.parse_args()
    found = [measure(name, shape, given) for name, shape in SHAPES.items() if given.only in (None, name)]
    for each in found:
        print(json.dumps(each))
    (Path(given.out) / "tasks.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
