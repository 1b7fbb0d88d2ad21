"""The embedding baseline: cosine between query and item text by a sentence encoder that no judgment has touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pertinent.progress import progress
from pertinent.teacher.backbones import Backbone, embedding_rule, load_backbone
from pertinent.teacher.cross_encoder import pool
from pertinent.teacher.pairs import load_tokenizer, pad_batch
from pertinent.teacher.precision import wants_bfloat16

_BATCH = 64


def cosine_scores(
    backbone: Backbone, queries: Sequence[str], texts: Sequence[str], max_tokens: int
) -> NDArray[np.float64]:
    """Cosine of the vectors of each query and its text: (N,) float64; prefixes and pooling as `embedding_rule` says."""
    rule = embedding_rule(backbone)
    sides = [(queries, rule.query_prefix), (texts, rule.text_prefix)]
    distinct = list(dict.fromkeys(prefix + text for side, prefix in sides for text in side))
    row_of = {text: row for row, text in enumerate(distinct)}
    vectors = embed(backbone, distinct, max_tokens)
    query_vectors, text_vectors = (vectors[[row_of[prefix + text] for text in side]] for side, prefix in sides)
    return np.asarray((query_vectors * text_vectors).sum(axis=1), dtype=np.float64)


def embed(backbone: Backbone, texts: Sequence[str], max_tokens: int) -> NDArray[np.float32]:
    """(N, d) float32 of length 1 each; the texts are taken as they are, cut to max_tokens."""
    tokenizer = load_tokenizer(backbone.tokenizer_file)
    encoder = load_backbone(backbone)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder.to(device)
    pooling = embedding_rule(backbone).pooling
    pad_id = encoder.config.pad_token_id or 0  # never attended to
    tokenizer.enable_truncation(max_tokens)
    rows = [encoding.ids or [pad_id] for encoding in tokenizer.encode_batch(list(texts))]
    vectors = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    order = np.argsort([len(row) for row in rows], kind="stable")
    with (
        progress("evaluation: embed", len(texts), "texts") as bar,
        torch.inference_mode(),
        torch.autocast(device, dtype=torch.bfloat16, enabled=wants_bfloat16("auto", device)),
    ):
        for start in range(0, len(rows), _BATCH):
            batch = order[start : start + _BATCH]
            ids, mask = (part.to(device) for part in pad_batch([rows[i] for i in batch], pad_id))
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            vectors[batch] = torch.nn.functional.normalize(pool(states, mask, pooling), dim=1).cpu().numpy()
            bar.advance(batch.size)
    return vectors
