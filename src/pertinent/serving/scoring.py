"""From a query and candidates to scores and a final order. Pure: knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle import Scorer
from pertinent.bundle.adhoc import text_inputs
from pertinent.bundle.rows import ItemRows, read_records
from pertinent.bundle.scorer import Inputs, grades_and_relevance
from pertinent.serving.bundles import Loaded
from pertinent.serving.settings import Blend
from pertinent.serving.stores import Found

MAX_EXPLAINED = 20  # items of one answer whose contributions are worked out: each costs a pass a feature


@dataclass(frozen=True)
class Scored:
    """Scores of C candidates; NaN for an unknown one.

    probs: (C, n) float32. features: (C, F) float32, what the network read. grades: (C,) float64, expected stored grade.
    relevance: (C,) float64 in 0-1. candidates: as the store had them.
    """

    probs: NDArray[np.float32]
    features: NDArray[np.float32]
    grades: NDArray[np.float64]
    relevance: NDArray[np.float64]
    features_s: float = 0.0
    network_s: float = 0.0
    candidates: Candidates | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """(C,)."""
        return ~np.isnan(self.relevance)

    @property
    def from_store(self) -> NDArray[np.bool_]:
        """(C,): whether an item came from elsewhere than the bundle's own files."""
        return self.candidates.own >= 0 if self.candidates is not None else np.zeros(self.relevance.size, dtype=bool)


