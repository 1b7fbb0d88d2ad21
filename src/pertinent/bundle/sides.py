"""The features of a store that come from tables: sides.json names them, sides.K.NAME.npy hold their served arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pertinent.bundle.arrays import read_array, write_arrays
from pertinent.errors import ModelError
from pertinent.features.declare import FeatureSpec
from pertinent.features.side import SIDES, Side, kind_of
from pertinent.files import read_json, write_json

SIDES_FILE = "sides.json"


def write_sides(folder: Path, sides: Sequence[Side]) -> None:
    """Write sides.json, an empty list where there is no side, and the arrays of each."""
    entries = []
    for k, side in enumerate(sides):
        arrays = side.to_arrays()
        entries.append({"kind": kind_of(side), "specs": [asdict(spec) for spec in side.specs], "arrays": list(arrays)})
        write_arrays(folder, {f"sides.{k}.{name}": array for name, array in arrays.items()})
    write_json(folder / SIDES_FILE, entries)


def read_sides(folder: Path) -> tuple[Side, ...]:
    """Read them. Raises ModelError for a kind that this version does not know."""
    entries: list[dict[str, Any]] = read_json(folder / SIDES_FILE)
    sides: list[Side] = []
    for k, entry in enumerate(entries):
        if entry["kind"] not in SIDES:
            known = ", ".join(SIDES)
            raise ModelError(f"{folder / SIDES_FILE}: expected one of {known}, found {entry['kind']}")
        arrays = {name: read_array(folder / f"sides.{k}.{name}.npy") for name in entry["arrays"]}
        specs = tuple(FeatureSpec(**spec) for spec in entry["specs"])
        sides.append(SIDES[entry["kind"]].from_arrays(specs, arrays))
    return tuple(sides)
