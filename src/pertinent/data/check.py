"""From a configured source to clean tables, and what stands in the way of using them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.data.config import DataConfig
from pertinent.data.cxc import read_cxc
from pertinent.data.esci import read_esci
from pertinent.data.folder import read_folder
from pertinent.data.homedepot import read_homedepot
from pertinent.data.items import clean_items
from pertinent.data.judgments import UNKNOWN_ITEM, clean_judgments
from pertinent.data.leaks import drop_held_out_queries
from pertinent.data.log import clean_log
from pertinent.data.msrd import read_msrd
from pertinent.data.sieve import reasons_of, too_many_broken
from pertinent.data.source import Source
from pertinent.data.splits import SPLITS
from pertinent.data.wands import read_wands
from pertinent.errors import DataError

# A count of what the rules did -> what to say of it where it is not 0.
_NOTEWORTHY = {
    "conflicting_pairs": "{n:,} pairs had conflicting grades; their mean is used",
    "queries_with_several_ids": "{n:,} queries stood under several values of query_id; the first of each is used",
    "dev_from_train": "the data set's own split has no dev: {n:,} of its training queries are dev, by their hash",
    "held_out_engaged_queries": "{n:,} engaged queries of items are judged dev or test queries; they are left out",
}


@dataclass(frozen=True)
class Checked:
    """A source after every check and rule.

    quarantine: "items", "judgments" and, where there is a log, "log" -> the rows set aside (QUARANTINE_SCHEMA).
    counts: what the rules did (duplicates dropped, conflicts joined, ...).
    """

    source: Source
    items: pl.DataFrame
    judgments: pl.DataFrame
    log: pl.DataFrame | None
    quarantine: Mapping[str, pl.DataFrame]
    counts: Mapping[str, int]

    @property
    def quarantined(self) -> pl.DataFrame:
        """All rows set aside."""
        return pl.concat(list(self.quarantine.values()))

    @property
    def languages(self) -> tuple[str, ...]:
        """The declared languages, else those of the judgments and the items."""
        if self.source.languages:
            return tuple(language.lower() for language in self.source.languages)
        parts = [frame["language"] for frame in (self.judgments, self.items) if "language" in frame.columns]
        found = pl.concat(parts).drop_nulls().unique().sort().to_list()
        return tuple(language for language in found if language != "und")


def read_source(config: DataConfig, scratch: Path) -> Source:
    """Read the source of ``config`` with its reader. scratch: a folder for what Pinboard generates.

    Raises DataError or ConfigError in one line when a file or a column is missing or cannot be read.
    """
    source = _read(config, scratch)
    languages = source.languages if config.languages is None else tuple(config.languages)
    return replace(source, name=config.name or source.name, languages=languages)


def clean_source(source: Source, config: DataConfig) -> Checked:
    """Apply every check and rule of the data stage; what breaks the contract is set aside, however much it is."""
    items, broken_items, item_counts = clean_items(source)
    judgments, broken_judgments, judgment_counts = clean_judgments(source, items["item_id"], config.split)
    items, n_leaks = drop_held_out_queries(items, judgments)
    quarantine = {"items": broken_items, "judgments": broken_judgments}
    log = None
    if source.log is not None:
        log, quarantine["log"] = clean_log(source.log, source, items["item_id"], judgments, config.split)
    counts = {**item_counts, **judgment_counts, "held_out_engaged_queries": n_leaks}
    return Checked(source, items, judgments, log, quarantine, counts)


def problems_of(checked: Checked, config: DataConfig) -> Iterator[str]:
    """What forbids the use of the data, one line each, the first cause first."""
    source, limit = checked.source, config.max_quarantined
    yield from too_many_broken(source.items, checked.quarantine["items"], limit)
    hint = f"; {source.items.file} holds {checked.items['item_id'][0]!r}, for example" if checked.items.height else ""
    yield from too_many_broken(source.judgments, checked.quarantine["judgments"], limit, hint=hint)
    if checked.judgments.height:
        yield from _split_problems(checked)
    if source.log is not None:
        # A log names items that have left the catalogue since: that is no fault of the log.
        yield from too_many_broken(source.log, checked.quarantine["log"], limit, tolerated=(UNKNOWN_ITEM,), hint=hint)


def counts_of(checked: Checked) -> dict[str, Any]:
    """Row counts of a checked source, of each split and of each grade, and what the rules did."""
    judgments = checked.judgments
    by_split = {
        split: {"judgments": part.height, "queries": part["query_id"].n_unique()}
        for split in SPLITS
        for part in (judgments.filter(pl.col("split") == split),)
    }
    grades = dict(judgments.group_by("grade").len().iter_rows())
    return {
        "items": checked.items.height,
        "judgments": judgments.height,
        "queries": judgments["query_id"].n_unique(),
        "log": 0 if checked.log is None else checked.log.height,
        "quarantined": checked.quarantined.height,
        "splits": by_split,
        "grades": {name: grades.get(k, 0) for k, name in enumerate(checked.source.scale.shown)},
        **checked.counts,
    }


def warnings_of(checked: Checked) -> list[str]:
    """What a user should know though nothing is broken beyond the limit."""
    found = []
    if checked.quarantined.height:
        reason, n = next(iter(reasons_of(checked.quarantined).items()))
        found.append(f"{_rows(checked.quarantined.height)} quarantined; the commonest reason ({_rows(n)}): {reason}")
    found += [text.format(n=n) for name, text in _NOTEWORTHY.items() if (n := checked.counts.get(name, 0))]
    present = set(checked.judgments["grade"].unique().to_list())
    absent = [name for k, name in enumerate(checked.source.scale.shown) if k not in present]
    if absent:
        found.append(f"no judgment has grade {', '.join(absent)}")
    return found


def _read(config: DataConfig, scratch: Path) -> Source:
    if config.reader == "pinboard":
        from pertinent.data.pinboard import PinboardSize, generate_pinboard

        scratch.mkdir(parents=True, exist_ok=True)
        size = PinboardSize.tiny() if config.pinboard.size == "tiny" else PinboardSize()
        generate_pinboard(scratch, config.pinboard.seed, size)
        return read_folder(scratch, config)
    if config.path is None or not config.path.exists():
        raise DataError(f"{config.path}: no such folder (data.path)")
    if not config.path.is_dir():
        raise DataError(f"{config.path}: expected a folder, found a file (data.path)")
    readers = {
        "homedepot": read_homedepot,
        "esci": read_esci,
        "cxc": read_cxc,
        "msrd": read_msrd,
        "wands": read_wands,
        "folder": read_folder,
    }
    return readers[config.reader](config.path, config)


def _rows(n: int) -> str:
    return f"{n:,} row" if n == 1 else f"{n:,} rows"


def _split_problems(checked: Checked) -> Iterator[str]:
    """Each split must have judgments, of two grades at least: what has one grade can be neither learnt nor measured."""
    judgments, file = checked.judgments, checked.source.judgments.file
    found = {split: judgments.filter(pl.col("split") == split) for split in SPLITS}
    for split in SPLITS:
        if found[split].is_empty():
            others = ", ".join(f"{name} {part.height:,}" for name, part in found.items() if name != split)
            yield (
                f"{file}: no judgments in split {split}: expected at least one of the"
                f" {judgments['query_id'].n_unique():,} queries to fall there, found {others};"
                " judge more queries or change data.split"
            )
    for split in SPLITS:
        grades = found[split]["grade"].unique().to_list()
        if len(grades) == 1:
            shown = checked.source.scale.shown[grades[0]]
            yield f"{file}: expected at least two different grades in {split}, found only {shown}"
