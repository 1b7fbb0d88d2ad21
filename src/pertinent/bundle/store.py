"""The item store of a bundle: all that depends on the catalogue, in one folder of mapped arrays.

ids.*, TITLE_OR_BODY.terms.*, .n_grams, .rare_grams.*       ids and what lexical features read
vectors, vectors.scales, vectors.widths     an item's vector and its half of the network's first layer
sides.K.NAME        what features from tables have of each item (`pertinent.bundle.sides`)
texts.parquet          item_id, title, body, text: what the items were made from; read by `student index` alone
probe.parquet          stored pairs with their features and probabilities: replayed when a bundle is verified
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pertinent.bundle.arrays import (
    RAGGED,
    TABLE,
    names_of,
    read_array,
    read_ragged,
    read_table,
    write_arrays,
    write_ragged,
    write_table,
)
from pertinent.bundle.sides import read_sides, write_side_items
from pertinent.bundle.vectors import StoredVectors
from pertinent.features.corpus import FIELDS, LexicalItems
from pertinent.features.side import Side
from pertinent.features.strings import StringTable

TEXTS, PROBE = "texts.parquet", "probe.parquet"
_VECTORS = "vectors"


@dataclass(frozen=True)
class ItemStore:
    """N items, mapped. vectors: an item's vector (d) and its half of the first layer (H)."""

    ids: StringTable
    vectors: StoredVectors
    lexical: LexicalItems
    sides: tuple[Side, ...]

    def write(self, folder: Path) -> None:
        """Write all but texts.parquet and probe.parquet."""
        folder.mkdir(exist_ok=True)
        write_table(folder, "ids", self.ids)
        self.vectors.write(folder, _VECTORS)
        write_arrays(folder, {f"{field}.n_grams": self.lexical.n_grams[field] for field in FIELDS})
        for field in FIELDS:
            write_ragged(folder, f"{field}.terms", self.lexical.terms[field])
            write_ragged(folder, f"{field}.rare_grams", self.lexical.rare_grams[field])
        write_side_items(folder, self.sides)

    @classmethod
    def open(cls, bundle: Path, name: str) -> ItemStore:
        """Map the store of this name in a bundle: milliseconds, whatever its size. Raises ModelError where a file is missing or damaged."""
        folder = bundle / name
        lexical = LexicalItems(
            {field: read_ragged(folder, f"{field}.terms") for field in FIELDS},
            {field: read_array(folder / f"{field}.n_grams.npy") for field in FIELDS},
            {field: read_ragged(folder, f"{field}.rare_grams") for field in FIELDS},
        )
        return cls(read_table(folder, "ids"), StoredVectors.read(folder, _VECTORS), lexical, read_sides(bundle, name))


def store_files() -> list[str]:
    """The files of every store; sides have more."""
    arrays = [*names_of("ids", TABLE), _VECTORS, f"{_VECTORS}.scales", f"{_VECTORS}.widths"]
    for field in FIELDS:
        arrays += [f"{field}.n_grams", *names_of(f"{field}.terms", RAGGED), *names_of(f"{field}.rare_grams", RAGGED)]
    return [*(f"{name}.npy" for name in arrays), TEXTS, PROBE]


def mapped_bytes(folder: Path) -> int:
    """Size of the store's arrays: what scoring may touch, without texts and probe."""
    return sum(file.stat().st_size for file in folder.glob("*.npy"))
