"""Items put and deleted over HTTP while the server serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.rows import DIGEST_BYTES
from pertinent.errors import DataError, ModelError
from pertinent.serving.bundles import Bundles, Loaded
from pertinent.serving.guard import ITEMS, body_of, parsed
from pertinent.serving.metrics import Metrics
from pertinent.serving.problems import Refusal
from pertinent.serving.schemas import MAX_ID_CHARACTERS, ItemIdsRequest, ItemsRequest
from pertinent.serving.settings import Settings
from pertinent.serving.stores import READ_ONLY, ItemStore, StoreError
from pertinent.text.sources import FieldSource

T = TypeVar("T")


def write_changed(
    store: ItemStore, encoder: ItemEncoder, items: pl.DataFrame, sources: Sequence[FieldSource] = ()
) -> tuple[int, int]:
    """Encode items and write those whose record differs from the store's: how many were written, and how many were not.

    Every difference counts, not only a meaningful one (`pertinent.text.changes`): that rule spares labels, and an old
    row would score a text that the item no longer has. Raises StoreError, DataError.
    """
    if not items.height:
        return 0, 0
    ids = items["item_id"].to_list()
    if longest := next((item for item in ids if len(item) > MAX_ID_CHARACTERS), ""):
        said = f"expected at most {MAX_ID_CHARACTERS} characters, as a request may ask for, found {len(longest):,}"
        raise DataError(f"item_id {longest[:20]}...: {said}")
    return write_records(store, dict(zip(ids, encoder.encode(items, sources).records(), strict=True)))


def write_records(store: ItemStore, records: dict[str, bytes]) -> tuple[int, int]:
    """Write the records that the store has not: how many were written, and how many were not."""
    digests = store.digests(list(records))
    new = {
        item: record
        for (item, record), digest in zip(records.items(), digests, strict=True)
        if record[:DIGEST_BYTES] != digest
    }
    store.put(new)
    return len(new), len(records) - len(new)


def change_routes(bundles: Bundles, metrics: Metrics, settings: Settings) -> list[Route]:
    """PUT and DELETE of /v1/items."""

    async def put(request: Request) -> Response:
        asked = parsed(ItemsRequest, await body_of(request, settings))
        _check_number(len(asked.items), settings)
        loaded = _writable(bundles)

        def work() -> tuple[int, int]:
            encoder = loaded.items
            return write_changed(loaded.store, encoder, encoder.clean(asked.items))

        written, unchanged = await _done(work)
        metrics.changed_items.labels("put").inc(written)
        return _json({"bundle": loaded.hash, "written": written, "unchanged": unchanged})

    async def delete(request: Request) -> Response:
        asked = parsed(ItemIdsRequest, await body_of(request, settings))
        _check_number(len(asked.item_ids), settings)
        loaded = _writable(bundles)
        ids = list(dict.fromkeys(asked.item_ids))
        deleted = await _done(lambda: loaded.store.delete(ids))
        metrics.changed_items.labels("delete").inc(deleted)
        return _json({"bundle": loaded.hash, "deleted": deleted, "absent": len(ids) - deleted})

    return [Route(ITEMS, put, methods=["PUT"]), Route(ITEMS, delete, methods=["DELETE"])]


def _writable(bundles: Bundles) -> Loaded:
    loaded = bundles.current
    if not loaded.store.writable:
        raise Refusal(409, "read_only", READ_ONLY)
    return loaded


def _check_number(n: int, settings: Settings) -> None:
    if n > settings.max_changes:
        raise Refusal(422, "invalid", f"expected at most {settings.max_changes:,} items, found {n:,}")


async def _done(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except DataError as error:
        raise Refusal(422, "invalid", str(error)[:500]) from None
    except ModelError as error:
        raise Refusal(409, "refused", str(error)) from None
    except StoreError as error:
        raise Refusal(503, "store", str(error), {"retry-after": "1"}) from None


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
