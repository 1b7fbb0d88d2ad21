"""Features from tables: sides/ holds what was learned once, the item store what each has of an item.

sides/sides.json names them, sides/K.NAME.npy are the learned arrays of side K, STORE/sides.K.NAME.npy those of the items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pertinent.bundle.arrays import read_array, write_arrays
from pertinent.errors import ModelError
from pertinent.features.declare import FeatureSpec
from pertinent.features.side import OF_ITEMS, SIDES, Side, kind_of
from pertinent.files import read_json, write_json

SIDES_FOLDER, SIDES_FILE = "sides", "sides.json"


def write_sides(folder: Path, sides: Sequence[Side]) -> None:
    """Write sides/ into a bundle; sides.json is an empty list where there is no side."""
    (folder / SIDES_FOLDER).mkdir(exist_ok=True)
    entries = []
    for k, side in enumerate(sides):
        arrays = side.to_arrays()
        entries.append({"kind": kind_of(side), "specs": [asdict(spec) for spec in side.specs], "arrays": list(arrays)})
        learned = {f"{k}.{name}": array for name, array in arrays.items() if name not in OF_ITEMS}
        write_arrays(folder / SIDES_FOLDER, learned)
    write_json(folder / SIDES_FOLDER / SIDES_FILE, entries)


def write_side_items(store: Path, sides: Sequence[Side]) -> None:
    """Write into an item store what the sides have of its items."""
    for k, side in enumerate(sides):
        arrays = {f"sides.{k}.{name}": array for name, array in side.to_arrays().items() if name in OF_ITEMS}
        write_arrays(store, arrays)


def read_sides(folder: Path, store: str) -> tuple[Side, ...]:
    """Read both. Raises ModelError for a kind that this version does not know."""
    file = folder / SIDES_FOLDER / SIDES_FILE
    entries: list[dict[str, Any]] = read_json(file)
    sides: list[Side] = []
    for k, entry in enumerate(entries):
        if entry["kind"] not in SIDES:
            raise ModelError(f"{file}: expected one of {', '.join(SIDES)}, found {entry['kind']}")
        places = {
            name: folder / store / f"sides.{k}.{name}.npy"
            if name in OF_ITEMS
            else folder / SIDES_FOLDER / f"{k}.{name}.npy"
            for name in entry["arrays"]
        }
        specs = tuple(FeatureSpec(**spec) for spec in entry["specs"])
        sides.append(SIDES[entry["kind"]].from_arrays(specs, {name: read_array(p) for name, p in places.items()}))
    return tuple(sides)
