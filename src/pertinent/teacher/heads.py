"""Heads: an encoder's state -> grade logits, and the losses and probabilities that belong to each kind of head.

softmax  one logit a grade; P(k) = softmax(logits)_k.
coral    one logit a threshold, P(grade >= k) = sigmoid(logit_k). All thresholds share one score and lie in order, so no
         probability is negative. Source: Cao, Mirjalili and Raschka 2020, arXiv 1901.07884, section 3.3; there the order
         is a theorem about the optimum, here it holds at every step.
corn     one logit a threshold, P(grade >= k | grade >= k - 1) = sigmoid(logit_k). Source: Shi, Cao and Raschka 2023,
         arXiv 2111.08851, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pertinent.teacher.calibration import n_logits
from pertinent.teacher.config import HeadKind

_SPACING = 1.0  # between neighbouring thresholds of a new coral head, in logits


class GradeHead(nn.Sequential):
    """A two-layer perceptron: (B, hidden) float32 -> logits (B, n or n - 1) float32.

    Source: arXiv 2410.17152, section 3 (fully connected layers on the state that is read).
    """

    def __init__(self, hidden: int, n_grades: int, kind: HeadKind) -> None:
        width = 1 if kind == "coral" else n_logits(kind, n_grades)
        layers: list[nn.Module] = [nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, width)]
        super().__init__(*layers, *([OrderedThresholds(n_grades - 1)] if kind == "coral" else []))
        self.reset()

    def reset(self) -> None:
        """Draw new weights."""
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, OrderedThresholds):
                layer.reset()


class OrderedThresholds(nn.Module):
    """One score -> its distance above each threshold: (B, 1) -> (B, n - 1); the thresholds rise by softplus steps."""

    def __init__(self, n_thresholds: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(1))
        self.steps = nn.Parameter(torch.empty(n_thresholds - 1))

    def reset(self) -> None:
        """Thresholds evenly spaced around 0."""
        n_thresholds = self.steps.numel() + 1
        nn.init.constant_(self.first, -_SPACING * (n_thresholds - 1) / 2)
        nn.init.constant_(self.steps, math.log(math.expm1(_SPACING)))

    def forward(self, score: Tensor) -> Tensor:
        rises = torch.cat([self.first.new_zeros(1), nn.functional.softplus(self.steps).cumsum(0)])
        return score - (self.first + rises)


def cross_entropy(kind: HeadKind, logits: Tensor, target_probs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy (nats) of the head's distribution to the target distributions.

    logits: (B, n or n - 1). target_probs: (B, n), rows summing to 1. weights: (B,) of each pair, of mean 1 over all
    pairs of a training: the mean is over the number of pairs, so that a batch gives the same gradient in however many parts
    it is computed. For coral, as in its paper, the sum over thresholds of the binary cross-entropies, which is not the
    cross-entropy of the grades; for corn the sum over thresholds is exactly that, whatever the targets.
    """
    losses = _LOSSES[kind](logits.float(), target_probs)
    return losses.mean() if weights is None else (losses * weights).mean()


def _softmax_loss(logits: Tensor, target_probs: Tensor) -> Tensor:
    return -(target_probs * torch.log_softmax(logits, dim=1)).sum(dim=1)


def _coral_loss(logits: Tensor, target_probs: Tensor) -> Tensor:
    at_least = _at_least(target_probs)[:, 1:]
    return nn.functional.binary_cross_entropy_with_logits(logits, at_least, reduction="none").sum(dim=1)


def _corn_loss(logits: Tensor, target_probs: Tensor) -> Tensor:
    at_least = _at_least(target_probs)
    reached, passed = at_least[:, :-1], at_least[:, 1:]
    gained = passed * nn.functional.logsigmoid(logits) + (reached - passed) * nn.functional.logsigmoid(-logits)
    return -gained.sum(dim=1)


def _at_least(probs: Tensor) -> Tensor:
    """(B, n): P(grade >= k) for k = 0..n-1."""
    return probs.flip(1).cumsum(1).flip(1).clamp(0.0, 1.0)


_LOSSES = {"softmax": _softmax_loss, "coral": _coral_loss, "corn": _corn_loss}
