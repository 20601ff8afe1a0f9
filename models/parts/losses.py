"""Losses, means over a batch in float32 whatever the outputs' precision, and how outputs become predictions."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from data_prep.task import Task
from models.task_fit import target_levels

LEAST_DEVIATION = 0.01
"""Least standard deviation that `GaussianNll` can predict, as a share of the task's range."""


@dataclass(frozen=True, kw_only=True)
class Loss(ABC):
    """A loss over outputs [batch, n_outputs] and targets; its `models.part_options` settings are its fields.

    Targets are [batch] where each row has one number, else [batch, numbers].
    """

    within_groups: ClassVar[bool] = False
    """Whether the loss compares rows of one anchor, which then must meet in a batch."""

    compares_rows: ClassVar[bool] = True
    """Whether the loss of a batch is more than the mean of its rows' losses: its parts then are not independent."""

    sees_level: ClassVar[bool] = True
    """Whether the loss changes when all predictions change by the same number. Where not, the head's last bias has no
    gradient but rounding: it does not learn, and in the end the outputs are anchored to targets (`OutputAnchor`)."""

    task: Task

    @property
    def n_outputs(self) -> int:
        """Outputs of a row that the loss needs."""
        return 1

    @abstractmethod
    def __call__(
        self, outputs: Tensor, targets: Tensor, groups: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar.

        groups, int64 [batch], number each row's anchor, for losses `within_groups`; weights [batch] say how much each
        row counts, for losses that do not compare rows.
        """

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Turn outputs into predictions, shaped as targets, on their scale as far as the loss knows it."""
        return _full(outputs).squeeze(-1)


class PointwiseLoss(Loss):
    """The weighted mean over rows of a function of the row's output and target."""

    compares_rows = False

    @abstractmethod
    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss [batch] for outputs [batch] or, where there are several, [batch, n_outputs]."""

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None = None,  # noqa: ARG002
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        values = _full(outputs).squeeze(-1)
        losses = self.of_rows(values, targets.to(values.dtype))
        return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


class MeanSquaredError(PointwiseLoss):
    """Squared error: (output - target)^2 (Legendre, 1805, least squares)."""

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        return (outputs - targets).square()


@dataclass(frozen=True, kw_only=True)
class Huber(PointwiseLoss):
    """Half the squared error up to `loss_delta`, from there on a straight line (Huber, 1964).

    With e = |output - target| and d = `loss_delta`: e^2 / 2 where e <= d, else d (e - d / 2). On targets within [0, 1],
    d = 1 gives half the mean squared error.
    """

    loss_delta: float = 1.0

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.huber_loss(outputs, targets, delta=self.loss_delta, reduction="none")


class SmoothL1(Huber):
    """The Huber loss divided by `loss_delta`: slope 1 in the straight part, whatever the delta (Girshick, 2015)."""

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.smooth_l1_loss(outputs, targets, beta=self.loss_delta, reduction="none")


class LogCosh(PointwiseLoss):
    """log cosh(output - target): about e^2 / 2 for small errors e, e - log 2 for large ones.

    Saleh and Saleh, 2022, Statistical properties of the log-cosh loss function used in machine learning.
    Computed as e + log(1 + exp(-2 e)) - log 2, which cannot overflow.
    """

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        error = (outputs - targets).abs()
        return error + functional.softplus(-2 * error) - math.log(2)


class BinaryCrossEntropy(PointwiseLoss):
    """Cross-entropy with the target, scaled to [0, 1], as a probability p: -p log q - (1 - p) log(1 - q).

    q = sigmoid(output). Its least value is the entropy of the targets, not 0. As an expectation it is the log score
    of a forecast (Good, 1952, Rational decisions), which rewards none but the true probability.
    """

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        probabilities = (targets - self.task.least) / (self.task.greatest - self.task.least)
        return functional.binary_cross_entropy_with_logits(outputs, probabilities, reduction="none")

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return sigmoid(output), scaled back to the task's range."""
        return _full(outputs).squeeze(-1).sigmoid() * (self.task.greatest - self.task.least) + self.task.least


class Pearson(Loss):
    """Correlation: 1 - r, with r the Pearson correlation of outputs and targets inside the batch.

    r is the product of both sides, each centered and scaled to length 1 (Pearson, 1896, Regression, heredity and
    panmixia). Scale and offset of the outputs are free. A batch in which either side is constant says nothing: its
    loss is 1 and its gradient 0.
    """

    sees_level = False

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None = None,  # noqa: ARG002
        weights: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the loss of a batch, a scalar in [0, 2]."""
        values = _full(outputs).squeeze(-1)
        return 1 - _unit(values) @ _unit(targets.to(values.dtype))


@dataclass(frozen=True, kw_only=True)
class MsePearson(Loss):
    """Squared error and correlation: (1 - w) (output - target)^2 + w (1 - r).

    w = `pearson_weight`, and r is as in `pearson`. The squared error fixes the scale that the correlation leaves free.
    Teams of the PPPM competition (2022) trained with such a sum.
    """

    pearson_weight: float = 0.5

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None = None,
        weights: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        squared = MeanSquaredError(task=self.task)(outputs, targets, groups)
        correlation = Pearson(task=self.task)(outputs, targets, groups)
        return (1 - self.pearson_weight) * squared + self.pearson_weight * correlation


class GaussianNll(PointwiseLoss):
    """The target's negative log-likelihood under a normal distribution whose mean and variance are both predicted.

    (log v + (m - target)^2 / v + log 2 pi) / 2, with m the first output and v = exp(second output) + f^2, where the
    floor f is `LEAST_DEVIATION` of the task's range (Nix and Weigend, 1994, Estimating the mean and variance of the
    target probability distribution). Predictions are the means.
    """

    @property
    def n_outputs(self) -> int:
        """Mean, and logarithm of the variance above the floor."""
        return 2

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        mean, log_excess = outputs.unbind(dim=-1)
        floor = LEAST_DEVIATION * (self.task.greatest - self.task.least)
        log_variance = torch.logaddexp(log_excess, torch.full_like(log_excess, 2 * math.log(floor)))
        return (log_variance + (mean - targets).square() * (-log_variance).exp() + math.log(2 * math.pi)) / 2

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return the means."""
        return _full(outputs)[:, 0]


