"""What a store is: it finds items for one request, and, where it takes changes, puts and deletes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle import Scorer
from pertinent.bundle.rows import encoding_of
from pertinent.errors import ConfigError, PertinentError
from pertinent.files import reason_of
from pertinent.serving.settings import Settings

READ_ONLY = (
    "the items are the bundle's own files, which are read only; serve with --store FOLDER or --store redis://HOST"
)
_REDIS = re.compile(r"(redis|rediss|valkey|valkeys|unix)://", re.IGNORECASE)


class StoreError(PertinentError):
    """A store cannot be written or reached now."""


@dataclass(frozen=True)
class Found:
    """What a store has of C items.

    rows: (C,) int64, an item's row in the bundle's own files, -1 where it is not served from there. records: place ->
    the item's record (`pertinent.bundle.rows`). trouble: why the store could not be asked, "" where it could; what is
    found then is from the cache, and may be old.
    """

    rows: NDArray[np.int64]
    records: Mapping[int, bytes] = field(default_factory=dict)
    trouble: str = ""
    cache_hits: int = 0
    cache_misses: int = 0

    def spread(self, places: Sequence[int], n: int) -> Found:
        """The same among n candidates, of which those at ``places`` were asked for."""
        rows = np.full(n, -1, dtype=np.int64)
        rows[list(places)] = self.rows
        return replace(self, rows=rows, records={places[k]: record for k, record in self.records.items()})


class ItemStore(Protocol):
    """Items of one bundle's encoding. `find` is called by the scoring thread, the others by any."""

    @property
    def address(self) -> str:
        """As an operator reads it, without a password."""

    @property
    def writable(self) -> bool:
        """Whether it takes changes."""

    def find(self, item_ids: Sequence[str]) -> Found:
        """Never raises for a store that is down, slow or short of an item."""

    def digests(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """The first bytes of each item's record, which tell whether it has changed. Raises StoreError."""

    def put(self, records: Mapping[str, bytes]) -> None:
        """Write items by ID. Raises StoreError; some may then be written."""

    def delete(self, item_ids: Sequence[str]) -> int:
        """Delete items; returns how many there were. Raises StoreError; some may then be deleted."""

    def count(self) -> int | None:
        """How many items there are; None where that is not known without reading them all."""

    def close(self) -> None:
        """Let go of connections and files."""


def open_store(settings: Settings, scorer: Scorer) -> ItemStore:
    """The store that the settings name, for the encoding of this bundle.

    A Redis that does not answer is no error: the server starts degraded and recovers by itself.
    Raises ConfigError for an address that cannot be read or a missing package, StoreError for a folder that cannot be
    written.
    """
    if settings.store is None:
        from pertinent.serving.stores.embedded import EmbeddedStore

        return EmbeddedStore(scorer)
    encoding = encoding_of(scorer.description)
    if _REDIS.match(settings.store):
        from pertinent.serving.stores.redis import RedisStore

        return RedisStore.of(settings, encoding)
    from pertinent.serving.stores.journal import JournalStore

    return JournalStore(Path(settings.store), encoding, scorer)


def check_store(settings: Settings) -> None:
    """Raises ConfigError for an address that no worker could use, before any is started; connects nowhere."""
    if settings.store is None:
        return
    if _REDIS.match(settings.store):
        from pertinent.serving.stores.redis import RedisStore

        RedisStore.of(settings, "").close()
        return
    folder = Path(settings.store)
    if ":" in settings.store.partition("/")[0]:
        raise ConfigError(f"--store {settings.store}: expected redis://HOST:PORT/DB or a folder, found another address")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--store {folder}: cannot be written: {reason_of(error)}") from None
