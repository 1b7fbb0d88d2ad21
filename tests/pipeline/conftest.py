from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

COLOURS = ("red", "blue", "green")
MATERIALS = ("oak", "velvet", "leather", "cotton")
THINGS = ("sofa", "chair", "table", "lamp", "rug", "dress", "coat", "shirt")


def write_small_dataset(folder: Path) -> None:
    """96 items and 168 queries whose grades follow from shared words: 0 another thing, 2 the thing, 4 with its colour."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [
        {"item_id": f"{colour}-{material}-{thing}", "title": f"{colour} {thing}", "description": f"{material} {thing}"}
        for colour in COLOURS
        for material in MATERIALS
        for thing in THINGS
    ]
    queries = [(f"{c} {t}", c, t) for c in COLOURS for t in THINGS]
    queries += [(f"{m} {t} modern", "", t) for m in MATERIALS for t in THINGS]
    queries = [
        (f"{query}{size}", colour, thing) for size in ("", " large", " small") for query, colour, thing in queries
    ]
    judgments = []
    for q, (query, colour, thing) in enumerate(queries):
        for k in range(8):
            item = items[(q * 11 + k * 13) % len(items)] if k % 2 else items[(q * 7 + k * 8 + THINGS.index(thing)) % 96]
            same = item["item_id"].endswith(thing)
            grade = (4 if colour and item["item_id"].startswith(colour) else 2) if same else 0
            judgments.append({"query": query, "item_id": item["item_id"], "grade": grade})
    for name, rows in (("items", items), ("judgments", judgments)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def small_config(folder: Path, backbone: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "output": str(folder / "runs"),
        "data": {"reader": "folder", "path": str(folder / "source"), "languages": ["en"], **sections.pop("data", {})},
        "text": {"fields": [{"name": "title", "tokens": 12}, {"name": "description", "tokens": 12}], "max_tokens": 32},
        "teacher": {
            "backbone": str(backbone),
            "max_tokens": 48,
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 0.003,
            "checkpoint_steps": 5,
            "precision": "float32",
        },
        "labels": {"pool_per_query": 4, "pool_depth": 20, "unit_pairs": 64},
        "student": {"epochs": 12, "patience": 12, "batch_size": 64, "dimensions": 8, "hidden": [32], "probe_pairs": 40},
        "evaluation": {"resamples": 50},
        **sections,
    }


@pytest.fixture
def settings(tmp_path: Path, tiny_backbone: Path) -> Callable[..., dict[str, Any]]:
    """Makes the settings of a small run; a section given by name replaces the small run's own."""
    return partial(small_config, tmp_path, tiny_backbone)


@pytest.fixture
def small_run(tmp_path: Path, tiny_backbone: Path) -> Path:
    """A config file of a run on the small data set with a tiny random teacher."""
    write_small_dataset(tmp_path / "source")
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(small_config(tmp_path, tiny_backbone)), encoding="utf-8")
    return file
