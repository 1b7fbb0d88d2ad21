"""The features of a bundle that come from tables: sides.json names them, sides.npz holds their served arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pertinent.errors import ModelError
from pertinent.features.declare import FeatureSpec
from pertinent.features.side import SIDES, Side, kind_of
from pertinent.files import read_json, write_json

SIDES_FILE, ARRAYS_FILE = "sides.json", "sides.npz"


def write_sides(folder: Path, sides: Sequence[Side]) -> None:
    """Write both files; empty ones where there is no side."""
    entries = [{"kind": kind_of(side), "specs": [asdict(spec) for spec in side.specs]} for side in sides]
    write_json(folder / SIDES_FILE, entries)
    arrays = {f"{i}.{name}": array for i, side in enumerate(sides) for name, array in side.to_arrays().items()}
    np.savez(folder / ARRAYS_FILE, allow_pickle=False, **arrays)


def read_sides(folder: Path) -> tuple[Side, ...]:
    """Read both. Raises ModelError for a kind that this version does not know."""
    entries: list[dict[str, Any]] = read_json(folder / SIDES_FILE)
    sides: list[Side] = []
    with np.load(folder / ARRAYS_FILE, allow_pickle=False) as stored:
        for i, entry in enumerate(entries):
            if entry["kind"] not in SIDES:
                known = ", ".join(SIDES)
                raise ModelError(f"{folder / SIDES_FILE}: expected one of {known}, found {entry['kind']}")
            prefix = f"{i}."
            arrays = {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}
            specs = tuple(FeatureSpec(**spec) for spec in entry["specs"])
            sides.append(SIDES[entry["kind"]].from_arrays(specs, arrays))
    return tuple(sides)
