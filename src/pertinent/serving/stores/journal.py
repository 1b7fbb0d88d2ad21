"""Changed items beside a bundle: an append-only file that every worker follows, laid over the bundle's own items.

FOLDER/NAME.journal, NAME from the bundle's encoding and items. An entry is length, CRC-32, operation and ID, then the
item's record; it takes effect in a worker at its next request. Entries are appended under a lock by any process, flushed
to the disk, and rewritten without what was overtaken once that is most of a large file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pertinent.bundle import Scorer
from pertinent.bundle.rows import DIGEST_BYTES
from pertinent.errors import ConfigError
from pertinent.files import atomic_path, reason_of, sha256_of_json
from pertinent.serving.stores.store import Found, StoreError

_MAGIC = b"pertinent journal 1\n"
_HEAD = struct.Struct("<IIBH")  # bytes of ID and record together, CRC-32 of the rest, operation, bytes of the ID
_PUT, _DELETE = 0, 1
COMPACT_BYTES = 64 * 2**20  # overtaken bytes from which the file is rewritten, if they are most of it
_CHUNK = 4 * 2**20


class JournalStore:
    """The items of a bundle with the changes of a journal. Safe for the threads of a process, and for processes."""

    writable = True

    def __init__(self, folder: Path, encoding: str, scorer: Scorer) -> None:
        """Opens or starts the journal. Raises ConfigError if the folder cannot be written."""
        described, inside = scorer.description, f"{scorer.description['store']}/"
        items = {name: digest for name, digest in described["files"].items() if name.startswith(inside)}
        name = f"{encoding}-{sha256_of_json(items)[:8]}"
        self.address = str(folder)
        self._scorer, self._row_of = scorer, scorer.row_of
        self._file, self._lock_file = folder / f"{name}.journal", folder / f"{name}.lock"
        # A writer may wait for the disk or another process. The scoring waits for the second lock alone.
        self._writing, self._lock = threading.Lock(), threading.Lock()
        self._index: dict[str, tuple[int, int] | None] = {}  # ID -> where its record lies; None: deleted
        self._fd, self._read_to, self._overtaken, self._damage = -1, 0, 0, ""
        self._closer: Callable[[], object] = lambda: None  # of the open file, once
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                if not self._file.exists():
                    with atomic_path(self._file) as temporary:
                        temporary.write_bytes(_MAGIC)
                self._catch_up()
        except OSError as error:
            raise ConfigError(f"--store {folder}: cannot be written: {reason_of(error)}") from None

    def find(self, item_ids: Sequence[str]) -> Found:
        """The journal's item where it has changed, else the bundle's."""
        rows = self._row_of.find(item_ids)
        records: dict[int, bytes] = {}
        with self._lock:
            trouble = ""
            try:
                self._follow()
            except OSError as error:  # what was read before is served on
                trouble = f"{self._file}: {reason_of(error)}"
            changed = {place: self._index[item] for place, item in enumerate(item_ids) if item in self._index}
            rows[list(changed)] = -1
            try:
                records = {place: self._record(where) for place, where in changed.items() if where is not None}
            except OSError as error:
                trouble = f"{self._file}: {reason_of(error)}"
            return Found(rows, records, trouble or self._damage)

    def digests(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Of the journal's items, and of the bundle's where they have not changed."""
        found = self.find(item_ids)
        digests = {place: record[:DIGEST_BYTES] for place, record in found.records.items()}
        places = np.flatnonzero(found.rows >= 0)
        own = self._scorer.items_at(found.rows[places]).records()
        digests |= {int(place): record[:DIGEST_BYTES] for place, record in zip(places, own, strict=True)}
        return [digests.get(place) for place in range(len(item_ids))]

    def put(self, records: Mapping[str, bytes]) -> None:
        """Append the items."""
        self._append([_entry(_PUT, item, record) for item, record in records.items()])

    def delete(self, item_ids: Sequence[str]) -> int:
        """Append deletions of those that are there."""
        with self._told():
            self._catch_up()
        with self._lock:
            there = [item for item in dict.fromkeys(item_ids) if self._has(item)]
        self._append([_entry(_DELETE, item, b"") for item in there])
        return len(there)

    def count(self) -> int | None:
        """Items of the bundle and the journal that are not deleted."""
        with self._lock:
            new = sum(1 for item, where in self._index.items() if where is not None and item not in self._row_of)
            gone = sum(1 for item, where in self._index.items() if where is None and item in self._row_of)
            return len(self._row_of) + new - gone

    def close(self) -> None:
        """Close the file. A store that nobody holds any more, as after a bundle was replaced, closes it by itself."""
        with self._lock:
            self._closer()
            self._fd = -1

    def _has(self, item: str) -> bool:
        return self._index[item] is not None if item in self._index else item in self._row_of

    def _append(self, entries: Iterable[bytes]) -> None:
        data = b"".join(entries)
        if not data:
            return
        with self._writing, self._told(), self._alone():
            self._catch_up()
            if self._damage:
                raise StoreError(self._damage)
            fd = os.open(self._file, os.O_RDWR)
            try:
                # What a writer that was killed left behind its last whole entry goes.
                os.ftruncate(fd, self._read_to)
                try:
                    _write_at(fd, data, self._read_to)
                    os.fsync(fd)
                except OSError:
                    # Whole entries stay: other processes may have read them, and what they read may not be taken back.
                    self._catch_up()
                    os.ftruncate(fd, self._read_to)
                    raise
            finally:
                os.close(fd)
            self._catch_up()
            if self._overtaken > COMPACT_BYTES and 2 * self._overtaken > self._read_to:
                self._compact()

    def _compact(self) -> None:
        """Rewrite the file. No process appends meanwhile, so what was read of it stays as it is."""
        with atomic_path(self._file) as temporary, temporary.open("wb") as stream:
            stream.write(_MAGIC)
            for item, where in self._index.items():
                if where is not None:
                    stream.write(_entry(_PUT, item, self._record(where)))
                elif item in self._row_of:
                    stream.write(_entry(_DELETE, item, b""))
            stream.flush()
            os.fsync(stream.fileno())
        self._catch_up()

    def _record(self, where: tuple[int, int]) -> bytes:
        return os.pread(self._fd, where[1], where[0])

    def _catch_up(self) -> None:
        with self._lock:
            self._follow()

    def _follow(self) -> None:
        """Take in what was appended since, or the whole file where it was rewritten."""
        status = self._file.stat()
        if self._fd < 0 or os.fstat(self._fd).st_ino != status.st_ino:
            self._reopen()
        if status.st_size > self._read_to and not self._damage:
            self._take_in()

    def _reopen(self) -> None:
        fd = os.open(self._file, os.O_RDONLY)
        self._closer()
        self._fd = fd
        self._closer = weakref.finalize(self, os.close, self._fd)
        self._index, self._read_to, self._overtaken, self._damage = {}, len(_MAGIC), 0, ""
        if os.pread(self._fd, len(_MAGIC), 0) != _MAGIC:
            self._damage = f"{self._file}: expected a journal of this version, found something else"

    def _take_in(self) -> None:
        held, start, whole = b"", self._read_to, True
        while whole:
            chunk = os.pread(self._fd, _CHUNK, start + len(held))
            whole = len(chunk) == _CHUNK  # else the last entry may still be being written, or was cut off
            held += chunk
            at = 0
            while (end := _end_of(held, at)) is not None:
                if not self._take(held, at, end, start):
                    self._damage = f"{self._file}: damaged at byte {start + at:,}; later changes are not read"
                    return
                at = end
                self._read_to = start + end
            held, start = held[at:], start + at

    def _take(self, held: bytes, at: int, end: int, start: int) -> bool:
        _, crc, operation, n_id = _HEAD.unpack_from(held, at)
        body = at + _HEAD.size
        if zlib.crc32(held[at + 8 : end]) != crc:
            return False
        item = held[body : body + n_id].decode()
        before = self._index.get(item)
        self._overtaken += before[1] if before else 0
        self._index[item] = (start + body + n_id, end - body - n_id) if operation == _PUT else None
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock_file.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self._file}: {reason_of(error)}") from None


def _entry(operation: int, item: str, record: bytes) -> bytes:
    name = item.encode()
    body = name + record
    tail = _HEAD.pack(0, 0, operation, len(name))[8:] + body
    return struct.pack("<II", len(body), zlib.crc32(tail)) + tail


def _end_of(held: bytes, at: int) -> int | None:
    """Where the entry at ``at`` ends; None where it is not whole."""
    if len(held) - at < _HEAD.size:
        return None
    end = at + _HEAD.size + int(_HEAD.unpack_from(held, at)[0])
    return end if end <= len(held) else None


def _write_at(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n
