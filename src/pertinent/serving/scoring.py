"""From a query and candidates to scores and a final order. Pure: knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle import Scorer
from pertinent.bundle.adhoc import score_texts
from pertinent.bundle.scorer import grades_and_relevance
from pertinent.serving.settings import Blend

MAX_EXPLAINED = 20  # items of one answer whose contributions are worked out: each costs a pass a feature


@dataclass(frozen=True)
class Scored:
    """Scores of C candidates; NaN for an unknown one.

    probs: (C, n) float32. grades: (C,) float64, expected stored grade. relevance: (C,) float64 in 0-1.
    """

    probs: NDArray[np.float32]
    grades: NDArray[np.float64]
    relevance: NDArray[np.float64]
    features_s: float = 0.0
    network_s: float = 0.0

    @property
    def known(self) -> NDArray[np.bool_]:
        """(C,)."""
        return ~np.isnan(self.relevance)


def scored(probs: NDArray[np.float32], features_s: float = 0.0, network_s: float = 0.0) -> Scored:
    """With the expected grade and relevance of `grades_and_relevance`."""
    return Scored(probs, *grades_and_relevance(probs), features_s, network_s)


def score_items(scorer: Scorer, query: str, item_ids: Sequence[str], batch: int) -> Scored:
    """Scores of stored items by ID, at most ``batch`` through the network at a time."""
    rows = scorer.row_of.find(item_ids)
    places = np.flatnonzero(rows >= 0)
    probs = np.full((rows.size, scorer.scale.n_grades), np.nan, dtype=np.float32)
    features_s = network_s = 0.0
    for start in range(0, places.size, batch):
        part = places[start : start + batch]
        began = time.perf_counter()
        inputs = scorer.inputs(query, rows[part])
        between = time.perf_counter()
        probs[part] = scorer.run(*inputs)
        features_s += between - began
        network_s += time.perf_counter() - between
    return scored(probs, features_s, network_s)


def score_documents(
    scorer: Scorer, query: str, ids: Sequence[str | None], texts: Sequence[str | None], batch: int
) -> Scored:
    """Scores of documents: the stored item where the ID is known, else the text, else unknown (NaN)."""
    named = [place for place, item in enumerate(ids) if item is not None]
    found_rows = scorer.row_of.find([str(ids[place]) for place in named])
    stored = [place for place, row in zip(named, found_rows, strict=True) if row >= 0]
    held = set(stored)
    written = [place for place, text in enumerate(texts) if text is not None and place not in held]
    probs = np.full((len(ids), scorer.scale.n_grades), np.nan, dtype=np.float32)
    found = score_items(scorer, query, [str(ids[place]) for place in stored], batch)
    probs[stored] = found.probs
    began = time.perf_counter()
    for start in range(0, len(written), batch):
        part = written[start : start + batch]
        probs[part] = score_texts(scorer, query, [str(texts[place]) for place in part])
    return scored(probs, found.features_s, found.network_s + time.perf_counter() - began)


def blended(found: Scored, engagement: NDArray[np.float64], blend: Blend) -> NDArray[np.float64]:
    """The score that orders the candidates: (C,) float64, NaN for an unknown one.

    With "floor" it is the relevance floor (1 or 0); ties are broken by engagement, then relevance (`best_first`).
    """
    if blend.kind == "floor":
        above = found.probs[:, blend.grade - 1 :].astype(np.float64).sum(axis=1) >= blend.probability
        return np.where(found.known, above.astype(np.float64), np.nan)
    if blend.kind == "product":
        with np.errstate(over="ignore"):
            parts = found.relevance**blend.relevance_weight, np.maximum(engagement, 0.0) ** blend.engagement_weight
            product = parts[0] * np.minimum(parts[1], np.finfo(np.float64).max)
        return np.asarray(product, dtype=np.float64)
    with np.errstate(over="ignore"):
        total = blend.relevance_weight * found.relevance + blend.engagement_weight * engagement
    limit = np.finfo(np.float64).max
    return np.clip(total, -limit, limit)


def best_first(
    score: NDArray[np.float64], engagement: NDArray[np.float64], relevance: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Places best first: by score, then engagement, then relevance, then the order given; unknown (NaN) ones last."""
    places = np.arange(score.size)
    unknown = np.isnan(score)
    keys = (places, -np.nan_to_num(relevance), np.where(unknown, 0.0, -engagement), -np.nan_to_num(score), unknown)
    return np.lexsort(keys)


def explained(
    scorer: Scorer, query: str, item_ids: Sequence[str], places: Sequence[int]
) -> dict[int, tuple[dict[str, float], dict[str, float]]]:
    """For each place, the features by name, and what each adds to the relevance.

    A feature's contribution is the relevance lost when it takes its median over all known candidates, the other inputs
    unchanged (occlusion; Robnik-Sikonja and Kononenko 2008, doi:10.1109/TKDE.2007.190734, with one replacing value).
    """
    names = [feature["name"] for feature in scorer.description["features"]]
    rows = scorer.row_of.find(item_ids)
    if (rows < 0).all():
        return {}
    query_vectors, _, features = scorer.inputs(query, rows[rows >= 0])
    median = np.median(features, axis=0)
    answer = {}
    for place in places:
        if rows[place] < 0:
            continue
        _, vector, own = scorer.inputs(query, rows[place : place + 1], halves=False)
        changed = np.repeat(own, len(names) + 1, axis=0)
        changed[np.arange(len(names)), np.arange(len(names))] = median
        relevance = scored(scorer.run(query_vectors, np.repeat(vector, len(names) + 1, axis=0), changed)).relevance
        lost = relevance[-1] - relevance[:-1]
        answer[place] = (_named(names, own[0]), _named(names, lost))
    return answer


def _named(names: Sequence[str], values: NDArray[np.floating]) -> dict[str, float]:
    return dict(zip(names, values.astype(float).tolist(), strict=True))
