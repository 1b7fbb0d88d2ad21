"""The student beside its teacher on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pertinent.report import write_report
from pertinent.report.faithfulness import fidelity_tables, gain_bins, important_features
from pertinent.report.numbers import decimals, signed


def document(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return found


def test_every_slice_has_a_line_with_its_numbers(run: Path) -> None:
    metrics = document(run)
    whole, *by_column = fidelity_tables(metrics)
    (name, pairs, cells) = whole.rows[0]
    found = metrics["fidelity"]
    assert (name, pairs) == ("All pairs", f"{found['n_pairs']:,}")
    assert cells[0].text == decimals(found["agreement"])
    assert cells[0].interval.startswith("[")
    assert cells[3].text == signed(found["bias"])
    assert [table.column for table in by_column] == ["human grade", "language", "query length in words"]
    assert [value for value, _, _ in by_column[0].rows] == ["L1", "L2", "L3", "L4", "L5"]
    assert by_column[1].rows[1][2][4].text == decimals(found["slices"]["language"]["en"]["reference_accuracy"])


def test_the_page_tells_fidelity_bins_and_features(run: Path, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Student against teacher" in page
    assert "Expected gain of the student against teacher and people" in page
    bins = gain_bins(document(run))
    assert bins is not None
    assert list(bins.student) == sorted(bins.student)
    assert f"student {decimals(bins.student[3])}, teacher {decimals(bins.teacher[3])}" in page
    assert important_features(
        [{"feature": "vectors", "auroc_drop": 0.12}, {"feature": "title.phrase", "auroc_drop": -0.01}]
    ) == [("vectors", ".120")]
    assert "title.bm25" in page
    assert "title.phrase" not in page


def test_without_a_measurement_nothing_is_claimed() -> None:
    assert fidelity_tables({}) == []
    assert gain_bins({"fidelity": {}}) is None
    assert gain_bins({"fidelity": {"bins": [{"system": 0.1, "reference": None, "human": 0.2}]}}) is None
    assert important_features([]) == []
