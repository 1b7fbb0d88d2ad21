"""The bundle's own item store, which is memory-mapped and read only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pertinent.bundle import Scorer
from pertinent.serving.stores.store import READ_ONLY, Found, StoreError


class EmbeddedStore:
    """Items of a bundle's own files."""

    address = "the bundle's own files"
    writable = False

    def __init__(self, scorer: Scorer) -> None:
        self._row_of = scorer.row_of

    def find(self, item_ids: Sequence[str]) -> Found:
        """Rows of the bundle's files."""
        return Found(self._row_of.find(item_ids))

    def digests(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Raises StoreError."""
        raise StoreError(READ_ONLY)

    def put(self, records: Mapping[str, bytes]) -> None:
        """Raises StoreError."""
        raise StoreError(READ_ONLY)

    def delete(self, item_ids: Sequence[str]) -> int:
        """Raises StoreError."""
        raise StoreError(READ_ONLY)

    def count(self) -> int | None:
        """The bundle's items."""
        return len(self._row_of)

    def close(self) -> None:
        """Nothing is held."""
