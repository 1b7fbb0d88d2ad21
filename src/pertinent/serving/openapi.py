"""The OpenAPI document of the server, from the same models that validate requests."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from pertinent.serving import schemas

_REF = "#/components/schemas/{model}"
_POSTS: dict[str, tuple[str, type[BaseModel], type[BaseModel]]] = {
    "/v1/score": ("Relevance of stored items", schemas.ScoreRequest, schemas.ScoreResponse),
    "/v1/rank": ("Final order of stored items by a blend", schemas.RankRequest, schemas.RankResponse),
    "/v1/rerank": ("Texts or stored items, as Cohere and Jina have it", schemas.RerankRequest, schemas.RerankResponse),
    "/v2/rerank": ("The same, for Cohere's second client", schemas.RerankRequest, schemas.RerankResponse),
    "/rerank": ("Texts or stored items, as TEI has it", schemas.TeiRerankRequest, schemas.TeiRank),
}
_ITEMS: dict[str, tuple[str, type[BaseModel], type[BaseModel]]] = {
    "put": ("Add or replace items", schemas.ItemsRequest, schemas.ItemsPut),
    "delete": ("Delete items", schemas.ItemIdsRequest, schemas.ItemsDeleted),
}
_GETS = {
    "/v1/models": "The served bundle",
    "/healthz": "Whether the process answers",
    "/readyz": "Whether it takes traffic",
    "/metrics": "Prometheus metrics over all workers",
    "/openapi.json": "This document",
    "/admin/bundle": "What every worker serves, and what served before",
}


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for path, (summary, asked, answered) in _POSTS.items():
        answer: dict[str, Any] = {"$ref": _REF.format(model=answered.__name__)}
        if answered is schemas.TeiRank:
            answer = {"type": "array", "items": answer}
        paths[path] = {"post": _operation(summary, asked, answer, (400, 401, 408, 413, 422, 503))}
    for path, summary in _GETS.items():
        kind = "text/plain" if path == "/metrics" else "application/json"
        paths[path] = {"get": {"summary": summary, "responses": _responses({kind: {}}, (401, 403, 503))}}
    for method, (summary, asked, answered) in _ITEMS.items():
        answer = {"$ref": _REF.format(model=answered.__name__)}
        operation = _operation(summary, asked, answer, (400, 401, 403, 408, 409, 413, 422, 503))
        paths.setdefault("/v1/items", {})[method] = operation
    reload = _operation(
        "Serve another bundle", schemas.BundleRequest, {"type": "object"}, (400, 401, 403, 409, 413, 422)
    )
    reload["requestBody"]["required"] = False
    paths["/admin/reload"] = {"post": reload}
    rollback = {"application/json": {"schema": {"type": "object"}}}
    summary = "Serve the bundle before again"
    paths["/admin/rollback"] = {"post": {"summary": summary, "responses": _responses(rollback, (401, 403, 409, 422))}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pertinent", "version": version("pertinent")},
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}, {}],
    }


def _operation(
    summary: str, asked: type[BaseModel], answer: dict[str, Any], failures: tuple[int, ...]
) -> dict[str, Any]:
    body = {"application/json": {"schema": {"$ref": _REF.format(model=asked.__name__)}}}
    responses = _responses({"application/json": {"schema": answer}}, failures)
    return {"summary": summary, "requestBody": {"required": True, "content": body}, "responses": responses}


def _responses(content: dict[str, Any], failures: tuple[int, ...]) -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    answers = {str(code): {"description": "refused", "content": problem} for code in failures}
    return {"200": {"description": "done", "content": content}, **answers}


def _schemas() -> dict[str, Any]:
    whole = [*_POSTS.values(), *_ITEMS.values()]
    asked = {model for _, model, _ in whole} | {schemas.BundleRequest}
    answered = {model for _, _, model in whole} | {schemas.Problem}
    modes: list[Any] = [(model, "validation") for model in sorted(asked, key=lambda model: model.__name__)]
    modes += [(model, "serialization") for model in sorted(answered, key=lambda model: model.__name__)]
    _, tree = models_json_schema(modes, ref_template=_REF)
    found: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_python(tree["$defs"])
    return found
