"""MSRD, the Movie Search Ranking Dataset: people were shown 24 shuffled movies for a real query and marked the relevant.

Licence: CC BY-SA 4.0. Reorderings of one query share a split. The judged impressions of the training queries are the
log: an impression a pair, and a save where the movie was marked; it has no users, positions or times.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.config import DataConfig, resolve_scale
from pertinent.data.source import Source, Table, require_columns
from pertinent.data.splits import SplitConfig, splits
from pertinent.data.tables import RawTable, read_table
from pertinent.errors import DataError
from pertinent.types import Scale

GRADES = ("0", "1")
GUIDELINES = (
    "Not relevant: the movie was shown for the query and not marked.",
    "Relevant: the movie was marked as relevant to the query.",
)
MOVIES = "movies-corpus.jsonl"
JUDGMENTS = "movies-judgments.tsv"
_ATTRIBUTES = ("year", "genres", "director", "actors", "characters")
_NUMBERS = ("year", "votes", "rating", "popularity", "budget")


def read_msrd(folder: Path, config: DataConfig) -> Source:
    """Read the folder as two-grade judgments of movies, whose user-curated tags are their boards.

    Raises DataError for a missing file or column.
    """
    raw = read_table(_file(folder, JUDGMENTS))
    columns = {"query_id": "query_id", "query": "query", "item_id": "doc_id", "grade": "grade"}
    _require(raw, columns, "judgments")
    items = _items(read_table(_file(folder, MOVIES)))
    return Source(
        name="msrd",
        items=items,
        judgments=Table(raw.file, raw.lines, raw.rows, columns, raw.broken),
        log=_log(raw, items.rows["id"], config.split),
        scale=resolve_scale(list(GRADES), config.guidelines, Scale(GUIDELINES), None)[0],
        grades=GRADES,
        attributes=_ATTRIBUTES,
        languages=("en",),
        licence="CC BY-SA 4.0",
        note="Movie Search Ranking Dataset (MSRD); tags stand for boards, the training queries' judgments for a log",
        split_by="words",
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder / name}.gz: no such file")


def _require(raw: RawTable, columns: dict[str, str], section: str) -> None:
    present = raw.rows.columns
    require_columns(raw.file, {name: name for name in present}, list(columns.values()), present, section)


def _items(raw: RawTable) -> Table:
    columns = {"item_id": "id", "title": "title", "description": "overview", "boards": "tags", "image": "url"}
    columns |= {name: name for name in _ATTRIBUTES} | {f"numeric.{name}": name for name in _NUMBERS}
    _require(raw, columns, "items")
    return Table(raw.file, raw.lines, raw.rows, columns, raw.broken)


def _log(raw: RawTable, known: pl.Series, split: SplitConfig) -> Table:
    """The training queries' judgments of known movies; those of unknown ones are counted among the judgments."""
    rows = raw.rows.with_columns(raw.lines.alias("_line"))
    rows = rows.filter(pl.col("query").is_not_null() & pl.col("doc_id").is_in(known.implode()))
    rows = rows.filter(splits(rows["query"], split, "words") == "train")
    seen = rows.with_columns(action=pl.lit("impression"))
    saved = rows.filter(pl.col("grade") == GRADES[1]).with_columns(action=pl.lit("save"))
    log = pl.concat([seen, saved]).sort("_line", maintain_order=True)
    columns = {"query": "query", "item_id": "doc_id", "action": "action"}
    return Table(raw.file, log["_line"], log.select(columns.values()), columns)
