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
from pertinent.teacher.config import TeacherConfig

Report = dict[str, dict[str, float | int | None]]  # "all" or a language -> figures
_Rows = NDArray[np.bool_]
_FEWEST_PAIRS = 50  # of a language: calibration measured on fewer says nothing


def calibration_report(dev: pl.DataFrame, before: NDArray[np.float64], after: NDArray[np.float64]) -> Report:
    """Dev figures, overall and for each language of 50 pairs or more.

    dev: grade and language of N pairs. before, after: (N, n) probabilities as the heads give them, and calibrated. Each
    value: n_pairs, accuracy, auroc_k+, log_loss, ece_before and ece_after calibration. Both are measured on the pairs that
    the calibration was fitted on: what is held out is in the evaluation.
    """
    languages = dev["language"].fill_null("und")
    parts: dict[str, _Rows] = {"all": np.ones(dev.height, dtype=bool)}
    parts |= {language: (languages == language).to_numpy() for language in languages.unique().sort()}
    report = {}
    for name, rows in parts.items():
        if name == "all" or (rows.sum() >= _FEWEST_PAIRS and not rows.all()):
            grades = dev["grade"].to_numpy()[rows]
            errors = {"ece_before": _ece(grades, before[rows]), "ece_after": _ece(grades, after[rows])}
            found = _figures(grades, after[rows]) | errors
            rounded = {key: None if value is None else round(value, 4) for key, value in found.items()}
            report[name] = {"n_pairs": int(rows.sum()), **rounded}
    return report


def _figures(grades: NDArray[np.int64], probs: NDArray[np.float64]) -> dict[str, float | None]:
    chances = at_least(probs)
    thresholds = {f"auroc_{k + 1}+": auroc(grades >= k, chances[:, k - 1]) for k in range(1, probs.shape[1])}
    return {"accuracy": accuracy(grades, most_likely(probs)), **thresholds, "log_loss": log_loss(grades, probs)}


def _ece(grades: NDArray[np.int64], probs: NDArray[np.float64]) -> float | None:
    predicted = most_likely(probs)
    return expected_calibration_error(predicted == grades, probs.max(axis=1))


def model_card(
    dataset: Dataset,
    config: TeacherConfig,
    backbone: str,
    n_train_rows: int,
    report: Report,
) -> str:
    """The card, as Markdown with a front matter of metadata."""
    lines = [
        *_about(dataset, config, backbone, n_train_rows, "with `AutoModelForSequenceClassification.from_pretrained`"),
        "On the dev split, which also chose the calibration (ECE before and after it):",
        "",
        *_table("language", report),
    ]
    return "\n".join(lines) + "\n"


def ensemble_card(
    dataset: Dataset, config: TeacherConfig, backbone: str, n_train_rows: int, report: Report, members: Report
) -> str:
    """The card of an ensemble. report: of the mean of the members' probabilities; members: each one's own figures."""
    folders = "each of its folders member-K with `AutoModelForSequenceClassification.from_pretrained`"
    lines = [
        *_about(dataset, config, backbone, n_train_rows, folders),
        f"An ensemble: the mean of the calibrated probabilities of {len(members)} models that differ in their seed. On the "
        "dev split, which also chose their calibrations (ECE before and after them):",
        "",
        *_table("language", report),
        "",
        "Each member alone on the same pairs:",
        "",
        *_table("member", members),
    ]
    return "\n".join(lines) + "\n"


def _about(dataset: Dataset, config: TeacherConfig, backbone: str, n_train_rows: int, plain: str) -> list[str]:
    origin = f"{dataset.name}: {dataset.note}" if dataset.note else dataset.name
    return [
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
        f"`import pertinent.teacher.cross_encoder`, {plain}.",
        "",
        "| grade | meaning |",
        "|---|---|",
        *[f"| {name} | {text} |" for name, text in zip(dataset.scale.shown, dataset.scale.guidelines, strict=True)],
        "",
    ]


def _table(first: str, report: Report) -> list[str]:
    columns = list(next(iter(report.values())))
    return [
        f"| {first} | {' | '.join(column.replace('_', ' ') for column in columns)} |",
        f"|---|{'---|' * len(columns)}",
        *[f"| {name} | {' | '.join(_cell(row[column]) for column in columns)} |" for name, row in report.items()],
    ]


def _cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
