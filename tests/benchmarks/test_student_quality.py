from __future__ import annotations

from typing import Any

import pytest

from student_quality import FLOORS, GROUPS, SEEDS, THRESHOLDS, Bench, targets

Rows = dict[str, dict[str, Any]]


def row(value: float, dev: float = 0.5) -> dict[str, Any]:
    return {f"auroc_{t}+": value for t in THRESHOLDS} | {"dev": {"auroc_2+": dev, "accuracy": 0.9}}


def test_the_rows_are_named_by_model_labels_and_seed() -> None:
    names = set(Bench(quick=True).rows())
    assert {
        "lightgbm/soft/2",
        "student/pool/0",
        "sentence-e5/pool/1",
        "without/vectors",
        "tower-minilm/pool/0",
        "teacher",
        "esci/lightgbm",
    } <= names
    assert len(names) == 5 + 1 + 2 * 3 * 3 + 2 * 3 + 1 + len(GROUPS) + 1 + 4


def test_what_is_kept_is_of_the_best_student_on_dev() -> None:
    rows: Rows = {"bm25": row(0.6), "teacher": row(0.8)}
    for seed in SEEDS:
        rows[f"student/pool/{seed}"] = row(0.78, dev=0.7)
        rows[f"sentence-e5/pool/{seed}"] = row(0.79, dev=0.6)  # better on test, which chooses nothing
    found = {target.name: target for target in targets(rows)}
    for threshold in THRESHOLDS:
        kept = found[f"best student, share kept of the teacher's gain over BM25, auroc_{threshold}+"]
        assert kept.measured == pytest.approx(0.9)
        assert not kept.met
        assert found[f"best student, auroc_{threshold}+"].aim == FLOORS[threshold]
        assert found[f"best student, auroc_{threshold}+"].measured == 0.78
    assert found["student/pool less lightgbm-pool, AUROC 3+ to 5+, lowest end of the intervals"].measured is None


def test_a_target_waits_for_every_seed_and_threshold() -> None:
    some: Rows = {"bm25": row(0.6), "teacher": row(0.8), "student/pool/0": row(0.7)}
    some["differences"] = {"lightgbm-human, 3+": {"interval": [0.01, 0.02]}}
    assert all(target.measured is None for target in targets(some))
    gaps = {f"lightgbm-human, {t}+": {"interval": [t / 100, 1]} for t in THRESHOLDS}
    (met,) = [target for target in targets({**some, "differences": gaps}) if "lightgbm-human" in target.name]
    assert (met.measured, met.met) == (0.03, True)
