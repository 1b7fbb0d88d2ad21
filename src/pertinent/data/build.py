"""The data stage: a source -> the canonical dataset folder, and its reading by later stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.check import Checked, clean_source, counts_of, problems_of, read_source, warnings_of
from pertinent.data.config import DataConfig
from pertinent.data.languages import detect_languages
from pertinent.data.sieve import reasons_of
from pertinent.data.splits import SplitConfig, SplitRule
from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet, write_json, write_parquet
from pertinent.types import Scale, StageResult


@dataclass(frozen=True)
class Dataset:
    """A canonical dataset. log: lazy, for it may be larger than memory; None where the data set has none.

    split_rule: None in a folder that was built before it was written down.
    """

    name: str
    items: pl.DataFrame
    judgments: pl.DataFrame
    log: pl.LazyFrame | None
    scale: Scale
    attributes: tuple[str, ...]
    languages: tuple[str, ...]
    generated: bool
    note: str
    licence: str
    split_rule: SplitRule | None = None


def build_dataset(config: DataConfig, out: Path) -> StageResult:
    """Read, check and split the source of ``config``, and write the canonical dataset folder ``out``.

    out: an existing folder; what it holds of an earlier build is replaced.
    Raises DataError in one line when the source breaks the contract beyond ``max_quarantined``.
    """
    checked = clean_source(read_source(config, out / "source"), config)
    for problem in problems_of(checked, config):
        raise DataError(problem)
    if config.detect is not None:
        checked = detect_languages(checked, config.detect)
    write_parquet(out / "items.parquet", checked.items)
    write_parquet(out / "judgments.parquet", checked.judgments)
    write_parquet(out / "quarantine.parquet", checked.quarantined)
    if checked.log is None:
        (out / "log.parquet").unlink(missing_ok=True)
    else:
        write_parquet(out / "log.parquet", checked.log)
    write_json(out / "dataset.json", _describe(checked, config.split))
    return StageResult(counts_of(checked), reasons_of(checked.quarantined), warnings_of(checked))


def load_dataset(folder: Path) -> Dataset:
    """Open a canonical dataset folder. Raises DataError if a file is missing or damaged."""
    about = read_json(folder / "dataset.json")
    log = folder / "log.parquet"
    try:
        return Dataset(
            name=about["name"],
            items=read_parquet(folder / "items.parquet"),
            judgments=read_parquet(folder / "judgments.parquet"),
            log=pl.scan_parquet(log) if log.exists() else None,
            scale=_scale_of(about),
            attributes=tuple(about["attributes"]),
            languages=tuple(about["languages"]),
            generated=about["generated"],
            note=about["note"],
            licence=about["licence"],
            split_rule=_rule_of(about),
        )
    except (KeyError, TypeError) as error:
        raise _of_another_version(folder, error) from None


def load_scale(folder: Path) -> Scale:
    """The scale of a canonical dataset folder, without the rest. Raises DataError."""
    try:
        return _scale_of(read_json(folder / "dataset.json"))
    except (KeyError, TypeError) as error:
        raise _of_another_version(folder, error) from None


def load_split_rule(folder: Path) -> SplitRule | None:
    """The split rule of a canonical dataset folder, without the rest; None where it was not yet written down."""
    return _rule_of(read_json(folder / "dataset.json"))


def _scale_of(about: dict[str, Any]) -> Scale:
    return Scale(tuple(about["scale"]["guidelines"]))


def _of_another_version(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder / 'dataset.json'}: not written by this version of the data stage: {error!r}")


def _rule_of(about: dict[str, Any]) -> SplitRule | None:
    told = about.get("split")
    return None if told is None else SplitRule(SplitConfig(test=told["test"], dev=told["dev"]), told["by"])


def _describe(checked: Checked, split: SplitConfig) -> dict[str, Any]:
    source = checked.source
    return {
        "name": source.name,
        "generated": source.generated,
        "note": source.note,
        "licence": source.licence,
        "languages": list(checked.languages),
        "attributes": list(source.attributes),
        "split": {"test": split.test, "dev": split.dev, "by": source.split_by},
        "scale": {"guidelines": list(source.scale.guidelines)},
    }
