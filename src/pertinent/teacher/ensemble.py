"""An ensemble as it is told: dev figures of the mean of its members' probabilities, beside their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pertinent.data.build import load_dataset
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.progress import progress
from pertinent.teacher.card import calibration_report, ensemble_card
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.rows import dev_judgments
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts

_ALIKE = ("train_rows", "train_queries", "dev_rows", "dev_rows_cut", "backbone", "precision")
_SUMMED = ("n_parameters", "n_trained_parameters")


def describe_ensemble(
    folder: Path, config: TeacherConfig, data: Path, text: Path, members: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Score dev with the ensemble in ``folder`` and write its model card; returns the counts of its manifest.

    data, text: folders of those stages. members: seed -> the counts of each member, in the order of their folders.
    The counts: dev_loss, dev_auroc and calibration_error of the mean of the members' probabilities; sizes of all
    members together; and under "members" the seed, dev_loss and dev_auroc of each.
    """
    dataset = load_dataset(data)
    dev = dev_judgments(dataset.judgments)
    texts = ItemTexts.read(text).of_pairs(dev)
    teacher, queries = load_teacher(folder), dev["query"].to_list()
    with progress("teacher: dev", 2 * dev.height, "pairs") as bar:
        probs, raw = (
            model.score(queries, texts, bar).astype(np.float64) for model in (teacher, teacher.uncalibrated())
        )
    grades = dev["grade"].to_numpy()
    report = calibration_report(dev, raw, probs)
    alone = {
        f"{k} (seed {seed})": counts["calibration_error"]["all"] for k, (seed, counts) in enumerate(members.items())
    }
    first = next(iter(members.values()))
    card = ensemble_card(dataset, config, str(first["backbone"]), int(first["train_rows"]), report, alone)
    (folder / "README.md").write_text(card, encoding="utf-8")
    judged = {"dev_loss": log_loss(grades, probs), "dev_auroc": mean_auroc(grades, probs)}
    return {
        **{key: first[key] for key in _ALIKE},
        **{key: sum(counts[key] for counts in members.values()) for key in _SUMMED},
        **judged,
        "calibration_error": report,
        "members": [{"seed": seed, **{key: counts[key] for key in judged}} for seed, counts in members.items()],
    }