@dataclass(frozen=True, kw_only=True)
class LevelsLoss(PointwiseLoss):
    """A loss over a distribution over the task's target levels: p = softmax(outputs), with one output for each level.

    Labels are distributions, too. With `label_width` 0 a target is shared among its two neighboring levels by linear
    interpolation, so that a level has all of its own; else level k gets a share of exp(-d^2 / (2 label_width^2)), with
    d the distance of target and level in steps between levels (Diaz and Marathe, 2019, Soft labels for ordinal
    regression). `label_smoothing` of it is then shared equally among all levels (Szegedy et al., 2016, Rethinking the
    Inception architecture, section 7). Predictions are expected targets.

    Raises:
        InputError: the task has no target levels.
    """

    label_width: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        target_levels(self.task)

    @property
    def n_outputs(self) -> int:
        """One for each level."""
        return len(target_levels(self.task))

    def labels(self, targets: Tensor) -> Tensor:
        """Return targets [batch] as smoothed distributions over the levels [batch, levels]."""
        shares = self.shares(targets)
        return (
            shares
            if self.label_smoothing == 0
            else shares.lerp(torch.full_like(shares, 1 / shares.shape[-1]), self.label_smoothing)
        )

    def shares(self, targets: Tensor) -> Tensor:
        """Return targets [batch] as distributions over the levels [batch, levels]."""
        place = _place(targets, targets.new_tensor(target_levels(self.task)))
        steps = torch.arange(self.n_outputs, device=targets.device)
        distance = (place.unsqueeze(-1) - steps).abs()
        if self.label_width == 0:
            return (1 - distance).relu()
        return (-distance.square() / (2 * self.label_width**2)).softmax(dim=-1)

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return the expected targets."""
        values = _full(outputs)
        return values.softmax(dim=-1) @ values.new_tensor(target_levels(self.task))


class CrossEntropy(LevelsLoss):
    """Cross-entropy of labels q and predicted shares p of the target levels: -sum over levels of q log p.

    Its least value is the entropy of the labels, which is 0 only where each target is a level and labels are not soft.
    """

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        return -(self.labels(targets) * outputs.log_softmax(dim=-1)).sum(dim=-1)


class KullbackLeibler(LevelsLoss):
    """Kullback-Leibler divergence of predicted shares p of the target levels from labels q: sum of q log(q / p).

    The cross-entropy less the entropy of the labels: same gradients, and 0 where p = q (Kullback and Leibler, 1951, On
    information and sufficiency).
    """

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        divergence = functional.kl_div(outputs.log_softmax(dim=-1), self.labels(targets), reduction="none")
        return divergence.sum(dim=-1)


@dataclass(frozen=True, kw_only=True)
class ClassesLoss(LevelsLoss):
    """A loss over a distribution over the task's classes; targets are shares [batch, classes], predictions too."""

    def __post_init__(self) -> None:
        """Need no levels."""

    @property
    def n_outputs(self) -> int:
        """One for each class."""
        return self.task.target.n_numbers

    def shares(self, targets: Tensor) -> Tensor:
        """Return the targets themselves."""
        return targets

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return the probability of each class, [batch, classes]."""
        return _full(outputs).softmax(dim=-1)


class ClassesCrossEntropy(ClassesLoss, CrossEntropy):
    """Cross-entropy of shares and predicted probabilities of classes."""


class ClassesKullbackLeibler(ClassesLoss, KullbackLeibler):
    """Kullback-Leibler divergence of predicted probabilities of classes from shares."""


class ClassesBinaryCrossEntropy(BinaryCrossEntropy):
    """The mean over classes of the cross-entropy of whether a row belongs there, each class against all others.

    Predictions are sigmoid(output), scaled to the sum 1 for each row.
    """

    @property
    def n_outputs(self) -> int:
        """One for each class."""
        return self.task.target.n_numbers

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        return super().of_rows(outputs, targets).mean(dim=-1)

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return the probability of each class, [batch, classes]."""
        return functional.logsigmoid(_full(outputs)).softmax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Ordinal(PointwiseLoss):
    """The sum of the cross-entropies of whether the target is above each level but the last.

    One output for each of these questions, sigmoid(output) the probability of yes (Niu et al., 2016, Ordinal regression
    with multiple output CNN). Between two levels, "above the lower" is true in part, by linear interpolation.
    Predictions are expected targets: the least level, and each step to the next level times its probability.

    Raises:
        InputError: the task has no target levels.
    """

    def __post_init__(self) -> None:
        target_levels(self.task)

    @property
    def n_outputs(self) -> int:
        """One for each level but the last."""
        return len(target_levels(self.task)) - 1

    def of_rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss."""
        levels = targets.new_tensor(target_levels(self.task))
        above = ((targets.unsqueeze(-1) - levels[:-1]) / levels.diff()).clamp(0, 1)
        values = outputs.reshape(above.shape)  # [batch] where there are two levels
        return functional.binary_cross_entropy_with_logits(values, above, reduction="none").sum(dim=-1)

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return the expected targets."""
        values = _full(outputs)
        levels = values.new_tensor(target_levels(self.task))
        return levels[0] + values.sigmoid() @ levels.diff()


