"""The model card of a teacher: what it read, how well it does on dev, how far its probabilities can be trusted."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.build import Dataset
from pertinent.evaluation.classification import (
    accuracy,
    at_least,
    auroc,
    expected_calibration_error,
    log_loss,
    most_likely,
)
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.config import TeacherConfig

_FEWEST_PAIRS = 50  # of a language: calibration measured on fewer says nothing


def calibration_report(
    dev: pl.DataFrame, logits: NDArray[np.float32], calibration: Calibration, n_grades: int
) -> dict[str, dict[str, float | int | None]]:
    """Dev figures, overall and for each language of 50 pairs or more.

    dev: grade and language of N pairs. logits: (N, n or n - 1). Each value: n_pairs, accuracy, auroc_k+, log_loss,
    ece_before (the head's own probabilities) and ece_after calibration. Both are measured on the pairs that the
    calibration was fitted on: what is held out is in the evaluation.
    """
    raw = Calibration.none(calibration.kind, n_grades)
    languages = dev["language"].fill_null("und")
    parts = {"all": np.ones(dev.height, dtype=bool)}
    parts |= {language: (languages == language).to_numpy() for language in languages.unique().sort()}
    report = {}
    for name, rows in parts.items():
        if name == "all" or (rows.sum() >= _FEWEST_PAIRS and not rows.all()):
            grades = dev["grade"].to_numpy()[rows]
            report[name] = _figures(
                grades, raw.probabilities(logits[rows]), calibration.probabilities(logits[rows]), n_grades
            )
    return report


def _figures(
    grades: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64], n_grades: int
) -> dict[str, float | int | None]:
    predicted, chances = most_likely(after), at_least(after)
    thresholds = {f"auroc_{k + 1}+": auroc(grades >= k, chances[:, k - 1]) for k in range(1, n_grades)}
    found = {
        "accuracy": accuracy(grades, predicted),
        **thresholds,
        "log_loss": log_loss(grades, after),
        "ece_before": _ece(grades, before),
        "ece_after": _ece(grades, after),
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in found.items()}
    return {"n_pairs": int(grades.size), **rounded}


def _ece(grades: NDArray[np.int64], probs: NDArray[np.float64]) -> float | None:
    predicted = most_likely(probs)
    return expected_calibration_error(predicted == grades, probs.max(axis=1))


def model_card(
    dataset: Dataset,
    config: TeacherConfig,
    backbone: str,
    n_train_rows: int,
    report: dict[str, dict[str, float | int | None]],
) -> str:
    """The card, as Markdown with a front matter of metadata."""
    columns = list(report["all"])
    origin = f"{dataset.name}: {dataset.note}" if dataset.note else dataset.name
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "tags: [relevance, cross-encoder, search, pertinent]",
        "---",
        f"# Relevance teacher for {dataset.name}",
        "",
        "A cross-encoder that reads a query and an item's text and gives the probability of each relevance grade.",
        "",
        f"- Began as: {backbone}",
        f"- Trained on: {n_train_rows:,} human judgments of {origin}",
        f"- Head: {config.head}; target: {config.target}; tuning: {config.tuning}",
        f"- Licence of the data: {dataset.licence or 'not stated'}",
        "- Open it with `pertinent.teacher.saving.load_teacher`, which checks its stored probe, or, after "
        "`import pertinent.teacher.cross_encoder`, with `AutoModelForSequenceClassification.from_pretrained`.",
        "",
        "| grade | meaning |",
        "|---|---|",
        *[f"| {name} | {text} |" for name, text in zip(dataset.scale.shown, dataset.scale.guidelines, strict=True)],
        "",
        "On the dev split, which also chose the calibration (ECE before and after it):",
        "",
        f"| language | {' | '.join(column.replace('_', ' ') for column in columns)} |",
        f"|---|{'---|' * len(columns)}",
        *[f"| {name} | {' | '.join(_cell(row[column]) for column in columns)} |" for name, row in report.items()],
    ]
    return "\n".join(lines) + "\n"


def _cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
