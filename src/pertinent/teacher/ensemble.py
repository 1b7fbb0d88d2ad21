"""An ensemble as it is told: dev figures of the mean of its members' probabilities, beside their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pertinent.data.build import load_dataset
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.progress import progress
from pertinent.teacher.card import ensemble_card, ensemble_report
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
    n_grades = dataset.scale.n_grades
    dev = dev_judgments(dataset.judgments)
    texts = ItemTexts.read(text).of_pairs(dev)
    with progress("teacher: dev", dev.height, "pairs") as bar:
        probs = load_teacher(folder).score(dev["query"].to_list(), texts, bar)
    grades = dev["grade"].to_numpy()
    report = ensemble_report(dev, probs, n_grades)
    alone = {f"{k} (seed {seed})": _alone(counts) for k, (seed, counts) in enumerate(members.items())}
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


def _alone(counts: Mapping[str, Any]) -> dict[str, float | int | None]:
    """A member's figures of all pairs, under the ensemble's names."""
    figures = {key: value for key, value in counts["calibration_error"]["all"].items() if key != "ece_before"}
    return {"ece" if key == "ece_after" else key: value for key, value in figures.items()}
