"""The configuration of the data stage: where the files lie, what their columns mean, how grades map to the scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pertinent.config import Config
from pertinent.data.splits import N_FOLDS, SplitConfig
from pertinent.data.values import written_forms
from pertinent.errors import ConfigError
from pertinent.types import Scale

GradeValue = bool | int | float | str


class TableConfig(Config):
    """How to read one table of a dataset folder."""

    file: str | None = Field(
        default=None, description="file name relative to `path`; default: items|judgments|log.parquet, ..."
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our column name -> the file's column name")
    delimiter: str | None = Field(default=None, description="CSV field delimiter; default: sniffed among , ; tab |")
    encoding: str = Field(default="utf-8", description="text encoding of CSV and JSONL (a byte order mark is allowed)")
    list_separator: str = Field(
        default="|", min_length=1, description="between the elements of a list in one CSV field"
    )

    @model_validator(mode="after")
    def _check_reading(self) -> TableConfig:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter: expected one character, found {self.delimiter!r}")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding: expected an encoding such as utf-8 or cp1252, found {self.encoding!r}"
            ) from None
        return self


class JudgmentsConfig(TableConfig):
    """How to read the judgments."""

    grades: list[GradeValue] | None = Field(
        default=None, description="the file's own grade values from worst to best; default 0..n-1"
    )

    @model_validator(mode="after")
    def _check_grades(self) -> JudgmentsConfig:
        if self.grades is not None:
            if len(self.grades) < 2:
                raise ValueError(f"grades: expected at least 2 values, found {len(self.grades)}")
            require_distinct(self.grades)
        return self


class EsciConfig(Config):
    """Which part of the official ESCI release to read."""

    locale: Literal["us", "es", "jp"] = Field(default="us", description="marketplace; us is the only one in English")
    small_version: bool = Field(
        default=False, description="only the reduced set of harder queries (ranking task of the paper)"
    )
    fold: int = Field(
        default=0, ge=0, lt=N_FOLDS, description="of the five folds by query, the one kept for test (small set only)"
    )


class CxcConfig(Config):
    """Which part of Crisscrossed Captions to read, and what an image's text is."""

    sampling: Literal["c2i_intrasim", "c2i_original"] = Field(
        default="c2i_intrasim", description="a caption with a similar image, or with its own, which says little"
    )
    captions: int = Field(default=4, ge=1, le=5, description="captions of an image in its text, the first ones")
    split: SplitConfig = Field(
        default=SplitConfig(test=0.3, dev=0.15),
        description="shares of the images; larger than elsewhere, for a pair needs both its images on one side",
    )


class PinboardConfig(Config):
    """The generated catalogue."""

    seed: int = Field(default=0, ge=0, description="the frozen version of Pinboard is seed 0")
    size: Literal["default", "tiny"] = Field(default="default", description="tiny is for tests: 150 items")


class DetectConfig(Config):
    """Detection of languages that the files do not give."""

    min_confidence: float = Field(
        default=0.55,
        ge=0.0,
        le=1.0,
        description="a less sure answer is und; chosen on half of the texts of benchmarks/languages.py, for 95% right answers "
        "in each set",
    )


class DataConfig(Config):
    """What the data stage reads and how it splits it."""

    reader: Literal["folder", "homedepot", "esci", "cxc", "msrd", "wands", "pinboard"] = Field(
        default="folder", description="what lies at `path`"
    )
    path: Path | None = Field(default=None, description="source folder; Pinboard needs none")
    name: str | None = Field(
        default=None, description="name of the data set; default: dataset.yaml's, else the folder's"
    )
    items: TableConfig = TableConfig()
    judgments: JudgmentsConfig = JudgmentsConfig()
    log: TableConfig | None = Field(default=None, description="default: the log file of the folder if there is one")
    attributes: list[str] = Field(default_factory=list, description="extra item columns to keep: text or lists of text")
    guidelines: list[str] | None = Field(
        default=None, description="the scale: one sentence a grade, lowest grade first"
    )
    languages: list[str] | None = Field(
        default=None, description="ISO 639-1 codes; a single one also fills rows without a language"
    )
    detect: DetectConfig | None = Field(
        default=None, description="{}: detect the language of queries and items that come without one; off by default"
    )
    split: SplitConfig = SplitConfig()
    max_quarantined: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="share of a table's rows that may break the contract before the stage stops",
    )
    esci: EsciConfig = EsciConfig()
    cxc: CxcConfig = CxcConfig()
    pinboard: PinboardConfig = PinboardConfig()

    @model_validator(mode="after")
    def _check_source(self) -> DataConfig:
        if self.path is None and self.reader != "pinboard":
            raise ValueError(f"path: missing; the {self.reader} reader needs the folder of the data set")
        for name in ("items", "judgments", "log", "attributes") if self.reader != "folder" else ():
            # Compared with the default: a resolved config that is read again has every key.
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name}: only the folder reader has it, found with reader: {self.reader}")
        grades, guidelines = self.judgments.grades, self.guidelines
        if guidelines is not None and len(guidelines) < 2:
            raise ValueError(f"guidelines: expected at least 2 sentences, found {len(guidelines)}")
        if grades is not None and guidelines is not None and len(grades) != len(guidelines):
            raise ValueError(f"guidelines: expected one for each of the {len(grades)} grades, found {len(guidelines)}")
        return self


def require_distinct(grades: Sequence[GradeValue]) -> None:
    """Raise ValueError if a file could write two of the grades alike, as it could 1 and 1.0."""
    forms = [form for grade in grades for form in written_forms(grade)]
    if len(set(forms)) < len(forms):
        raise ValueError(f"grades: expected different values, found {list(grades)}")


def resolve_scale(
    grades: list[Any] | None, guidelines: list[str] | None, default: Scale | None, default_grades: list[Any] | None
) -> tuple[Scale, tuple[Any, ...]]:
    """The scale and the file's grade values, lowest first, from the config and dataset.yaml (the defaults).

    Raises ConfigError if the two do not have the same number of grades.
    """
    if guidelines is not None:
        scale = Scale(tuple(guidelines))
    elif default is not None and (grades is None or len(grades) == default.n_grades):
        scale = default
    elif grades is not None:
        scale = Scale.of_size(len(grades))
    else:
        scale = Scale()
    told = grades if grades is not None else default_grades
    values = tuple(range(scale.n_grades)) if told is None else tuple(told)
    if len(values) != scale.n_grades:
        raise ConfigError(f"data.guidelines: expected one for each of the {len(values)} grades, found {scale.n_grades}")
    return scale, values
