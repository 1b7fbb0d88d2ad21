"""The records that a worker read last, so that popular items cost no round trip, and outlast their store's outage."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable


class RecordCache:
    """The last ``size`` items that were read, least recently used out first. None stands for an item that is not there.

    An entry is fresh for ``fresh_s`` seconds; an older one is kept for the time when its store does not answer.
    """

    def __init__(self, size: int, fresh_s: float) -> None:
        self._size, self._fresh_s = size, fresh_s
        self._entries: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, item_ids: Iterable[str], *, old: bool = False) -> dict[str, bytes | None]:
        """The entries of these items that are fresh, or any age with ``old``."""
        since = time.monotonic() - self._fresh_s
        found: dict[str, bytes | None] = {}
        with self._lock:
            for item in item_ids:
                entry = self._entries.get(item)
                if entry is not None and (old or entry[0] >= since):
                    self._entries.move_to_end(item)
                    found[item] = entry[1]
        return found

    def put(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        """Keep what was read now."""
        if not self._size:
            return
        now = time.monotonic()
        with self._lock:
            for item, record in records:
                self._entries[item] = (now, record)
                self._entries.move_to_end(item)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def forget(self, item_ids: Iterable[str]) -> None:
        """Drop items that were changed."""
        with self._lock:
            for item in item_ids:
                self._entries.pop(item, None)