def relevance_of(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The relevance of `grades_and_relevance` alone: (C,) float64."""
    return grades_and_relevance(probs)[1]


@dataclass(frozen=True)
class Candidates:
    """C candidates as the store has them.

    own: (C,) int64 into ``items``, which came from elsewhere than the bundle's own files, -1 for none.
    """

    scorer: Scorer
    found: Found
    own: NDArray[np.int64]
    items: ItemRows | None
    store_s: float = 0.0

    @classmethod
    def of(cls, loaded: Loaded, ids: Sequence[str | None]) -> Candidates:
        """Ask the store, once. ids: None for a candidate that has none."""
        began = time.perf_counter()
        named = [item for item in ids if item is not None]
        found = loaded.store.find(named) if named else Found(np.zeros(0, dtype=np.int64))
        if len(named) < len(ids):
            found = found.spread([place for place, item in enumerate(ids) if item is not None], len(ids))
        own = np.full(len(ids), -1, dtype=np.int64)
        items = None
        if found.records:
            scorer = loaded.scorer
            records = list(found.records.values())
            items, whole = read_records(records, scorer.encoder.dimensions, scorer.sides)
            own[np.fromiter(found.records, dtype=np.int64)[whole]] = np.arange(whole.size)
        return cls(loaded.scorer, found, own, items, time.perf_counter() - began)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(C,): whether there is an item."""
        return (self.found.rows >= 0) | (self.own >= 0)

    def inputs(self, query: str, places: NDArray[np.int64]) -> Inputs:
        """`Scorer.inputs` of the candidates at these places, all of them known."""
        own = self.own[places]
        if self.items is None or (own < 0).all():
            return self.scorer.inputs(query, self.found.rows[places])
        if (own >= 0).all():
            whole = own.size == len(self.items) and (own == np.arange(own.size)).all()
            return self.scorer.inputs_of(query, self.items if whole else self.items.take(own))
        ours, theirs = np.flatnonzero(own < 0), np.flatnonzero(own >= 0)
        parts = self.scorer.inputs(query, self.found.rows[places[ours]])
        others = self.scorer.inputs_of(query, self.items.take(own[theirs]))
        back = np.argsort(np.concatenate([ours, theirs]))
        vectors, features = (np.concatenate([parts[k], others[k]])[back] for k in (1, 2))
        return parts[0], vectors, features


def score_items(loaded: Loaded, query: str, item_ids: Sequence[str], batch: int) -> Scored:
    """Scores of stored items by ID, at most ``batch`` through the network at a time."""
    return score_documents(loaded, query, item_ids, [None] * len(item_ids), batch)


def score_documents(
    loaded: Loaded, query: str, ids: Sequence[str | None], texts: Sequence[str | None], batch: int
) -> Scored:
    """Scores of documents: the stored item where the store has it, else the text, else unknown (NaN)."""
    scorer, candidates = loaded.scorer, Candidates.of(loaded, ids)
    known = candidates.known
    written = [place for place, text in enumerate(texts) if text is not None and not known[place]]
    out = _Parts(scorer, len(ids))
    for part in _batches(np.flatnonzero(known), batch):
        out.add(part, lambda part=part: candidates.inputs(query, part))  # type: ignore[misc]
    for part in _batches(np.array(written, dtype=np.int64), batch):
        out.add(part, lambda part=part: text_inputs(scorer, query, [str(texts[k]) for k in part]))  # type: ignore[misc]
    return out.scored(candidates)


class _Parts:
    """Scores of C candidates, filled in part by part."""

    def __init__(self, scorer: Scorer, n_candidates: int) -> None:
        self.scorer = scorer
        self.probs = np.full((n_candidates, scorer.scale.n_grades), np.nan, dtype=np.float32)
        self.features = np.full((n_candidates, len(scorer.description["features"])), np.nan, dtype=np.float32)
        self.features_s = self.network_s = 0.0

    def add(self, places: NDArray[np.int64], inputs: Callable[[], Inputs]) -> None:
        began = time.perf_counter()
        told = inputs()
        between = time.perf_counter()
        self.probs[places], self.features[places] = self.scorer.run(*told), told[2]
        self.features_s += between - began
        self.network_s += time.perf_counter() - between

    def scored(self, candidates: Candidates) -> Scored:
        grades, relevance = grades_and_relevance(self.probs)
        spent = (self.features_s, self.network_s)
        return Scored(self.probs, self.features, grades, relevance, *spent, candidates)


def _batches(places: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    return (places[start : start + batch] for start in range(0, places.size, batch))


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
    """Places best first: by score, then engagement, then relevance, then the order given.

    Unknown (NaN) ones come last, by the same rule: where nothing is known, engagement alone orders.
    """
    places = np.arange(score.size)
    keys = (places, -np.nan_to_num(relevance), -engagement, -np.nan_to_num(score), np.isnan(score))
    return np.lexsort(keys)


def explained(found: Scored, query: str, places: Sequence[int]) -> dict[int, tuple[dict[str, float], dict[str, float]]]:
    """For each place, the features by name, and what each adds to the relevance.

    A feature's contribution is the relevance lost when it takes its median over all known candidates, the other inputs
    unchanged (occlusion; Robnik-Sikonja and Kononenko 2008, doi:10.1109/TKDE.2007.190734, with one replacing value).
    """
    candidates = found.candidates
    if candidates is None:
        return {}
    held = [place for place in places if candidates.known[place]]
    if not held:
        return {}
    scorer = candidates.scorer
    names, median = scorer.feature_names, np.median(found.features[candidates.known], axis=0)
    query_vectors, vectors, _ = candidates.inputs(query, np.array(held, dtype=np.int64))
    # Vectors alone: their halves change with the features.
    vectors = vectors[:, : scorer.encoder.dimensions]
    answer = {}
    for place, vector in zip(held, vectors, strict=True):
        own = found.features[place]
        changed = np.repeat(own[None], len(names) + 1, axis=0)
        changed[np.arange(len(names)), np.arange(len(names))] = median
        relevance = relevance_of(scorer.run(query_vectors, np.repeat(vector[None], len(names) + 1, axis=0), changed))
        answer[place] = (_named(names, own), _named(names, relevance[-1] - relevance[:-1]))
    return answer


def _named(names: Sequence[str], values: NDArray[np.floating]) -> dict[str, float]:
    return dict(zip(names, values.astype(float).tolist(), strict=True))
