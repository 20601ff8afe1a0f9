"""Compare the training throughput of `train_fold` with `transformers.Trainer` doing the same work.

    python benchmarks/bench_training.py --data data/pppm --layers 2 --rows 6000

Both start from the same weights and text, and do the whole job of one fold run: load, tokenize, train, predict the
validation and test rows. Trainer runs at its best settings for this work: bf16, length grouping, padding per batch,
plain attention on the CPU (its fused kernel is slower there), prediction sorted by length, no logging, evaluation or
saving along the way. Rows per CPU second count all processes and threads. The two take turns, so that a busy machine
hurts both.
"""

import argparse
import cProfile
import dataclasses
import pstats
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from data_prep.prepared import Prepared, load_prepared
from models.backbones.load_backbone import load_backbone
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.parts.build import new_head
from models.parts.heads import Head
from models.text.recipes import RECIPES
from models.training.devices import find_device, find_precision
from models.training.fold_options import FoldOptions
from models.training.train_fold import train_fold

FOLD = 0
PREDICTION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TimedTraining:
    """One job done."""

    name: str
    cpu_seconds: float
    seconds: float
    metric: float


class Regressor(nn.Module):
    """A plain Hugging Face model with a mean-pooling head and the mean squared error."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return `logits` [batch], and `loss` where there are labels."""
        logits = self.head(self.backbone(input_ids, attention_mask), attention_mask).squeeze(-1)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.mse_loss(logits.float(), labels), "logits": logits}


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished children, all threads."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def with_house(candidate: Candidate, data: Prepared, threads: int) -> float:
    """Train with `train_fold`, the token cache empty."""
    with tempfile.TemporaryDirectory() as cache:
        found = train_fold(
            candidate,
            data,
            FOLD,
            FoldOptions(cache=Path(cache), threads=threads),
            backbone=locate_backbone(candidate.backbone),
        )
    assert found is not None
    return found.metric


