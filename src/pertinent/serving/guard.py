"""What stands before every endpoint: request ids, keys, the body's limits, one line of log, no stack trace."""

from __future__ import annotations

import asyncio
import hmac
import logging
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pertinent.serving.metrics import Metrics
from pertinent.serving.problems import Refusal
from pertinent.serving.settings import Settings

M = TypeVar("M", bound=BaseModel)
OPEN = ("/healthz", "/readyz", "/openapi.json")  # need no key
ITEMS = "/v1/items"  # changes what is served, as /admin does
_CLOSED_BY_CLIENT = 499  # as nginx logs it

access = logging.getLogger("pertinent.serving.access")


class Guard:
    """ASGI middleware. keys, admin_keys: empty where none are set; /admin and /v1/items are then closed."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        keys: tuple[bytes, ...],
        admin_keys: tuple[bytes, ...],
        paths: frozenset[str],
    ) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.keys, self.admin_keys, self.paths = keys, admin_keys, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["notes"] = notes = {"request_id": uuid.uuid4().hex}
        began = time.perf_counter()
        status = _CLOSED_BY_CLIENT

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", notes["request_id"].encode())]
            await send(message)

        try:
            self._check_keys(scope)
            await self.app(scope, receive, noted)
        except Refusal as refusal:
            await problem(refusal, notes["request_id"])(scope, receive, noted)
        except ClientDisconnect:
            pass
        except Exception:
            # The client is told nothing of our insides, the log everything.
            sys.stderr.write(traceback.format_exc())
            broken = Refusal(500, "internal", "a bug of the server; the log has it under the request id")
            if status == _CLOSED_BY_CLIENT:
                await problem(broken, notes["request_id"])(scope, receive, noted)
        finally:
            self._note(scope, notes, status, time.perf_counter() - began)

    def _check_keys(self, scope: Scope) -> None:
        path = scope["path"]
        if path in OPEN:
            return
        admin = path.startswith("/admin") or path == ITEMS
        wanted = self.admin_keys if admin else self.keys
        if admin and not wanted:
            raise Refusal(403, "forbidden", "admin endpoints are closed: no admin key is set")
        if wanted and not _matches(_key_of(scope), wanted):
            raise Refusal(401, "unauthorized", "expected a valid key", {"www-authenticate": "Bearer"})

    def _note(self, scope: Scope, notes: dict[str, Any], status: int, spent_s: float) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        self.metrics.requests.labels(path, str(status)).inc()
        self.metrics.stage.labels("total").observe(spent_s)
        if self.settings.access_log:
            line = {"at": datetime.now(UTC).isoformat(), "method": scope["method"], "path": path, "status": status}
            access.info(orjson.dumps({**line, "ms": round(spent_s * 1000, 3), **notes}).decode())


def problem(refusal: Refusal, request_id: str) -> Response:
    """A refusal as an answer. `error` and `type` are where TEI's clients look, `message` where Cohere's do."""
    body = {"error": refusal.message, "type": refusal.kind, "message": refusal.message, "request_id": request_id}
    return as_json(body, refusal.status, refusal.headers)


def as_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON."""
    return Response(orjson.dumps(document), status, headers, "application/json")


async def body_of(request: Request, settings: Settings) -> bytes:
    """The body, within its limits of bytes and seconds. Raises Refusal 413, 408 or 400."""
    try:
        declared = int(request.headers.get("content-length", "0"))
    except ValueError:
        raise Refusal(400, "bad_request", "content-length: expected a number") from None
    if declared > settings.max_body_bytes:
        raise _too_large(settings)
    try:
        return await asyncio.wait_for(_read(request, settings), settings.body_timeout)
    except TimeoutError:
        message = f"body: expected within {settings.body_timeout:g} s"
        raise Refusal(408, "timeout", message, {"connection": "close"}) from None


def parsed(model: type[M], raw: bytes) -> M:
    """The request in a body. Raises Refusal 400 for what is not JSON, 422 with the first thing wrong in it.

    pydantic's own parser bounds the nesting, refuses lone surrogates, and never recurses in Python.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a document's two readings, text or object, our own words are the more telling.
    first = next((one for one in problems if one["type"] == "value_error"), problems[0])
    if first["type"] == "json_invalid":
        raise Refusal(400, "bad_request", f"body: {first['msg']}")
    where = ".".join(str(part) for part in first["loc"]) or "body"
    raise Refusal(422, "invalid", f"{where[:200]}: {first['msg'][:300]}")


async def _read(request: Request, settings: Settings) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > settings.max_body_bytes:
            raise _too_large(settings)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(settings: Settings) -> Refusal:
    message = f"body: expected at most {settings.max_body_bytes:,} bytes"
    return Refusal(413, "too_large", message, {"connection": "close"})


def _key_of(scope: Scope) -> bytes:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    return value.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _matches(key: bytes, wanted: tuple[bytes, ...]) -> bool:
    """Compared with every key, each in constant time, so that time tells nothing of which one was near."""
    return sum([hmac.compare_digest(key, one) for one in wanted]) > 0
