"""Texts that no item store has: what a caller sends along instead of an ID, as the network reads it."""

from __future__ import annotations

from collections.abc import Sequence

from pertinent.bundle.scorer import Inputs, Scorer
from pertinent.features.assemble import text_features
from pertinent.features.corpus import FIELDS, LexicalItems


def text_inputs(scorer: Scorer, query: str, texts: Sequence[str]) -> Inputs:
    """The network's inputs for C texts, as `Scorer.inputs`: query (1, d), items (C, d), features (C, F), all float32.

    A text is read as an item with that title and no body. Its terms are counted against the bundle's frozen
    statistics, so the same text scores the same as a stored item of that
    text and title, but for features from tables: these have their defaults.
    """
    fields = {field: list(texts) if field == "title" else [""] * len(texts) for field in FIELDS}
    items = LexicalItems.of(fields, scorer.statistics)
    features = text_features(query, items, scorer.statistics, scorer.sides)
    return scorer.encoder.encode_queries([query]), scorer.encoder.encode(texts), features
