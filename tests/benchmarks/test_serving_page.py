"""The server's section on the page of results, from a results file alone."""

from __future__ import annotations

from pathlib import Path

import results_page
from pertinent.files import write_json
from serving_page import TITLE, serving_sections


def row(store: str, workers: int, **figures: float | None) -> dict[str, object]:
    made = {"machine": "A Processor", "date": "2026-03-04", "commit": "abc"}
    return {"system": "student", "store": store, "candidates": 500, "workers": workers, **made, **figures}


def test_sizes_are_calculated_from_the_row_with_most_workers(tmp_path: Path) -> None:
    rows = [
        row("mmap", 1, store_bytes_per_item=1024, capacity_rate=50.0, quiet_p50_ms=5.25),
        row("mmap", 2, store_bytes_per_item=1024, capacity_rate=80.0, quiet_store_p50_ms=None),
        row("redis", 1, store_bytes_per_item=2048, capacity_rate=40.0),
        row("redis", 2, store_bytes_per_item=2048, capacity_rate=None),
    ]
    write_json(tmp_path / "serving.json", {"rows": rows, "targets": []})
    page = results_page.page(tmp_path)
    assert f"## {TITLE}" in page
    assert "| student | mmap | 500 | 1 | - | 5.2 | - | - | 50.0 | - | - |" in page
    # 1e6 KiB are .95 GiB; 100/s at half of 80/s need 3 replicas, 10,000/s need 250.
    assert "| mmap | 1,024 | 1.0 | 9.5 | 95.4 | 2 | 3 | 25 | 250 |" in page
    # The row of two workers has no capacity: that of one stands for Redis. 100/s at 20/s.
    assert "| redis | 2,048 | 1.9 | 19.1 | 190.7 | 1 | 5 | 50 | 500 |" in page


def test_nothing_is_said_of_what_was_not_measured(tmp_path: Path) -> None:
    assert serving_sections(tmp_path) == []
    write_json(tmp_path / "serving.json", {"rows": [row("mmap", 2, capacity_rate=None)], "targets": []})
    assert "Sizing" not in results_page.page(tmp_path)
