from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from pertinent.data.build import Dataset
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.card import Report, calibration_report, model_card
from pertinent.teacher.config import TeacherConfig
from pertinent.types import Scale

CALIBRATION = Calibration("softmax", 2.0, (0.0, 0.0, 0.0))


def dev_of(languages: list[str | None], n_grades: int = 3, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Grades and the logits of a head twice too sure of itself."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(languages), n_grades)) * 2
    probs = np.exp(logits)
    probs /= probs.sum(axis=1, keepdims=True)
    grades = (probs.cumsum(axis=1) < rng.random((len(languages), 1))).sum(axis=1)
    return pl.DataFrame({"grade": grades, "language": languages}), (2 * logits).astype(np.float32)


def report_of(dev: pl.DataFrame, logits: np.ndarray[Any, Any], calibration: Calibration) -> Report:
    before = Calibration.none(calibration.kind, logits.shape[1])
    return calibration_report(dev, before.probabilities(logits), calibration.probabilities(logits))


def test_the_report_has_the_figures_of_all_pairs_and_of_each_language_of_fifty() -> None:
    dev, logits = dev_of(["en"] * 60 + ["de"] * 50 + ["ru"] * 49 + [None] * 51)
    report = report_of(dev, logits, CALIBRATION)
    assert list(report) == ["all", "de", "en", "und"]
    assert [row["n_pairs"] for row in report.values()] == [210, 50, 60, 51]
    grades = dev["grade"].to_numpy()
    probs = CALIBRATION.probabilities(logits)
    found = report["all"]
    assert found["accuracy"] == pytest.approx((probs.argmax(axis=1) == grades).mean(), abs=1e-4)
    assert found["log_loss"] == pytest.approx(-np.log(probs[np.arange(210), grades]).mean(), abs=1e-4)
    assert found["auroc_2+"] == pytest.approx(roc_auc_score(grades >= 1, 1 - probs[:, 0]), abs=1e-4)
    assert found["auroc_3+"] == pytest.approx(roc_auc_score(grades >= 2, probs[:, 2]), abs=1e-4)
    english = slice(0, 60)
    accuracy = (probs[english].argmax(axis=1) == grades[english]).mean()
    assert report["en"]["accuracy"] == pytest.approx(accuracy, abs=1e-4)


def test_the_calibration_errors_are_those_before_and_after() -> None:
    # Twice too sure: after the temperature of 2 that made up for it, the error falls to noise.
    dev, logits = dev_of(["en"] * 4_000)
    (row,) = report_of(dev, logits, CALIBRATION).values()
    assert row["ece_before"] > 0.1 > 0.03 > row["ece_after"]
    unchanged = report_of(dev, logits, Calibration.none("softmax", 3))["all"]
    assert unchanged["ece_before"] == unchanged["ece_after"] == row["ece_before"]


def test_a_threshold_that_dev_does_not_cross_has_no_figure() -> None:
    dev, logits = dev_of(["en"] * 40)
    report = report_of(dev.with_columns(grade=pl.col("grade").clip(0, 1)), logits, CALIBRATION)
    assert report["all"]["auroc_3+"] is None
    assert report["all"]["auroc_2+"] is not None


def test_the_card_says_what_a_stranger_needs() -> None:
    none = pl.DataFrame()
    scale = Scale(("bad", "fair", "good"))
    dataset = Dataset("shop", none, none, None, scale, (), ("en", "de"), False, "sofas only", "CC BY 4.0")
    dev, logits = dev_of(["en"] * 60 + ["de"] * 50)
    report = report_of(dev.with_columns(grade=pl.col("grade").clip(0, 1)), logits, CALIBRATION)
    card = model_card(dataset, TeacherConfig(head="corn", tuning="lora"), "some-model, weights 0123", 12_345, report)
    front, body = card.removeprefix("---\n").split("\n---\n")
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert body.startswith("# Relevance teacher for shop\n")
    for said in ("some-model, weights 0123", "12,345 human judgments of shop: sofas only", "CC BY 4.0", "Head: corn"):
        assert said in body
    assert "| L1 | bad |" in body
    rows = [line for line in body.splitlines() if line.startswith(("| language", "| all", "| de", "| en"))]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["language", "all", "de", "en"]
    figures = dict(zip(cells[0], cells[1], strict=True))
    assert figures["n pairs"] == "110"
    assert figures["accuracy"] == f"{report['all']['accuracy']:.3f}"
    assert figures["auroc 3+"] == "-"
    assert figures["ece after"] == f"{report['all']['ece_after']:.3f}"


def test_a_data_set_without_a_licence_or_note_says_so() -> None:
    none = pl.DataFrame()
    dataset = Dataset("shop", none, none, None, Scale(("bad", "good")), (), (), False, "", "")
    dev, logits = dev_of(["en"] * 40, n_grades=2)
    calibration = Calibration.none("softmax", 2)
    card = model_card(dataset, TeacherConfig(), "m", 7, report_of(dev, logits, calibration))
    assert "Licence of the data: not stated" in card
    assert "7 human judgments of shop\n" in card
