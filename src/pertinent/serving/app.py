"""The ASGI app of one worker: endpoints, and what each request passes through."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pertinent.errors import ModelError, PertinentError
from pertinent.serving.answers import (
    Answer,
    answer_rank,
    answer_rerank,
    answer_score,
    answer_tei,
    degraded_by,
    ids_and_texts,
)
from pertinent.serving.bundles import Bundles, BusyError, Loaded
from pertinent.serving.changes import change_routes
from pertinent.serving.feature_log import FeatureLog, Served
from pertinent.serving.guard import Guard, body_of, parsed, problem
from pertinent.serving.metrics import Metrics
from pertinent.serving.openapi import document as openapi_document
from pertinent.serving.problems import Refusal
from pertinent.serving.queueing import Queue
from pertinent.serving.schemas import (
    BundleRequest,
    RankRequest,
    RerankRequest,
    ScoreRequest,
    TeiRerankRequest,
)
from pertinent.serving.scoring import score_documents
from pertinent.serving.settings import ADMIN_KEYS, API_KEYS, Blend, Settings, read_keys

M = TypeVar("M", bound=BaseModel)
_SAMPLED = 16  # every n-th candidate's relevance goes to the metrics
_MAX_DEADLINE_MS = 600_000


@dataclass
class Worker:
    """What the endpoints of one worker share."""

    settings: Settings
    metrics: Metrics
    queue: Queue
    bundles: Bundles
    feature_log: FeatureLog | None = None
    draining: bool = False


def create_app(settings: Settings, control: Path) -> Starlette:
    """The app of one worker. control: the folder that `pertinent.serving.bundles.start` has prepared.

    Raises ConfigError for keys that cannot be read, ModelError for a bundle that cannot be opened.
    """
    metrics = Metrics()
    keys = read_keys(settings.api_keys_file, API_KEYS)
    admin_keys = read_keys(settings.admin_keys_file, ADMIN_KEYS)
    bundles = Bundles(settings, control, _events(metrics))
    worker = Worker(settings, metrics, Queue(settings.queue), bundles, _feature_log(settings, metrics))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        worker.bundles.begin()
        if worker.feature_log is not None:
            worker.feature_log.begin()
        yield {"settings": settings}  # what PatientProtocol goes by
        worker.draining = True
        worker.bundles.close()
        worker.queue.close()
        if worker.feature_log is not None:
            await asyncio.to_thread(worker.feature_log.close)

    routes = _routes(worker)
    paths = frozenset(route.path for route in routes)
    guard = Middleware(Guard, settings=settings, metrics=metrics, keys=keys, admin_keys=admin_keys, paths=paths)
    app = Starlette(
        routes=routes, middleware=[guard], lifespan=lifespan, exception_handlers={HTTPException: _not_found}
    )
    app.state.worker = worker
    return app


def _routes(worker: Worker) -> list[Route]:
    scoring: list[tuple[str, type[BaseModel], Callable[[Loaded, Any, Settings], Answer]]] = [
        ("/v1/score", ScoreRequest, answer_score),
        ("/v1/rank", RankRequest, answer_rank),
        ("/v1/rerank", RerankRequest, answer_rerank),
        ("/v2/rerank", RerankRequest, answer_rerank),
        ("/rerank", TeiRerankRequest, answer_tei),
    ]
    routes = [Route(path, _scoring(worker, model, answer), methods=["POST"]) for path, model, answer in scoring]
    return [*routes, *change_routes(worker.bundles, worker.metrics, worker.settings), *_operating(worker)]


def _scoring(
    worker: Worker, model: type[M], answer: Callable[[Loaded, M, Settings], Answer]
) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        began = time.perf_counter()
        raw = await body_of(request, worker.settings)
        read = time.perf_counter()
        asked = parsed(model, raw)
        query, ids, texts = _check_limits(asked, worker.settings)
        deadline_s = _deadline_ms(request, worker.settings) / 1000
        at_s = time.perf_counter()
        loaded = worker.bundles.current  # one bundle for the whole answer, whatever is switched meanwhile
        if isinstance(asked, RankRequest):
            _check_blend(asked.blend or worker.settings.blend, loaded)
        result, waited_s = await _queued(worker, lambda: answer(loaded, asked, worker.settings), deadline_s)
        scored_s = time.perf_counter()
        response = Response(orjson.dumps(result.document), media_type="application/json")
        stages = {"read": read - began, "parse": at_s - read, "queue": waited_s}
        if result.found.candidates is not None:
            stages["store"] = result.found.candidates.store_s
        stages |= {"features": result.found.features_s, "network": result.found.network_s}
        stages["write"] = time.perf_counter() - scored_s
        _observe(worker, request, result, stages, query)
        _observe_missing(worker, loaded, result)
        response.headers["x-bundle"] = loaded.hash
        if reasons := degraded_by(result.found):
            response.headers["x-degraded"] = ", ".join(reasons)
        response.headers["server-timing"] = ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in stages.items())
        _log_features(worker, request, loaded, result, query, ids, texts)
        _shadow(worker, query, ids, texts, result)
        return response

    return endpoint


async def _queued(worker: Worker, work: Callable[[], Answer], deadline_s: float) -> tuple[Answer, float]:
    worker.metrics.queue.inc()
    try:
        return await worker.queue.run(work, deadline_s)
    except Refusal:
        worker.metrics.shed.inc()
        raise
    finally:
        worker.metrics.queue.dec()


def _observe(worker: Worker, request: Request, result: Answer, stages: dict[str, float], query: str) -> None:
    found, metrics = result.found, worker.metrics
    for name, seconds in stages.items():
        metrics.stage.labels(name).observe(seconds)
    unknown = int((~found.known).sum())
    metrics.candidates.observe(found.relevance.size)
    metrics.unknown.inc(unknown)
    for value in found.relevance[found.known][::_SAMPLED].tolist():
        metrics.relevance.observe(value)
    for reason in (reasons := degraded_by(found)):
        metrics.degraded.labels(reason).inc()
    if found.candidates is not None:
        metrics.cache_hits.inc(found.candidates.found.cache_hits)
        metrics.cache_misses.inc(found.candidates.found.cache_misses)
    notes = request.scope["state"]["notes"]
    notes |= {"candidates": int(found.relevance.size), "unknown": unknown, "queue_ms": round(stages["queue"] * 1000, 3)}
    notes |= {"degraded_by": reasons} if reasons else {}
    if worker.settings.log_queries:
        notes["query"] = query


def _observe_missing(worker: Worker, loaded: Loaded, result: Answer) -> None:
    looked_at = result.found.features[result.found.known][::_SAMPLED]
    worker.metrics.features_seen.inc(len(looked_at))
    missing = (looked_at == loaded.defaults).sum(axis=0)
    for k in np.flatnonzero(missing).tolist():
        worker.metrics.missing.labels(loaded.feature_names[k]).inc(int(missing[k]))


def _feature_log(settings: Settings, metrics: Metrics) -> FeatureLog | None:
    if settings.feature_log is None:
        return None
    return FeatureLog(
        settings.feature_log,
        lambda outcome, rows: metrics.feature_log.labels(outcome).inc(rows),
        rows_a_file=settings.feature_log_rows,
        seconds_a_file=settings.feature_log_seconds,
        queue_rows=settings.feature_log_queue_rows,
    )


def _log_features(
    worker: Worker,
    request: Request,
    loaded: Loaded,
    result: Answer,
    query: str,
    ids: Sequence[str | None],
    texts: Sequence[str | None],
) -> None:
    if worker.feature_log is None or random.random() >= worker.settings.feature_log_share:
        return
    request_id, path = request.scope["state"]["notes"]["request_id"], request.url.path
    served = Served(loaded.hash, loaded.feature_names, request_id, path, query, ids, texts, result.found)
    worker.feature_log.offer(served)


def _shadow(worker: Worker, query: str, ids: Sequence[str | None], texts: Sequence[str | None], result: Answer) -> None:
    """Score again by the shadow, after the answer and only when no request is waiting."""
    shadow = worker.bundles.shadow
    if shadow is None or worker.queue.admitted or random.random() >= worker.settings.shadow_share:
        return

    async def compare() -> None:
        def work() -> None:
            found = score_documents(shadow, query, ids, texts, worker.settings.batch)
            both = found.known & result.found.known
            difference = np.abs(found.relevance[both] - result.found.relevance[both])
            for value in difference[::_SAMPLED].tolist():
                worker.metrics.shadow.observe(value)
            worker.metrics.shadow_requests.inc()

        try:
            await worker.queue.run(work, 1.0)
        except Refusal:
            return  # traffic goes first

    task = asyncio.get_running_loop().create_task(compare())
    _running.add(task)
    task.add_done_callback(_running.discard)


_running: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references


def _operating(worker: Worker) -> list[Route]:
    async def models(_: Request) -> Response:
        current = worker.bundles.current
        told: dict[str, object] = {
            "id": current.hash[:12],
            "object": "model",
            "owned_by": "pertinent",
            "bundle": current.hash,
        }
        told |= {"n_grades": current.scorer.scale.n_grades, "n_items": await asyncio.to_thread(current.store.count)}
        told |= {"store": current.store.address}
        return _json({"object": "list", "data": [told]})

    async def healthz(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        if worker.draining:
            raise Refusal(503, "draining", "the server is stopping", {"retry-after": "1"})
        workers = {"workers": worker.bundles.n_serving(), "waiting": worker.bundles.n_waiting()}
        return _json({"status": "ready", "bundle": worker.bundles.current.hash, **workers})

    async def metrics(_: Request) -> Response:
        worker.metrics.waiting.set(worker.bundles.n_waiting())
        text = await asyncio.to_thread(worker.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(_: Request) -> Response:
        return _json(openapi_document())

    async def reload(request: Request) -> Response:
        raw = await body_of(request, worker.settings)
        asked = parsed(BundleRequest, raw or b"{}")
        folder = Path(asked.bundle) if asked.bundle else worker.settings.bundle
        return await _changed(lambda: worker.bundles.reload(folder))

    async def rollback(request: Request) -> Response:
        await body_of(request, worker.settings)
        return await _changed(worker.bundles.rollback)

    async def state(_: Request) -> Response:
        return _json(worker.bundles.state())

    return [
        Route("/v1/models", models),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/admin/reload", reload, methods=["POST"]),
        Route("/admin/rollback", rollback, methods=["POST"]),
        Route("/admin/bundle", state),
    ]


async def _changed(change: Callable[[], dict[str, Any]]) -> Response:
    try:
        return _json(await asyncio.to_thread(change))
    except BusyError as error:
        raise Refusal(409, "busy", str(error), {"retry-after": "1"}) from None
    except (ModelError, PertinentError) as error:
        raise Refusal(422, "refused", str(error)) from None


def _check_limits(asked: BaseModel, settings: Settings) -> tuple[str, Sequence[str | None], Sequence[str | None]]:
    """The query, and of each candidate its ID and its text. Raises Refusal 422 beyond a limit."""
    ids: Sequence[str | None]
    texts: Sequence[str | None]
    if isinstance(asked, ScoreRequest):
        query, ids, texts = asked.query, asked.item_ids, [None] * len(asked.item_ids)
    elif isinstance(asked, RerankRequest):
        query, (ids, texts) = asked.query, ids_and_texts(asked.documents)
    else:
        assert isinstance(asked, TeiRerankRequest)
        query, (ids, texts) = asked.query, ids_and_texts(asked.texts)
    if len(query) > settings.max_query_characters:
        raise Refusal(
            422,
            "invalid",
            f"query: expected at most {settings.max_query_characters:,} characters, found {len(query):,}",
        )
    if len(ids) > settings.max_candidates:
        raise Refusal(422, "invalid", f"expected at most {settings.max_candidates:,} candidates, found {len(ids):,}")
    longest = max((len(text) for text in texts if text is not None), default=0)
    if longest > settings.max_text_characters:
        raise Refusal(
            422, "invalid", f"text: expected at most {settings.max_text_characters:,} characters, found {longest:,}"
        )
    return query, ids, texts


def _check_blend(blend: Blend, loaded: Loaded) -> None:
    n_grades = loaded.scorer.scale.n_grades
    if blend.kind == "floor" and blend.grade > n_grades:
        message = f"blend.grade: expected at most {n_grades}, the bundle's top grade, found {blend.grade}"
        raise Refusal(422, "invalid", message)


def _deadline_ms(request: Request, settings: Settings) -> float:
    told = request.headers.get("x-deadline-ms")
    if told is None:
        return settings.deadline_ms
    if not (told.isascii() and told.isdigit() and 1 <= int(told[:9]) <= _MAX_DEADLINE_MS):
        raise Refusal(422, "invalid", f"x-deadline-ms: expected 1-{_MAX_DEADLINE_MS}, found {told[:20]}")
    return float(told)


def _events(metrics: Metrics) -> Callable[[str, str], None]:
    served: set[str] = set()

    def tell(event: str, what: str) -> None:
        if event != "served":
            metrics.reloads.labels(event).inc()
            return
        for old in served - {what}:
            metrics.bundle.labels(old).set(0)
        served.add(what)
        metrics.bundle.labels(what).set(1)

    return tell


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds = {404: "not_found", 405: "method_not_allowed"}
    refusal = Refusal(
        error.status_code, kinds.get(error.status_code, "bad_request"), error.detail, dict(error.headers or {})
    )
    return problem(refusal, request.scope["state"]["notes"]["request_id"])


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