class Ranking(Loss):
    """How surely the better of two rows of the same anchor is ranked above the other (Burges et al., 2005, RankNet).

    The mean of log(1 + exp(output_j - output_i)) over all pairs of a batch with the same anchor and score_i > score_j.
    The offset of the outputs is free. A batch without such a pair has loss and gradient 0.
    """

    within_groups = True
    sees_level = False

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None = None,
        weights: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        assert groups is not None
        values = _full(outputs).squeeze(-1)
        pairs = (groups.unsqueeze(1) == groups) & (targets.unsqueeze(1) > targets)
        losses = functional.softplus(values - values.unsqueeze(1))
        return torch.where(pairs, losses, 0.0).sum() / pairs.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class SeveralTargets(Loss):
    """A loss of one number, for rows with several: targets [batch, numbers], NaN where missing.

    Outputs [batch, numbers * outputs of the loss] are those of the first target, of the second, and so on. The loss is
    the weighted mean over all targets that are there; one that compares rows is the mean over targets, each on the
    rows that have it.
    """

    loss: Loss

    def __post_init__(self) -> None:
        for name in ("within_groups", "compares_rows", "sees_level"):
            object.__setattr__(self, name, getattr(self.loss, name))

    @property
    def n_outputs(self) -> int:
        """Those of the loss, for each target."""
        return self.task.target.n_numbers * self.loss.n_outputs

    def __call__(
        self, outputs: Tensor, targets: Tensor, groups: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        known, outputs = ~targets.isnan(), outputs.reshape(*targets.shape, -1)
        if self.loss.compares_rows:
            places = [(rows, target) for target, rows in enumerate(known.T) if rows.any()]
            losses = [
                self.loss(outputs[place], targets[place], None if groups is None else groups[place[0]])
                for place in places
            ]
            return torch.stack(losses).mean()
        counts = known if weights is None else known * weights.unsqueeze(1)
        filled = torch.where(known, targets, self.task.least)
        return self.loss(outputs.flatten(0, 1), filled.flatten(), weights=counts.flatten())

    def to_predictions(self, outputs: Tensor) -> Tensor:
        """Return predictions [batch, numbers]."""
        n_targets = self.task.target.n_numbers
        return self.loss.to_predictions(outputs.reshape(len(outputs) * n_targets, -1)).reshape(-1, n_targets)


def _full(values: Tensor) -> Tensor:
    """Return `values` in float32, or as they are where they have more precision than that."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _unit(values: Tensor) -> Tensor:
    """Centre `values` [batch] and scale them to length 1; zeros, with zero gradient, when they are constant."""
    centered = values - values.mean()
    spread = centered.detach().abs().amax()
    rounding = 4 * torch.finfo(values.dtype).eps * values.detach().abs().amax()
    varies = spread > rounding
    scaled = torch.where(varies, centered / torch.where(varies, spread, 1.0), 0.0)
    return functional.normalize(scaled, dim=0)


def _place(targets: Tensor, levels: Tensor) -> Tensor:
    """Return each target's place among ascending levels, clipped to them: 1.5 is halfway from level 1 to level 2."""
    below = (torch.searchsorted(levels, targets, right=True) - 1).clamp(0, len(levels) - 2)
    share = (targets - levels[below]) / (levels[below + 1] - levels[below])
    return below + share.clamp(0, 1)


LOSSES: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "huber": Huber,
    "smooth_l1": SmoothL1,
    "log_cosh": LogCosh,
    "bce": BinaryCrossEntropy,
    "pearson": Pearson,
    "mse_pearson": MsePearson,
    "gaussian_nll": GaussianNll,
    "cross_entropy": CrossEntropy,
    "kl": KullbackLeibler,
    "ordinal": Ordinal,
    "ranking": Ranking,
}
"""Name -> loss; `models.part_options` says what each is and which settings it has."""
CLASSES_LOSSES: dict[str, type[Loss]] = {
    "bce": ClassesBinaryCrossEntropy,
    "cross_entropy": ClassesCrossEntropy,
    "kl": ClassesKullbackLeibler,
}
"""Name -> loss, where the targets are classes."""
