"""`pertinent validate`: what the data stage would make of a source, without writing anything."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.check import Checked, clean_source, counts_of, problems_of, read_source, warnings_of
from pertinent.data.config import DataConfig
from pertinent.data.sieve import reasons_of

_N_EXAMPLES = 3


@dataclass(frozen=True)
class ValidationReport:
    """What was found; `to_dict` gives it as plain JSON values.

    problems: what makes the data stage stop, one line each (none: the data is fit for use). counts: as the manifest
    has them, splits and grades included. quarantine: reason -> {"rows", "examples": ["file:line: reason"]}.
    languages: language or "unknown" -> {"judgments", "queries"}. fill_rates: item column -> share of items with it.
    """

    name: str
    problems: Sequence[str]
    warnings: Sequence[str]
    counts: Mapping[str, Any]
    quarantine: Mapping[str, Mapping[str, Any]]
    languages: Mapping[str, Mapping[str, int]]
    fill_rates: Mapping[str, float]
    scale: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether the data stage would go through."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, ``ok`` included."""
        return {"ok": self.ok, **asdict(self)}


def validate_dataset(config: DataConfig) -> ValidationReport:
    """Read and check the source of ``config``.

    Raises DataError or ConfigError where the source cannot be read at all (a missing file or column, a wrong encoding).
    """
    with tempfile.TemporaryDirectory(prefix="pertinent-") as scratch:
        checked = clean_source(read_source(config, Path(scratch)), config)
    return ValidationReport(
        name=checked.source.name,
        problems=list(problems_of(checked, config)),
        warnings=warnings_of(checked),
        counts=counts_of(checked),
        quarantine=_quarantine(checked.quarantined),
        languages=_languages(checked.judgments),
        fill_rates=_fill_rates(checked),
        scale=list(checked.source.scale.guidelines),
    )


def _quarantine(quarantined: pl.DataFrame) -> dict[str, dict[str, Any]]:
    found = {}
    for reason, n_rows in reasons_of(quarantined).items():
        rows = quarantined.filter(pl.col("reason").str.split(", got ").list.first() == reason).head(_N_EXAMPLES)
        examples = [f"{row['file']}:{row['line']}: {row['reason']}" for row in rows.iter_rows(named=True)]
        found[reason] = {"rows": n_rows, "examples": examples}
    return found


def _languages(judgments: pl.DataFrame) -> dict[str, dict[str, int]]:
    named = judgments.with_columns(pl.col("language").fill_null("unknown"))
    counts = named.group_by("language").agg(pl.len().alias("judgments"), pl.col("query_id").n_unique().alias("queries"))
    ordered = counts.sort(["judgments", "language"], descending=[True, False])
    return {row.pop("language"): row for row in ordered.iter_rows(named=True)}


def _fill_rates(checked: Checked) -> dict[str, float]:
    n = max(checked.items.height, 1)
    return {name: round(1.0 - checked.items[name].null_count() / n, 4) for name in checked.items.columns}
