"""Reads what a run folder holds, whole or in part; what is missing comes back empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet
from pertinent.report.definitions import in_order

STAGES = ("data", "text", "teacher", "labels", "student", "evaluation")
FIELD_STAGES = ("captions", "boards", "mine", "links")  # between data and text, where the run has them
LINKED = (
    "evaluation/metrics.json",
    "evaluation/scores.parquet",
    "evaluation/reliability.json",
    "evaluation/confusion.json",
    "evaluation/label_scaling.json",
    "evaluation/suspects.csv",
    "labels/report.html",
    "data/items.parquet",
    "data/judgments.parquet",
    "data/quarantine.parquet",
    "data/dataset.json",
)
_PAIR_COLUMNS = {"query_id": pl.String, "query": pl.String, "item_id": pl.String, "grade": pl.Int64, "split": pl.String}


@dataclass(frozen=True)
class RunFiles:
    """What one run folder says.

    manifests: stage -> manifest.json, for the stages that are there, in their order. scores: the held-out judged
    pairs of the test split, with no row where there is no scores.parquet. histories: stage -> training records. importance:
    the student's features, those that matter most first.
    """

    name: str
    folder: Path
    manifests: Mapping[str, Mapping[str, Any]]
    dataset: Mapping[str, Any]
    metrics: Mapping[str, Any]
    reliability: Mapping[str, Any]
    confusion: Mapping[str, Any]
    label_scaling: Mapping[str, Any]
    histories: Mapping[str, list[Mapping[str, Any]]]
    scores: pl.DataFrame
    importance: list[Mapping[str, Any]]

    @property
    def n_grades(self) -> int:
        """Grades of the scale: what the evaluation says, else the data set, else the highest grade seen; at least 2."""
        stated = self.metrics.get("n_grades")
        if isinstance(stated, int) and stated >= 2:
            return stated
        guidelines = mapping(self.dataset.get("scale")).get("guidelines")
        if isinstance(guidelines, list) and len(guidelines) >= 2:
            return len(guidelines)
        highest = self.scores["grade"].max() if self.scores.height else None
        return max(int(highest) + 1 if isinstance(highest, int) else 2, 2)

    @property
    def scored_systems(self) -> list[str]:
        """Systems that the report knows or the evaluation measured, and that have a column of scores."""
        return [s for s in in_order(set(mapping(self.metrics.get("systems")))) if s in self.scores.columns]

    def probability_columns(self, system: str) -> list[str]:
        """The columns of the system's probabilities of the grades, lowest first; empty unless all are there."""
        columns = [f"{system}.p_{grade}" for grade in range(1, self.n_grades + 1)]
        return columns if set(columns) <= set(self.scores.columns) else []

    def titles(self, item_ids: Iterable[str]) -> dict[str, str]:
        """Titles of the given items, by id; an item without one, or without a catalogue, is left out."""
        path = self.folder / "data" / "items.parquet"
        if not path.is_file() or "title" not in pl.read_parquet_schema(path):
            return {}
        wanted = pl.col("item_id").is_in(sorted(set(item_ids)))
        rows = pl.scan_parquet(path).select("item_id", "title").filter(wanted).drop_nulls().collect()
        return dict(zip(rows["item_id"].to_list(), rows["title"].to_list(), strict=True))


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises DataError where the folder holds no stage at all, or a file that is there cannot be read as what it is.
    """
    if not any((folder / stage).is_dir() for stage in STAGES):
        raise DataError(f"{folder}: expected a run folder with one of {', '.join(STAGES)}, found none")
    evaluation = folder / "evaluation"
    return RunFiles(
        name=folder.resolve().name,
        folder=folder,
        manifests={
            s: _object(folder / s / "manifest.json")
            for s in (STAGES[0], *FIELD_STAGES, *STAGES[1:])
            if (folder / s / "manifest.json").is_file()
        },
        dataset=_object(folder / "data" / "dataset.json"),
        metrics=_object(evaluation / "metrics.json"),
        reliability=_object(evaluation / "reliability.json"),
        confusion=_object(evaluation / "confusion.json"),
        label_scaling=_object(evaluation / "label_scaling.json"),
        histories={s: _records(folder / s / "history.json") for s in ("teacher", "student")},
        scores=_test_pairs(evaluation / "scores.parquet"),
        importance=_records(folder / "student" / "importance.json"),
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one: for reading into a document that may be incomplete."""
    return value if isinstance(value, Mapping) else {}


def _object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(document).__name__}")
    return document


def _records(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    document = read_json(path)
    if not isinstance(document, list):
        raise DataError(f"{path}: expected a JSON list of records, found a {type(document).__name__}")
    return [record for record in document if isinstance(record, dict)]


def _test_pairs(path: Path) -> pl.DataFrame:
    if not path.is_file():
        return pl.DataFrame(schema=_PAIR_COLUMNS)
    frame = read_parquet(path)
    missing = [column for column in _PAIR_COLUMNS if column not in frame.columns]
    if missing:
        raise DataError(f"{path}: expected a column {missing[0]!r}, found {', '.join(frame.columns)}")
    if not frame.schema["grade"].is_integer():
        raise DataError(f"{path}: column grade: expected whole numbers, found {frame.schema['grade']}")
    return frame.with_columns(pl.col("grade").cast(pl.Int64)).filter(pl.col("split") == "test")
