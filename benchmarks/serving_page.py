"""The server's section on the page of results: what was measured, and sizing calculated from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from page_tables import table, target_lines
from pertinent.files import read_json

TITLE = "The server"
SIZES = (1_000_000, 10_000_000, 100_000_000)
RATES = (100, 1_000, 10_000)  # requests of SIZED_AT candidates a second
SIZED_AT = 500
_HEADROOM = 0.5  # of the measured capacity that a replica is planned to carry: one of two may fail


def serving_sections(results: Path) -> list[str]:
    """The section, or nothing where serving.json is not there."""
    file = results / "serving.json"
    if not file.is_file():
        return []
    document = read_json(file)
    rows = document["rows"]
    made = rows[-1]
    origin = f"`benchmarks/serving.py`, {made['machine']}; {made['date']}; commit {made['commit']}."
    return [f"## {TITLE}", origin, _measured(rows), *_sizing(rows), target_lines(document["targets"])]


def _measured(rows: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "scored by",
        "items in",
        "candidates",
        "workers",
        "in process, p50 ms",
        "over HTTP, p50 ms",
        "of it the store",
        "p99 ms",
    ]
    head += ["requests/s at p99 <= 25 ms", "p99 ms at twice that", "503, p95 ms"]
    keys = ("in_process_p50_ms", "quiet_p50_ms", "quiet_store_p50_ms", "quiet_p99_ms", "capacity_rate")
    keys = (*keys, "twice_p99_ms", "twice_shed_p95_ms")
    cells = [
        [
            str(row["system"]),
            str(row["store"]),
            f"{row['candidates']:,}",
            str(row["workers"]),
            *(_number(row.get(key)) for key in keys),
        ]
        for row in rows
    ]
    return table(head, cells)


def _sizing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bytes and replicas by calculation; for each store, from its row of SIZED_AT candidates with most workers."""
    found = []
    rows = [row for row in rows if row["system"] == "student"]
    for store in dict.fromkeys(str(row["store"]) for row in rows):
        fitting = [row for row in rows if row["store"] == store and row["candidates"] == SIZED_AT]
        measured = [row for row in fitting if row.get("capacity_rate")]
        if not measured:
            continue
        best = max(measured, key=lambda row: int(row["workers"]))
        found.append((store, best))
    if not found:
        return []
    head = ["items in", "bytes an item", *(f"{size // 1_000_000}M items, GiB" for size in SIZES)]
    head += ["workers a replica", *(f"replicas for {rate:,}/s" for rate in RATES)]
    cells = [
        [
            store,
            f"{row['store_bytes_per_item']:,.0f}",
            *(f"{size * row['store_bytes_per_item'] / 2**30:,.1f}" for size in SIZES),
            str(row["workers"]),
            *(f"{math.ceil(rate / (row['capacity_rate'] * _HEADROOM)):,}" for rate in RATES),
        ]
        for store, row in found
    ]
    said = (
        f"Sizing, by calculation and not measured: bytes an item times items (on each machine for mmap, in the one Redis for "
        f"redis), and replicas at {_HEADROOM:.0%} of the measured rate of {SIZED_AT} candidates. Bytes an item are of a catalogue with texts as long as the measured one's."
    )
    return [said, table(head, cells)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
