"""What a candidate can be made of: the recipes, heads, losses and adversaries by name, each with its own settings.

Their code is in `models.text.recipes` and `models.parts`; a test holds tables and code together.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PartOption:
    """One thing to choose."""

    summary: str
    """One line for a list."""
    settings: tuple[str, ...] = ()
    """Fields of the candidate that have an effect with this choice and not with every other one."""
    first_token: bool = False
    """Whether a head reads a text's first token alone, which then must know of all others."""
    needs_levels: bool = False
    """Whether the task must list its legal targets, as `score_levels` in its task file."""
    compares_rows: bool = False
    """Whether a loss compares the rows of a batch, which then cannot have weights."""
    for_classes: bool = False
    """Whether a loss also takes classes as targets."""
    no_windows: str = ""
    """Why a row cannot be scored from several windows with it; empty: it can."""


SEPARATORS = ("separator", "spell_separator")
SHUFFLES = ("shuffle_siblings", "prediction_shuffles")
LABELS = ("label_width", "label_smoothing")
POOLING = ("head_norm", "head_layers", "head_width")
SIBLINGS = "adds phrases of other rows to the text"
ONE_TOKEN = "reads a token that stands in one window alone"

RECIPE_OPTIONS = {
    "pair": PartOption("anchor, target", SEPARATORS),
    "pair_context": PartOption("anchor, target, context text", ("context", *SEPARATORS)),
    "context_first": PartOption("context text, anchor, target", ("context", *SEPARATORS)),
    "two_segments": PartOption(
        "context text and anchor as first segment, target as second", ("context", "segment_ids", *SEPARATORS)
    ),
    "code_embedding": PartOption(
        "anchor and target as two segments; CPC section and class number reach the head as embeddings",
        ("segment_ids",),
    ),
    "grouped": PartOption(
        "pair_context, then the other targets of the same anchor and context (or section), shuffled per epoch",
        ("context", *SEPARATORS, "sibling_scope", "max_siblings", "own_target", *SHUFFLES),
        no_windows=SIBLINGS,
    ),
    "packed": PartOption(
        "anchor, context text, then all targets of the two in one text; each row is scored from its target's tokens",
        ("context", *SEPARATORS, *SHUFFLES),
        no_windows=SIBLINGS,
    ),
    "marked": PartOption(
        "anchor, context text, then all targets of the two, the row's own among them between two [TAR] markers",
        ("context", *SEPARATORS, "sibling_scope", "max_siblings", *SHUFFLES),
        no_windows=SIBLINGS,
    ),
    "prompt": PartOption(
        'a cloze text, "in the field of CONTEXT the phrase ANCHOR means [MASK] TARGET", scored from the mask token',
        ("context",),
        no_windows="scores a row from its mask token alone",
    ),
    "texts": PartOption(
        "every text of the task in reading order, each behind its label where the task has `text_labels`",
        ("context", *SEPARATORS),
    ),
}
"""Which phrases of a row become its text, in which order. Anchor, target and context are a task's text columns."""

TRUNCATION_OPTIONS = {
    "head": PartOption("the first tokens of each phrase that is cut"),
    "tail": PartOption("the last tokens of each phrase that is cut"),
    "head_tail": PartOption("the first and the last tokens of each phrase that is cut", ("head_share",)),
    "windows": PartOption(
        "all: the phrase that is cut most is read in overlapping windows, and the head pools the tokens of all",
        ("window_overlap", "max_windows"),
    ),
}
"""What is kept of a row that is longer than `max_length`."""

HEAD_OPTIONS = {
    "cls": PartOption("the first token", POOLING, first_token=True, no_windows=ONE_TOKEN),
    "cls_last4": PartOption(
        "the first token in each of the last 4 hidden states, side by side (in all of them where there are fewer)",
        POOLING,
        first_token=True,
        no_windows=ONE_TOKEN,
    ),
    "last": PartOption("the last token, for backbones that read from left to right", POOLING, no_windows=ONE_TOKEN),
    "mean": PartOption("the mean over tokens", POOLING),
    "max": PartOption("the greatest value over tokens, dimension by dimension", POOLING),
    "attention": PartOption("a learned weighted mean over tokens", POOLING),
    "layer_pool": PartOption(
        "the mean over tokens of a learned mixture of all hidden states, that of the embeddings included", POOLING
    ),
    "lstm": PartOption("a bidirectional LSTM over tokens, then the mean over its outputs", POOLING),
    "cnn": PartOption("two convolutions over tokens, then the greatest output over positions"),
}
"""How the tokens of a row become one vector, and the vector a prediction."""

LOSS_OPTIONS = {
    "mse": PartOption("squared error: (output - target)^2"),
    "huber": PartOption("half the squared error up to `loss_delta`, from there on a straight line", ("loss_delta",)),
    "smooth_l1": PartOption("the Huber loss divided by `loss_delta`, so that the line has slope 1", ("loss_delta",)),
    "log_cosh": PartOption("log cosh(output - target): about e^2 / 2 for small errors e, e - log 2 for large ones"),
    "bce": PartOption(
        "cross-entropy with the target, scaled to [0, 1], as a probability p: -p log q - (1 - p) log(1 - q)",
        for_classes=True,
    ),
    "pearson": PartOption(
        "correlation: 1 - r, with r the Pearson correlation of outputs and targets inside the batch", compares_rows=True
    ),
    "mse_pearson": PartOption(
        "squared error and correlation: (1 - w) (output - target)^2 + w (1 - r)",
        ("pearson_weight",),
        compares_rows=True,
    ),
    "gaussian_nll": PartOption(
        "the target's negative log-likelihood under a normal distribution whose mean and variance are both predicted"
    ),
    "cross_entropy": PartOption(
        "cross-entropy of labels q and predicted shares p of the target levels: -sum over levels of q log p",
        LABELS,
        needs_levels=True,
        for_classes=True,
    ),
    "kl": PartOption(
        "Kullback-Leibler divergence of predicted shares p of the target levels from labels q: sum of q log(q / p)",
        LABELS,
        needs_levels=True,
        for_classes=True,
    ),
    "ordinal": PartOption(
        "the sum of the cross-entropies of whether the target is above each level but the last", needs_levels=True
    ),
    "ranking": PartOption(
        "how surely the better of two rows of the same anchor is ranked above the other", compares_rows=True
    ),
}
"""What training minimizes."""

ADVERSARY_OPTIONS = {
    "none": PartOption("the weights stay as they are"),
    "fgm": PartOption(
        "FGM: the token embeddings move up the gradient, whose value there is added to the plain one",
        ("adversary_start", "adversary_eps"),
    ),
    "awp": PartOption(
        "AWP: every trained matrix moves up its gradient; the step follows the gradient found there alone",
        ("adversary_start", "adversary_eps", "adversary_lr"),
    ),
}
"""How weights are perturbed while training takes its gradients."""

PART_OPTIONS: Mapping[str, Mapping[str, PartOption]] = {
    "recipe": RECIPE_OPTIONS,
    "truncation": TRUNCATION_OPTIONS,
    "head": HEAD_OPTIONS,
    "loss": LOSS_OPTIONS,
    "adversary": ADVERSARY_OPTIONS,
}
"""Field of the candidate -> what it may name."""
