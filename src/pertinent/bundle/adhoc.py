"""Score texts that no item store has: what a caller sends along instead of an ID."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle.scorer import Scorer
from pertinent.features.assemble import text_features
from pertinent.features.lexical import FIELDS, LexicalItems


def score_texts(scorer: Scorer, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Grade probabilities of texts: (C, n) float32, each row summing to 1.

    A text is read as an item with that title and no body. Its terms are counted against the bundle's frozen
    statistics, so the same text scores the same as a stored item of that
    text and title, but for features from tables: these have their defaults.
    """
    if not texts:
        return np.zeros((0, scorer.scale.n_grades), dtype=np.float32)
    fields = {field: list(texts) if field == "title" else [""] * len(texts) for field in FIELDS}
    items = LexicalItems.of(fields, scorer.statistics)
    features = text_features(query, items, scorer.statistics, scorer.sides)
    return scorer.run(scorer.encoder.encode([query]), scorer.encoder.encode(texts), features)
