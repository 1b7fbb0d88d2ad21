"""From a validated request to an answer's document. Runs on the scoring thread; knows nothing of HTTP but its shapes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pertinent.serving.bundles import Loaded
from pertinent.serving.schemas import Document, RankRequest, RerankRequest, ScoreRequest, TeiRerankRequest
from pertinent.serving.scoring import (
    MAX_EXPLAINED,
    Scored,
    best_first,
    blended,
    explained,
    score_documents,
    score_items,
)
from pertinent.serving.settings import Blend, Settings

_LOGIT_EDGE = 1e-6


@dataclass(frozen=True)
class Answer:
    """document: what is sent. found: the scores, for the metrics."""

    document: Any
    found: Scored


def answer_score(loaded: Loaded, request: ScoreRequest, settings: Settings) -> Answer:
    """ScoreResponse: items in the order asked for."""
    found = score_items(loaded, request.query, request.item_ids, settings.batch)
    known = found.known.tolist()
    numbers = (found.probs.tolist(), (found.grades + 1).tolist(), found.relevance.tolist())
    rows = zip(request.item_ids, known, *numbers, strict=True)
    items = [
        {"item_id": item, "probabilities": probs, "expected_grade": grade, "relevance": relevance}
        if there
        else {"item_id": item, "probabilities": None, "expected_grade": None, "relevance": None}
        for item, there, probs, grade, relevance in rows
    ]
    return Answer({"bundle": loaded.hash, "items": items, **_marks(request.item_ids, found)}, found)


def answer_rank(loaded: Loaded, request: RankRequest, settings: Settings) -> Answer:
    """RankResponse: best first, unknown items last, by engagement."""
    blend = request.blend or settings.blend
    found = score_items(loaded, request.query, request.item_ids, settings.batch)
    engagement = np.array(request.engagement or [0.0] * len(request.item_ids), dtype=np.float64)
    score = blended(found, engagement, blend)
    order = best_first(score, engagement, found.relevance)[: request.top_n].tolist()
    why = explained(found, request.query, order[:MAX_EXPLAINED]) if request.explain else {}
    results = []
    for place in order:
        result = {"item_id": request.item_ids[place], "index": place}
        result |= {"score": _number(score[place]), "relevance": _number(found.relevance[place])}
        if request.explain:
            result["parts"] = _parts(found, place, float(engagement[place]), blend)
        if place in why:
            result["features"], result["contributions"] = why[place]
        results.append(result)
    document = {"bundle": loaded.hash, "blend": blend.model_dump(), "results": results}
    return Answer({**document, **_marks(request.item_ids, found)}, found)


def answer_rerank(loaded: Loaded, request: RerankRequest, settings: Settings) -> Answer:
    """RerankResponse, as Cohere and Jina have it."""
    found = _documents(loaded, request.query, request.documents, settings)
    relevance = np.nan_to_num(found.relevance)
    order = np.argsort(-relevance, kind="stable")[: request.top_n].tolist()
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": float(relevance[place])} for place in order]
    if request.return_documents:
        for result in results:
            result["document"] = _sent_back(request.documents[result["index"]])
    unknown = np.flatnonzero(~found.known).tolist()
    meta = {"api_version": {"version": "1"}, "bundle": loaded.hash, "unknown": unknown, **_degraded(found)}
    document = {"id": str(uuid.uuid4()), "model": loaded.hash[:12], "results": results, "meta": meta}
    return Answer(document, found)


def answer_tei(loaded: Loaded, request: TeiRerankRequest, settings: Settings) -> Answer:
    """A list of TeiRank, best first. raw_scores: the log-odds of the relevance."""
    found = _documents(loaded, request.query, request.texts, settings)
    score = np.nan_to_num(found.relevance)
    order = np.argsort(-score, kind="stable").tolist()
    if request.raw_scores:
        inside = np.clip(score, _LOGIT_EDGE, 1 - _LOGIT_EDGE)
        score = np.log(inside / (1 - inside))
    ranks: list[dict[str, Any]] = [{"index": place, "score": float(score[place])} for place in order]
    if request.return_text:
        for rank in ranks:
            rank["text"] = _sent_back(request.texts[rank["index"]]).get("text", "")
    return Answer(ranks, found)


def _documents(loaded: Loaded, query: str, documents: Sequence[str | Document], settings: Settings) -> Scored:
    return score_documents(loaded, query, *ids_and_texts(documents), settings.batch)


def ids_and_texts(documents: Sequence[str | Document]) -> tuple[list[str | None], list[str | None]]:
    """Of each document its ID and its text; None where it has none."""
    ids = [None if isinstance(document, str) else document.id for document in documents]
    texts = [document if isinstance(document, str) else document.text for document in documents]
    return ids, texts


def _sent_back(document: str | Document) -> dict[str, str]:
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)


def degraded_by(found: Scored) -> list[str]:
    """What an answer lacks: "unknown" where an item has no score, "store" where the store could not be asked."""
    reasons = {
        "unknown": not found.known.all(),
        "store": found.candidates is not None and bool(found.candidates.found.trouble),
    }
    return [reason for reason, true in reasons.items() if true]


def _degraded(found: Scored) -> dict[str, Any]:
    reasons = degraded_by(found)
    return {"degraded": bool(reasons), "degraded_by": reasons}


def _marks(item_ids: Sequence[str], found: Scored) -> dict[str, Any]:
    unknown = [item for item, there in zip(item_ids, found.known.tolist(), strict=True) if not there]
    return {"unknown": unknown, **_degraded(found)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _parts(found: Scored, place: int, engagement: float, blend: Blend) -> dict[str, float | None]:
    parts = {"relevance": _number(found.relevance[place]), "engagement": engagement}
    parts["expected_grade"] = _number(found.grades[place] + 1)
    if blend.kind == "floor":
        at_least = found.probs[place, blend.grade - 1 :].astype(np.float64).sum()
        parts[f"p_grade_{blend.grade}_up"] = _number(at_least)
    return parts
