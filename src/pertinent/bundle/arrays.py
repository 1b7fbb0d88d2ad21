"""Arrays of a bundle: one .npy file each, memory-mapped, so that opening reads nothing and workers share the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.errors import ModelError
from pertinent.features.ragged import Ragged
from pertinent.features.strings import StringTable

TABLE = ("utf8", "starts", "hashes", "rows")  # of a StringTable
RAGGED = ("values", "starts")


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write folder/NAME.npy for each; no object arrays."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def read_array(file: Path) -> NDArray[Any]:
    """A mapped array. Raises ModelError where the file is missing or damaged."""
    try:
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(f"{file}: expected an array, found {str(error).splitlines()[0]}") from None
    # A view of the plain class: np.memmap's own bookkeeping costs microseconds at every slice.
    return np.asarray(mapped)


def names_of(prefix: str, parts: Iterable[str]) -> list[str]:
    """PREFIX.PART for each part."""
    return [f"{prefix}.{part}" for part in parts]


def write_table(folder: Path, prefix: str, table: StringTable) -> None:
    """Write a StringTable as PREFIX.utf8 and so on."""
    write_arrays(folder, {f"{prefix}.{part}": getattr(table, part) for part in TABLE})


def read_table(folder: Path, prefix: str) -> StringTable:
    """The inverse of write_table."""
    return StringTable(*(read_array(folder / f"{name}.npy") for name in names_of(prefix, TABLE)))


def write_ragged(folder: Path, prefix: str, ragged: Ragged) -> None:
    """Write a Ragged as PREFIX.values and PREFIX.starts."""
    write_arrays(folder, {f"{prefix}.{part}": getattr(ragged, part) for part in RAGGED})


def read_ragged(folder: Path, prefix: str) -> Ragged:
    """The inverse of write_ragged."""
    return Ragged(*(read_array(folder / f"{name}.npy") for name in names_of(prefix, RAGGED)))
