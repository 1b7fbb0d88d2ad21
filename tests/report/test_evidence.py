"""The report's differences with their tests, and the human ceiling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pertinent.report import write_report
from pertinent.report.evidence import agreement_of, difference_rows, p_text
from pertinent.report.numbers import decimals, signed


def document(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return found


def test_every_difference_is_shown_with_its_test(run: Path) -> None:
    metrics = document(run)
    rows = difference_rows(metrics, 5)
    assert [(row.baseline, row.metric.key) for row in rows[:3]] == [
        ("bm25", "auroc_2+"), ("bm25", "auroc_3+"), ("bm25", "auroc_4+"),
    ]  # fmt: skip
    assert len(rows) == 2 * 7
    for row in rows:
        found = metrics["differences"]["student"][row.baseline][row.metric.key]
        assert row.difference.text == signed(found["difference"])
        assert row.p_value.text == p_text(found["p_adjusted"])
        assert row.detectable.text == decimals(found["detectable"])
        assert found["p_adjusted"] >= found["p_value"]


def test_the_human_ceiling_stands_first_on_the_page(run: Path, tmp_path: Path) -> None:
    found = agreement_of(document(run))
    assert found is not None
    assert [name for name, _ in found.rows][:3] == ["Another rating", "Random", "Majority"]
    assert [level for level, _ in found.alpha] == ["nominal", "ordinal", "interval"]
    page = write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Another rating of the same pair is the human ceiling" in page
    assert "corrected by Holm over systems and slices" in page
    assert "too small: " in page  # the Japanese slice says why it has no interval


def test_without_ratings_or_differences_nothing_is_claimed() -> None:
    assert agreement_of({"raters": None}) is None
    assert agreement_of({}) is None
    assert difference_rows({}, 5) == []
    undefined = {"differences": {"student": {"bm25": {"auroc_4+": {"difference": None, "interval": None}}}}}
    (row,) = difference_rows(undefined, 5)
    assert (row.difference.gap, row.p_value.gap) == ("AUROC 4+ is not defined for both", "no test was made")


def test_p_values_are_never_printed_as_0() -> None:
    assert [p_text(p) for p in (0.0, 0.0009, 0.001, 0.0314, 1.0)] == ["< .001", "< .001", ".001", ".031", "1.000"]
