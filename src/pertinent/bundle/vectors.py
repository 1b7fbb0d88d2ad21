"""Vectors of items as they are stored: float32, float16, or int8 with scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle.arrays import read_array, write_arrays

Precision = Literal["float32", "float16", "int8"]
_LEVELS = 127.0  # of int8, on either side of 0


@dataclass(frozen=True)
class StoredVectors:
    """N rows of parts side by side, such as an item's vector and its half of the first layer.

    values: (N, k) float32, float16 or int8. scales: (N, parts) float32, what an int8 of 1 stands for in each part; (0,
    parts) for floats. widths: of the parts, k together.
    """

    values: NDArray[Any]
    scales: NDArray[np.float32]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.float32]], precision: Precision) -> StoredVectors:
        """Round parts, each (N, k_p) float32. In int8 the largest entry of a part of a row is 127; zeros stay zeros.

        A float16 ends at 65,504: what is larger is cut off there.
        """
        widths = tuple(part.shape[1] for part in parts)
        if precision == "int8":
            largest = [np.abs(part).max(axis=1, initial=0.0) for part in parts]
            scales = np.stack([np.where(top > 0, top / _LEVELS, 1.0) for top in largest], axis=1).astype(np.float32)
            levels = [np.rint(part / scales[:, k : k + 1]) for k, part in enumerate(parts)]
            return cls(np.concatenate(levels, axis=1).astype(np.int8), scales, widths)
        limit = float(np.finfo(precision).max)
        values = np.clip(np.concatenate(parts, axis=1), -limit, limit).astype(precision)
        return cls(values, np.zeros((0, len(widths)), dtype=np.float32), widths)

    @classmethod
    def joined(cls, blocks: Sequence[StoredVectors]) -> StoredVectors:
        """The rows of each block, one block after the other; of one precision and the same widths."""
        values = np.concatenate([block.values for block in blocks])
        return cls(values, np.concatenate([block.scales for block in blocks]), blocks[0].widths)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def precision(self) -> Precision:
        """How a number is stored."""
        name: Precision = str(self.values.dtype)  # type: ignore[assignment]
        return name

    @property
    def bytes_per_row(self) -> int:
        """With its scales."""
        return sum(self.widths) * self.values.itemsize + (len(self.widths) * 4 if self.scales.size else 0)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows as the network reads them, (C, k): float16 where they are stored so, else float32."""
        values: NDArray[Any] = self.values[rows]
        if self.precision != "int8":
            return values
        wide = values.astype(np.float32)
        start = 0
        for width, scale in zip(self.widths, self.scales[rows].T, strict=True):
            wide[:, start : start + width] *= scale[:, None]
            start += width
        return wide

    def rows(self, rows: NDArray[np.int64]) -> StoredVectors:
        """These rows as they are stored."""
        return StoredVectors(self.values[rows], self.scales[rows] if self.scales.size else self.scales, self.widths)

    def with_rows(self, places: NDArray[np.int64], others: StoredVectors) -> StoredVectors:
        """A copy in which the rows at ``places`` are those of ``others``, of the same precision."""
        values, scales = np.array(self.values), np.array(self.scales)
        values[places] = others.values
        if scales.size:
            scales[places] = others.scales
        return StoredVectors(values, scales, self.widths)

    def first(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The first part of the rows: (C, k_1) float32."""
        return self.take(rows)[:, : self.widths[0]].astype(np.float32)

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.npy, NAME.scales.npy and NAME.widths.npy."""
        arrays = {name: self.values, f"{name}.scales": self.scales, f"{name}.widths": np.array(self.widths)}
        write_arrays(folder, arrays)

    @classmethod
    def read(cls, folder: Path, name: str) -> StoredVectors:
        """The inverse of write; values and scales are mapped."""
        widths = tuple(int(width) for width in read_array(folder / f"{name}.widths.npy"))
        return cls(read_array(folder / f"{name}.npy"), read_array(folder / f"{name}.scales.npy"), widths)
