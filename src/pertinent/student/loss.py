"""Losses of the student: cross-entropy to soft grades with a temperature, and margins between items of one query."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted mean cross-entropy of logits / T to the targets p^(1/T), normalised, times T^2.

    logits: (B, n). targets: (B, n) probabilities. weights: (B,), at least one above 0. The factor keeps the size of the
    gradients the same at any T. Source: Hinton et al. 2015, arXiv 1503.02531, section 2.
    """
    soft = targets if temperature == 1.0 else torch.softmax(torch.log(targets.clamp_min(1e-12)) / temperature, dim=1)
    losses = -(soft * torch.log_softmax(logits / temperature, dim=1)).sum(1)
    return (weights * losses).sum() / weights.sum() * temperature**2


def margin_loss(logits: Tensor, targets: Tensor, query_index: Tensor) -> Tensor:
    """Mean over pairs of items of one query of the squared error of the difference of their expected grades.

    logits, targets: (B, n). query_index: (B,) int64 from 0. 0 where no query has two items in the batch. With
    d = student's - teacher's expected grade, the sum of (d_i - d_j)^2 over the pairs of a query with m items is
    m sum(d^2) - sum(d)^2. Source: Margin-MSE, Hofstätter et al. 2020, arXiv 2010.02666, on expected grades.
    """
    grades = torch.arange(logits.shape[1], dtype=logits.dtype)
    errors = (torch.softmax(logits, dim=1) - targets) @ grades
    n_queries = int(query_index.max()) + 1
    sizes, sums, squares = (
        torch.zeros(n_queries, dtype=logits.dtype).index_add(0, query_index, values)
        for values in (torch.ones_like(errors), errors, errors**2)
    )
    n_pairs = (sizes * (sizes - 1) / 2).sum()
    return (sizes * squares - sums**2).sum() / n_pairs.clamp_min(1.0)
