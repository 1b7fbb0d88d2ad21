"""The reader of a dataset folder: items, judgments, log and dataset.yaml, in any column names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from pertinent.config import Config, load_config
from pertinent.data.config import DataConfig, GradeValue, TableConfig, require_distinct, resolve_scale
from pertinent.data.source import Source, Table, nearest, require_columns
from pertinent.data.splits import SplitBy
from pertinent.data.tables import SUFFIXES, RawTable, read_table
from pertinent.errors import ConfigError, DataError
from pertinent.types import Scale

ITEM_TEXTS = ("title", "description", "link_title", "link_description", "image", "language")
ITEM_COLUMNS = ("item_id", *ITEM_TEXTS, "captions", "boards", "engaged_queries", "numeric", "embedding")
JUDGMENT_COLUMNS = (
    "query",
    "item_id",
    "grade",
    "query_id",
    "language",
    "rater_id",
    "grade_mean",
    "n_ratings",
    "split",
)
LOG_COLUMNS = (
    "timestamp",
    "query",
    "item_id",
    "position",
    "action",
    "query_id",
    "search_id",
    "user",
    "session",
    "dwell_s",
    "language",
    "country",
)


class GradeDescription(Config):
    """One grade of dataset.yaml: ``name`` as the judgments write it, and what it means."""

    name: GradeValue
    guideline: str


class ScaleDescription(Config):
    """The scale of dataset.yaml: one sentence a grade, lowest grade first; the judgments write 0..n-1."""

    guidelines: list[str] = Field(min_length=2)


class DatasetDescription(Config):
    """What dataset.yaml may say."""

    name: str | None = None
    generated: bool = False
    note: str = ""
    licence: str = ""
    languages: list[str] = Field(default_factory=list)
    attributes: list[str] = Field(default_factory=list)
    split_by: SplitBy = "text"
    scale: ScaleDescription | None = None
    grades: list[GradeDescription] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _one_scale(self) -> DatasetDescription:
        if self.scale is not None and self.grades is not None:
            raise ValueError("scale: expected either scale.guidelines or grades, found both")
        require_distinct([grade.name for grade in self.grades or []])
        return self

    def known_scale(self) -> tuple[Scale | None, list[Any] | None]:
        """The scale told here, if any, and the grade values of the file, if told."""
        if self.grades is not None:
            return Scale(tuple(grade.guideline for grade in self.grades)), [grade.name for grade in self.grades]
        return (Scale(tuple(self.scale.guidelines)) if self.scale else None), None


def read_folder(folder: Path, config: DataConfig) -> Source:
    """Read a dataset folder with the column maps of ``config``; every row is kept or listed as broken.

    Raises DataError for a missing file or column; ConfigError for a column map that names nothing known.
    """
    about = read_description(folder)
    attributes = tuple(dict.fromkeys([*about.attributes, *config.attributes]))
    grades_given = config.judgments.grades
    scale, grades = resolve_scale(grades_given, config.guidelines, *about.known_scale())
    log = None
    if config.log is not None or _find(folder, "log"):
        log = _table(folder, "log", config.log or TableConfig(), LOG_COLUMNS, ("query", "item_id", "action"))
    return Source(
        name=about.name or folder.resolve().name,
        items=_table(folder, "items", config.items, ITEM_COLUMNS, ("item_id",), attributes),
        judgments=_table(folder, "judgments", config.judgments, JUDGMENT_COLUMNS, ("query", "item_id", "grade")),
        log=log,
        scale=scale,
        grades=grades,
        attributes=attributes,
        languages=tuple(about.languages),
        licence=about.licence,
        note=about.note,
        generated=about.generated,
        split_by=about.split_by,
    )


def read_description(folder: Path) -> DatasetDescription:
    """dataset.yaml of a dataset folder, or an empty description where there is none.

    Raises DataError: a wrong key in the data is not the config's fault.
    """
    path = folder / "dataset.yaml"
    if not path.exists():
        return DatasetDescription()
    try:
        return load_config(DatasetDescription, path)
    except ConfigError as error:
        raise DataError(str(error)) from None


def write_description(folder: Path, about: DatasetDescription) -> None:
    """Write dataset.yaml, leaving out what is not said."""
    tree = about.model_dump(exclude_none=True, exclude_defaults=True)
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, width=120)
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")


def _find(folder: Path, stem: str) -> list[Path]:
    names = [f"{stem}{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")]
    return [folder / name for name in names if (folder / name).is_file()]


def _locate(folder: Path, stem: str, config: TableConfig) -> Path:
    if config.file is not None:
        return folder / config.file
    found = _find(folder, stem)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder}: expected one {stem} file, found {names}; name it in the config: data.{stem}.file")
    if not found:
        raise DataError(
            f"{folder}: no such file: expected {stem}.parquet, {stem}.jsonl or {stem}.csv (or data.{stem}.file)"
        )
    return found[0]


def _table(
    folder: Path,
    stem: str,
    config: TableConfig,
    known: tuple[str, ...],
    required: tuple[str, ...],
    attributes: tuple[str, ...] = (),
) -> Table:
    raw = read_table(_locate(folder, stem, config), config.delimiter, config.encoding)
    columns = _column_map(raw, stem, config, known, attributes)
    require_columns(raw.file, columns, (*required, *attributes), raw.rows.columns, stem)
    return Table(raw.file, raw.lines, raw.rows, columns, raw.broken, config.list_separator)


def _column_map(
    raw: RawTable, stem: str, config: TableConfig, known: tuple[str, ...], attributes: tuple[str, ...]
) -> dict[str, str]:
    """Our name -> the file's, for each column that is mapped or already has one of our names."""
    present = raw.rows.columns
    for ours, theirs in config.columns.items():
        if ours not in known and ours not in attributes and not _is_numeric(stem, ours):
            near = difflib.get_close_matches(ours, [*known, *attributes], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join((*known, *attributes))}"
            raise ConfigError(f"data.{stem}.columns: unknown name {ours}; {hint}")
        if theirs not in present:
            near_present = nearest(theirs, present)
            raise DataError(
                f"{raw.file}: missing column {theirs!r} (mapped to {ours}); nearest present column: {near_present!r}"
            )
    taken = set(config.columns.values())
    own = [
        name
        for name in present
        if name not in taken and (name in known or name in attributes or _is_numeric(stem, name))
    ]
    return {**{name: name for name in own}, **config.columns}


def _is_numeric(stem: str, name: str) -> bool:
    return stem == "items" and name.startswith("numeric.") and len(name) > len("numeric.")
