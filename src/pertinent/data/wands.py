"""Wayfair's WANDS: query.csv, product.csv and label.csv, separated by tabs, as published.

Grades, lowest first: Irrelevant, Partial, Exact. Licence: MIT. Source: Chen et al. 2022, doi:10.1007/978-3-030-99736-6_9.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.config import DataConfig, resolve_scale
from pertinent.data.source import Source, Table, require_columns
from pertinent.data.tables import RawTable, read_table
from pertinent.errors import DataError
from pertinent.types import Scale

GRADES = ("Irrelevant", "Partial", "Exact")
GUIDELINES = (
    "Irrelevant: the product is not what was asked for.",
    "Partial: the product is of the kind asked for, but misses an attribute of the query.",
    "Exact: the product fully matches the query.",
)
FILES = ("query.csv", "product.csv", "label.csv")
_ITEM_COLUMNS = {
    "item_id": "product_id",
    "title": "product_name",
    "description": "product_description",
    "product_class": "product_class",
    "category": "category hierarchy",
    "product_features": "product_features",
    "numeric.rating_count": "rating_count",
    "numeric.average_rating": "average_rating",
    "numeric.review_count": "review_count",
}
_ATTRIBUTES = ("product_class", "category", "product_features")


def is_wands(folder: Path) -> bool:
    """Whether the labels and queries of WANDS lie in ``folder``."""
    return all(_file(folder, name).is_file() for name in ("query.csv", "label.csv"))


def read_wands(folder: Path, config: DataConfig) -> Source:
    """Read the folder as three-grade judgments of items. Raises DataError for a missing file or column."""
    product = _table(folder, "product.csv", ("product_id", "product_name"))
    columns = {ours: theirs for ours, theirs in _ITEM_COLUMNS.items() if theirs in product.rows.columns}
    rows = product.rows
    if "product_features" in columns:
        rows = rows.with_columns(pl.col("product_features").str.split("|"))
    labels = read_labels(folder)
    return Source(
        name="wands",
        items=Table(product.file, product.lines, rows, columns, product.broken),
        judgments=labels,
        log=None,
        scale=resolve_scale(list(GRADES), config.guidelines, Scale(GUIDELINES), None)[0],
        grades=GRADES,
        attributes=tuple(name for name in _ATTRIBUTES if name in columns),
        languages=("en",),
        licence="MIT",
        note="Wayfair product search relevance data set (WANDS)",
    )


def read_labels(folder: Path) -> Table:
    """The judgments alone: query_id, query, item_id and grade, the label as written.

    Raises DataError for a missing file or column. A label of an unknown query has no query text and is quarantined.
    """
    queries = _table(folder, "query.csv", ("query_id", "query"))
    labels = _table(folder, "label.csv", ("query_id", "product_id", "label"))
    texts = queries.rows.select("query_id", "query").unique("query_id", keep="first", maintain_order=True)
    rows = labels.rows.join(texts, on="query_id", how="left", maintain_order="left")
    columns = {"query_id": "query_id", "query": "query", "item_id": "product_id", "grade": "label"}
    return Table(labels.file, labels.lines, rows, columns, labels.broken)


def _table(folder: Path, name: str, needed: tuple[str, ...]) -> RawTable:
    path = _file(folder, name)
    if not path.is_file():
        raise DataError(f"{folder / name}: no such file: expected {', '.join(FILES)} of WANDS")
    table = read_table(path, delimiter="\t")
    present = table.rows.columns
    require_columns(table.file, {column: column for column in present}, needed, present, name.removesuffix(".csv"))
    return table


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() else folder / name
