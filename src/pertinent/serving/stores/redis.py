"""Items in Redis or Valkey: one key an item and encoding, read in one round trip a request, behind a circuit breaker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pertinent.bundle.rows import DIGEST_BYTES
from pertinent.errors import ConfigError
from pertinent.progress import say
from pertinent.serving.settings import Settings
from pertinent.serving.stores.breaker import Breaker
from pertinent.serving.stores.cache import RecordCache
from pertinent.serving.stores.store import Found, StoreError

T = TypeVar("T")
_WRITE_S = 10.0  # for a batch of writes to be answered
_BATCH = 500  # items a round trip of writes


@dataclass(frozen=True)
class RedisStore:
    """reader: with the short timeouts of a request. writer: with long ones, for changes. prefix: of this encoding's keys."""

    address: str
    reader: Any  # redis.Redis
    writer: Any
    prefix: str
    breaker: Breaker
    cache: RecordCache
    slow_s: float
    writable = True

    @classmethod
    def of(cls, settings: Settings, encoding: str) -> RedisStore:
        """Connects when it is first asked. Raises ConfigError for a missing package or an address that is none."""
        assert settings.store is not None
        connect_s, read_s = settings.store_connect_ms / 1000, settings.store_read_ms / 1000
        shown = _without_password(settings.store)
        reader = _client(settings.store, shown, connect_s, read_s)

        def tell(answers: bool) -> None:
            said = "answers again" if answers else f"does not answer ({breaker.reason}); degraded until it does"
            say(f"serve: store {shown} {said}")

        breaker = Breaker(settings.store_failures, settings.store_retry, reader.ping, tell)
        cache = RecordCache(settings.store_cache, settings.store_fresh)
        writer = _client(settings.store, shown, _WRITE_S, _WRITE_S)
        return cls(shown, reader, writer, f"pertinent:{encoding}:", breaker, cache, read_s)

    def find(self, item_ids: Sequence[str]) -> Found:
        """One MGET for what the cache has not fresh; where that fails, what the cache has of any age."""
        wanted = list(dict.fromkeys(item_ids))
        held = self.cache.get(wanted)
        absent = [item for item in wanted if item not in held]
        n_hits, trouble = len(held), ""
        if absent:
            read, trouble = self._read(absent)
            self.cache.put(read.items())
            held |= read if not trouble else self.cache.get(absent, old=True)
        found = {place: held.get(item) for place, item in enumerate(item_ids)}
        records = {place: record for place, record in found.items() if record is not None}
        return Found(np.full(len(item_ids), -1, dtype=np.int64), records, trouble, n_hits, len(absent))

    def _read(self, item_ids: Sequence[str]) -> tuple[dict[str, bytes | None], str]:
        """The records, and why there are none."""
        from redis.exceptions import RedisError

        if self.breaker.is_open:
            return {}, self.breaker.reason or "it does not answer"
        began = time.monotonic()
        try:
            values = self.reader.mget([self.prefix + item for item in item_ids])
        except (RedisError, OSError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"
            self.breaker.failed(reason)
            return {}, reason
        if (spent := time.monotonic() - began) > self.slow_s:
            self.breaker.failed(f"it took {spent:.3f} s")  # the answer is good, the next ones may come too late
        else:
            self.breaker.succeeded()
        return dict(zip(item_ids, values, strict=True)), ""

    def digests(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """The first bytes of the values, in as few round trips as go."""

        def read(part: Sequence[str]) -> list[bytes]:
            pipe = self.writer.pipeline(transaction=False)
            for item in part:
                pipe.getrange(self.prefix + item, 0, DIGEST_BYTES - 1)
            return list(pipe.execute())

        found = [value for part in _parts(item_ids) for value in self._told(read, part)]
        return [value or None for value in found]

    def put(self, records: Mapping[str, bytes]) -> None:
        """MSET, a batch at a time, each whole or not at all."""
        for part in _parts(records):
            self._told(self.writer.mset, {self.prefix + item: records[item] for item in part})
        self.cache.forget(records)

    def delete(self, item_ids: Sequence[str]) -> int:
        """UNLINK, a batch at a time."""
        n = 0
        for part in _parts(dict.fromkeys(item_ids)):
            n += self._told(self.writer.unlink, *(self.prefix + item for item in part))
        self.cache.forget(item_ids)
        return n

    def _told(self, work: Callable[..., T], *arguments: Any) -> T:
        from redis.exceptions import RedisError

        try:
            return work(*arguments)
        except (RedisError, OSError) as error:
            raise StoreError(f"{self.address}: {str(error).splitlines()[0] if str(error) else 'no answer'}") from None

    def count(self) -> int | None:
        """Not known without reading every key."""
        return None

    def close(self) -> None:
        """Close the connections and stop probing."""
        self.breaker.close()
        self.reader.close()
        self.writer.close()


def _parts(items: Iterable[str]) -> Iterator[list[str]]:
    whole = list(items)
    return (whole[start : start + _BATCH] for start in range(0, len(whole), _BATCH))


def _client(url: str, shown: str, connect_s: float, read_s: float) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ConfigError(f"--store {shown}: needs the package redis: pip install 'pertinent[redis]'") from None
    for theirs, ours in (("valkeys://", "rediss://"), ("valkey://", "redis://")):
        if url.lower().startswith(theirs):
            url = ours + url[len(theirs) :]
    # One more try for a connection that the server closed since; none for an answer that did not come in time.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))
    try:
        return redis.Redis.from_url(
            url, socket_connect_timeout=connect_s, socket_timeout=read_s, retry=retry, protocol=2
        )
    except ValueError as error:
        raise ConfigError(f"--store {shown}: {error}") from None


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else f"{scheme}://{rest}"
