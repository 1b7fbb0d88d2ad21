"""Strings and their rows in flat arrays: a dict that lies in a file and is shared by all who map it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

ABSENT = -1


@dataclass(frozen=True, eq=False)  # compared as any mapping
class StringTable(Mapping[str, int]):
    """N different strings -> their rows 0..N-1. Looking up many at once (`find`) is what it is made for.

    utf8: (total,) uint8, UTF-8 of one string after the other. starts: (N + 1,) int64. hashes: (N,) uint32, the CRC-32
    of each, sorted. rows: (N,) int32, whose hash it is. Equal hashes are told apart by the strings.
    """

    utf8: NDArray[np.uint8]
    starts: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, strings: Sequence[str]) -> StringTable:
        """From different strings, in the order of their rows."""
        values, starts, hashes = _flat(strings)
        order = np.argsort(hashes, kind="stable")
        return cls(values, starts, hashes[order], order.astype(np.int32))

    def find(self, strings: Sequence[str]) -> NDArray[np.int64]:
        """(len(strings),) int64: the row of each, ABSENT (-1) for one that is not there."""
        values, starts, hashes = _flat(strings)
        found = np.full(len(strings), ABSENT, dtype=np.int64)
        at = np.searchsorted(self.hashes, hashes)
        left = np.arange(len(strings))
        while left.size:  # mostly once: again where another string has the same hash
            left = left[at[left] < self.hashes.size]
            left = left[self.hashes[at[left]] == hashes[left]]
            rows = self.rows[at[left]].astype(np.int64)
            same = self._equal(rows, values, starts, left)
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1
        return found

    def _equal(
        self, rows: NDArray[np.int64], values: NDArray[np.uint8], starts: NDArray[np.int64], asked: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether the strings at ``rows`` are those asked for."""
        first, lengths = self.starts[rows], starts[asked + 1] - starts[asked]
        equal: NDArray[np.bool_] = self.starts[rows + 1] - first == lengths
        kept = np.flatnonzero(equal)
        if kept.size:
            place = np.arange(int(lengths[kept].max()))
            inside = place < lengths[kept, None]
            mine = self.utf8[np.where(inside, first[kept, None] + place, 0)]
            theirs = values[np.where(inside, starts[asked[kept], None] + place, 0)]
            equal[kept] = ((mine == theirs) | ~inside).all(axis=1)
        return equal

    def __getitem__(self, string: str) -> int:
        row = int(self.find([string])[0]) if isinstance(string, str) else ABSENT
        if row == ABSENT:
            raise KeyError(string)
        return row

    def __len__(self) -> int:
        return self.rows.size

    def __iter__(self) -> Iterator[str]:
        raw, starts = self.utf8.tobytes(), self.starts.tolist()
        for start, end in itertools.pairwise(starts):
            yield raw[start:end].decode("utf-8", "surrogatepass")


def _flat(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32]]:
    """UTF-8 of all strings, where each starts, and the CRC-32 of each."""
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    starts = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)), out=starts[1:])
    values = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return values, starts, np.fromiter(map(crc32, encoded), dtype=np.uint32, count=len(encoded))
