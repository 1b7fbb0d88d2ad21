"""Score pairs with a trained teacher: identical pairs once, sorted by length, batches of a token budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pertinent.progress import Progress
from pertinent.teacher.cross_encoder import CrossEncoder, Teacher, pad_batch


def score_pairs(
    teacher: Teacher,
    queries: Sequence[str],
    texts: Sequence[str],
    *,
    batch_tokens: int,
    bfloat16: bool,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Calibrated grade probabilities, (N, n) float32, in the order given.

    queries, texts: N each; a text is what the text stage wrote. batch_tokens: padded tokens a batch.
    """
    pairs = list(zip(queries, texts, strict=True))
    distinct = dict.fromkeys(pairs)
    index = {pair: i for i, pair in enumerate(distinct)}
    rows = teacher.encode([query for query, _ in distinct], [text for _, text in distinct])
    logits = score_rows(teacher.model, rows, teacher.pad_id, batch_tokens, bfloat16, progress)
    scaled = logits / teacher.temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probs = (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
    if progress is not None:
        progress.advance(len(pairs) - len(rows))
    ordered: NDArray[np.float32] = probs[[index[pair] for pair in pairs]]
    return ordered


def score_rows(
    model: CrossEncoder,
    rows: Sequence[Sequence[int]],
    pad_id: int,
    batch_tokens: int,
    bfloat16: bool,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Logits (N, n) float32 of token id rows, in the order given."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    order = np.argsort([len(row) for row in rows], kind="stable")
    logits: NDArray[np.float32] | None = None
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        for batch in _batches(order, rows, batch_tokens):
            ids, mask = pad_batch([rows[i] for i in batch], pad_id)
            out = model(ids.to(device), mask.to(device))["logits"].float().cpu().numpy()
            if logits is None:
                logits = np.empty((len(rows), out.shape[1]), dtype=np.float32)
            logits[batch] = out
            if progress is not None:
                progress.advance(len(batch))
    model.train(training)
    assert logits is not None, "no rows to score"
    return logits


def _batches(order: NDArray[np.int64], rows: Sequence[Sequence[int]], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Consecutive runs of a length-sorted order whose padded size stays within batch_tokens."""
    batches, start = [], 0
    for end, i in enumerate(order):
        if end > start and (end - start + 1) * len(rows[i]) > batch_tokens:
            batches.append(order[start:end])
            start = end
    batches.append(order[start:])
    return batches
