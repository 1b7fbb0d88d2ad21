"""Rows of unequal length in two flat arrays, as they lie in an item store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """values: (total,) int32, row after row. starts: (N + 1,) int64, row i is values[starts[i]:starts[i + 1]]."""

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | NDArray[np.int32]]) -> Ragged:
        """From a sequence of rows."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.empty(int(starts[-1]), dtype=np.int32)
        for i, row in enumerate(rows):
            values[starts[i] : starts[i + 1]] = row
        return cls(values, starts)

    def __len__(self) -> int:
        return self.starts.size - 1

    @classmethod
    def cut(cls, values: NDArray[np.int32], begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
        """Rows of these lengths that begin at these places of ``values``, copied together."""
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        offsets = np.repeat(begins - starts[:-1], lengths)
        return cls(values[offsets + np.arange(int(starts[-1]))], starts)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The rows at these positions, in this order, copied together."""
        begins = self.starts[rows]
        return Ragged.cut(self.values, begins, self.starts[rows + 1] - begins)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) int64."""
        return np.diff(self.starts)

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of each part, one part after the other."""
        offsets = np.concatenate([[0], np.cumsum([part.values.size for part in parts])])
        starts = [part.starts[:-1] - part.starts[0] + offset for part, offset in zip(parts, offsets, strict=False)]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([*starts, offsets[-1:]]))