def with_trainer(candidate: Candidate, data: Prepared, threads: int) -> float:
    """Train with `transformers.Trainer`."""
    torch.set_num_threads(threads)
    files = locate_backbone(candidate.backbone)
    tokenizer = files.tokenizer
    columns = RECIPES[candidate.recipe].layout(data.task, candidate).columns
    fold = np.array(data.train["fold"])
    backbone = load_backbone(candidate, files)
    if find_device("auto").type == "cpu":
        inner: Any = backbone.model.model
        inner.set_attn_implementation("eager")
    torch.manual_seed(candidate.seed)
    head = new_head(candidate, hidden_size=backbone.hidden_size, n_states=backbone.n_states, n_outputs=1)
    model = Regressor(backbone.model, head)
    train, validation, test = (
        _examples(table, columns, tokenizer, candidate.max_length)
        for table in (data.train.filter(fold != FOLD), data.train.filter(fold == FOLD), data.test)
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_trainer_settings(candidate, folder),
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        trainer.args.train_sampling_strategy = "sequential"  # else Trainer shuffles what it predicts, too
        prediction = _predict(trainer, validation)
        _predict(trainer, test)
    return data.task.measure([example["labels"] for example in validation], prediction)


def _trainer_settings(candidate: Candidate, folder: str) -> TrainingArguments:
    device = find_device("auto")
    return TrainingArguments(
        output_dir=folder,
        use_cpu=device.type == "cpu",
        bf16=find_precision(candidate.precision, device) == "bf16",
        per_device_train_batch_size=candidate.batch_size,
        per_device_eval_batch_size=PREDICTION_BATCH,
        num_train_epochs=candidate.epochs,
        learning_rate=candidate.backbone_lr,
        weight_decay=candidate.weight_decay,
        warmup_steps=candidate.warmup,
        max_grad_norm=candidate.clip_norm,
        lr_scheduler_type=candidate.schedule,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        seed=candidate.seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _examples(table: Any, columns: tuple[str, ...], tokenizer: Any, max_length: int) -> list[dict[str, Any]]:
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    separator = f" {tokenizer.sep_token} "
    encoded = tokenizer([separator.join(row) for row in rows], truncation=True, max_length=max_length)
    examples = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in encoded["input_ids"]]
    if "score" in table.column_names:
        for example, score in zip(examples, table["score"].to_pylist(), strict=True):
            example["labels"] = score
    return examples


def _predict(trainer: Trainer, examples: list[dict[str, Any]]) -> np.ndarray:
    """Predict with the longest first, which spares Trainer most of its padding."""
    order = sorted(range(len(examples)), key=lambda place: -len(examples[place]["input_ids"]))
    output = trainer.predict([examples[place] for place in order])
    if output.label_ids is not None:
        scores = [examples[place]["labels"] for place in order]
        assert np.array_equal(output.label_ids, np.array(scores, dtype=np.float32)), (
            "Trainer predicted in another order"
        )
    prediction = np.empty(len(examples), dtype=np.float64)
    prediction[order] = np.ravel(output.predictions)
    return prediction


CONTESTANTS: dict[str, Callable[[Candidate, Prepared, int], float]] = {
    "train_fold": with_house,
    "Trainer": with_trainer,
}


def measure(name: str, candidate: Candidate, data: Prepared, threads: int) -> TimedTraining:
    """Do one job and take its time."""
    cpu, clock = cpu_seconds(), time.perf_counter()
    metric = CONTESTANTS[name](candidate, data, threads)
    return TimedTraining(name, cpu_seconds() - cpu, time.perf_counter() - clock, metric)


def sample(data: Prepared, rows: int | None) -> Prepared:
    """Return the data with `rows` train rows and a tenth as many test rows drawn at random, without the holdout."""
    generator = np.random.default_rng(0)

    def drawn(table: Any, wanted: int) -> Any:
        count = min(wanted, table.num_rows)
        return table.take(np.sort(generator.choice(table.num_rows, count, replace=False)))

    train = data.train.filter(np.array(data.train["fold"]) >= 0)
    wanted = rows or train.num_rows
    return dataclasses.replace(data, train=drawn(train, wanted), test=drawn(data.test, max(1, wanted // 10)))


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--rows", type=int, help="train rows, all folds together (default: all)")
    parser.add_argument("--layers", type=int, help="encoder layers kept (default: all)")
    parser.add_argument("--backbone", default="minilm-l6")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-4, help="peak learning rate, backbone and head alike")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=3, help="jobs of each, by turns, each pair with a seed of its own"
    )
    parser.add_argument("--profile", action="store_true", help="only show where train_fold spends its time")
    arguments = parser.parse_args()
    data = sample(load_prepared(arguments.data), arguments.rows)
    candidate = Candidate(
        backbone=arguments.backbone,
        layers=arguments.layers,
        epochs=arguments.epochs,
        backbone_lr=arguments.rate,
        head_lr=arguments.rate,
    )
    if arguments.profile:
        profile(candidate, data, arguments.threads)
        return
    n_train = int((np.array(data.train["fold"]) != FOLD).sum()) * arguments.epochs
    warm = sample(data, 200)
    outcomes = []
    for name in CONTESTANTS:
        measure(name, candidate, warm, arguments.threads)
    for repeat in range(arguments.repeats):
        seeded = candidate.model_copy(update={"seed": candidate.seed + repeat})
        for name in list(CONTESTANTS)[:: 1 if repeat % 2 == 0 else -1]:
            outcomes.append(measure(name, seeded, data, arguments.threads))
            report(outcomes[-1:], n_train)
    print(f"\nmedians of {arguments.repeats}, {n_train} training rows, {candidate.label}, {arguments.threads} threads")
    for name in CONTESTANTS:
        report([outcome for outcome in outcomes if outcome.name == name], n_train)


def report(outcomes: list[TimedTraining], n_train: int) -> None:
    """Print one line: the medians over jobs of one contestant."""
    cpu, clock, metric = (
        statistics.median(getattr(outcome, field) for outcome in outcomes)
        for field in ("cpu_seconds", "seconds", "metric")
    )
    line = f"{outcomes[0].name:<12}{n_train / cpu:>9.1f} rows per CPU-second{cpu:>9.1f} CPU-s{clock:>9.1f} s"
    print(f"{line}    metric {metric:.4f}", flush=True)


def profile(candidate: Candidate, data: Prepared, threads: int) -> None:
    """Print the functions and the operators that `train_fold` spends its time in."""
    with_house(candidate, sample(data, 200), threads)
    python = cProfile.Profile()
    python.runcall(with_house, candidate, data, threads)
    pstats.Stats(python).sort_stats("tottime").print_stats(25)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as operators:
        with_house(candidate, data, threads)
    print(operators.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


if __name__ == "__main__":
    main()
