"""The embedding baseline: cosine between query and item text by a sentence encoder that no judgment has touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pertinent.progress import progress
from pertinent.teacher.backbones import Backbone, load_encoder
from pertinent.teacher.cross_encoder import load_tokenizer, pad_batch, pad_id_of
from pertinent.teacher.precision import wants_bfloat16

_BATCH = 64


def cosine_scores(
    backbone: Backbone, queries: Sequence[str], texts: Sequence[str], max_tokens: int
) -> NDArray[np.float64]:
    """Cosine of mean-pooled states of each query and its text: (N,) float64.

    A name with "e5" in it gets the prefixes that E5 was trained with ("query: ", "passage: ").
    """
    is_e5 = "e5" in backbone.name.lower()
    sides = []
    for side, prefix in ((queries, "query: "), (texts, "passage: ")):
        distinct = {text: row for row, text in enumerate(dict.fromkeys(side))}
        vectors = _embed(backbone, [prefix + text if is_e5 else text for text in distinct], max_tokens)
        sides.append(vectors[[distinct[text] for text in side]])
    return np.asarray((sides[0] * sides[1]).sum(axis=1), dtype=np.float64)


def _embed(backbone: Backbone, texts: list[str], max_tokens: int) -> NDArray[np.float32]:
    """(N, d) float32, of length 1 each."""
    tokenizer = load_tokenizer(backbone.tokenizer_file)
    encoder = load_encoder(backbone)
    pad_id = pad_id_of(tokenizer, encoder)
    tokenizer.enable_truncation(max_tokens)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    vectors = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    order = np.argsort([len(row) for row in rows], kind="stable")
    with (
        progress("evaluation: embed", len(texts), "texts") as bar,
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=wants_bfloat16("auto")),
    ):
        for start in range(0, len(rows), _BATCH):
            batch = order[start : start + _BATCH]
            ids, mask = pad_batch([rows[i] for i in batch], pad_id)
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            weights = mask.unsqueeze(-1).float()
            pooled = (states * weights).sum(1) / weights.sum(1)
            vectors[batch] = torch.nn.functional.normalize(pooled, dim=1).numpy()
            bar.advance(batch.size)
    return vectors
