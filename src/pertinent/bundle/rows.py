"""Items outside a bundle's own files: what the scorer needs of each, and the record of bytes that a store keeps of it.

A record is little-endian words of 4 bytes: 4 of digest (BLAKE2b of all that follows), the lengths of the lists, each field's
number of trigrams, d float32 of the vector, the float32 of every side in order, then the int32 of each field's terms and rare
trigrams. It has no names: a store keys it by `encoding_of` the bundle that made it, so that no other bundle reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.features.corpus import FIELDS, LexicalItems
from pertinent.features.ragged import Ragged
from pertinent.features.side import Side
from pertinent.files import sha256_of_json

RECORD = 1  # version of the layout
DIGEST_BYTES = 16
_LISTS = tuple((field, name) for field in FIELDS for name in ("terms", "rare_grams"))
_LENGTHS = DIGEST_BYTES // 4  # where the words of lengths begin
_COUNTS = _LENGTHS + len(_LISTS)  # where those of trigrams begin
_HEAD = _COUNTS + len(FIELDS)  # where the vector begins


def encoding_of(description: Mapping[str, Any]) -> str:
    """16 hex digits that two bundles share only if they encode an item alike. description: bundle.json.

    Everything in the bundle but its own item store and the card is counted in, the network too.
    """
    files = {
        name: digest
        for name, digest in description["files"].items()
        if name != "README.md" and not name.startswith(f"{description['store']}/")
    }
    told = {key: description.get(key) for key in ("format", "features", "item_text")}
    precision = description["vectors"]["precision"]  # by which an item's vector is rounded
    return sha256_of_json({"record": RECORD, "files": files, "precision": precision, **told})[:16]


@dataclass(frozen=True)
class ItemRows:
    """C items. vectors: (C, d) float32. sides: of these items alone, so that item i is at row i of each."""

    vectors: NDArray[np.float32]
    lexical: LexicalItems
    sides: tuple[Side, ...] = ()

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    def take(self, rows: NDArray[np.int64]) -> ItemRows:
        """The items at these positions."""
        sides = tuple(side.with_values(side.values(rows)) for side in self.sides)
        return ItemRows(self.vectors[rows], self.lexical.take(rows), sides)

    def records(self) -> list[bytes]:
        """The record of each item."""
        n = len(self)
        lists = [getattr(self.lexical, name)[field] for field, name in _LISTS]
        heads = [one.lengths for one in lists] + [self.lexical.n_grams[field] for field in FIELDS]
        head = np.stack(heads, axis=1).astype("<i4")
        every = np.arange(n)
        fixed = np.concatenate([self.vectors, *(side.values(every) for side in self.sides)], axis=1).astype("<f4")
        found = []
        for i in range(n):
            parts = [one.values[one.starts[i] : one.starts[i + 1]].astype("<i4").tobytes() for one in lists]
            body = b"".join([head[i].tobytes(), fixed[i].tobytes(), *parts])
            found.append(hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() + body)
        return found


def read_records(
    records: Sequence[bytes], dimensions: int, sides: Sequence[Side]
) -> tuple[ItemRows, NDArray[np.int64]]:
    """The items of the records that are whole, and their places (K,) int64 among the given ones.

    sides: those of the bundle. A record of another size than its own lengths say is left out.
    """
    widths = [side.width for side in sides]
    n_fixed = dimensions + sum(widths)
    places = np.array([i for i, record in enumerate(records) if len(record) % 4 == 0], dtype=np.int64)
    places = places[[len(records[i]) >= 4 * (_HEAD + n_fixed) for i in places]] if places.size else places
    words = np.frombuffer(b"".join(records[i] for i in places), dtype="<i4").astype(np.int32, copy=False)
    sizes = np.array([len(records[i]) // 4 for i in places], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    lengths = words[starts[:, None] + np.arange(_LENGTHS, _COUNTS)].astype(np.int64)
    whole = (lengths >= 0).all(axis=1) & (lengths.sum(axis=1) + _HEAD + n_fixed == sizes)
    places, starts, lengths = places[whole], starts[whole], lengths[whole]
    fixed = words[starts[:, None] + np.arange(_HEAD, _HEAD + n_fixed)].view(np.float32)
    begins = starts[:, None] + _HEAD + n_fixed + np.cumsum(lengths, axis=1) - lengths
    lists = {key: Ragged.cut(words, begins[:, k], lengths[:, k]) for k, key in enumerate(_LISTS)}
    n_grams = {field: words[starts + _COUNTS + k] for k, field in enumerate(FIELDS)}
    terms, rare_grams = ({field: lists[field, name] for field in FIELDS} for name in ("terms", "rare_grams"))
    lexical = LexicalItems(terms, n_grams, rare_grams)
    edges = np.cumsum([dimensions, *widths])
    own = [side.with_values(fixed[:, a:b]) for side, a, b in zip(sides, edges[:-1], edges[1:], strict=True)]
    return ItemRows(np.ascontiguousarray(fixed[:, :dimensions]), lexical, tuple(own)), places
