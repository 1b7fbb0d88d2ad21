"""Amazon's Shopping Queries data set (ESCI): the official release and a small set with ESCI-S product fields.

Grades, lowest first: Irrelevant, Complement, Substitute, Exact. Licence: Apache-2.0. Source: arXiv 2206.06588.
The official release keeps its own test split; it has no dev, so its training queries whose hash falls there are dev.
The small set is split in five folds by query: fold `data.esci.fold` is test (30 queries), 20 others are dev, 100 train.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.config import DataConfig, resolve_scale
from pertinent.data.source import Source, Table, require_columns
from pertinent.data.splits import fold_splits
from pertinent.data.tables import read_table
from pertinent.errors import DataError
from pertinent.types import Scale

GRADES = ("I", "C", "S", "E")
GUIDELINES = (
    "Irrelevant: the item fails to meet a central aspect of the query.",
    "Complement: the item does not fulfil the query but could be used with an item that does.",
    "Substitute: the item fails some aspects of the query but could serve in place of what was asked for.",
    "Exact: the item is relevant to the query and meets all of its specifications.",
)
EXAMPLES = "shopping_queries_dataset_examples.parquet"
PRODUCTS = "shopping_queries_dataset_products.parquet"
SMALL_JUDGMENTS = "judgments.jsonl"
SMALL_PRODUCTS = "ubi_ecommerce_products.json"
_ATTRIBUTES = ("bullet_points", "brand", "color", "category")
_LANGUAGES = {"us": "en", "es": "es", "jp": "ja"}


def read_esci(folder: Path, config: DataConfig) -> Source:
    """Read the official release or the small set, whichever lies in ``folder``.

    Raises DataError for a missing file or column, or a locale without judgments.
    """
    if (folder / EXAMPLES).is_file():
        judgments = _official_judgments(folder, config)
        items = _official_items(folder, judgments, config)
        language = _LANGUAGES[config.esci.locale]
    elif _either(folder, SMALL_JUDGMENTS).is_file():
        judgments, items = _small_judgments(folder, config), _small_items(folder)
        language = "en"
    else:
        raise DataError(f"{folder}: expected {EXAMPLES} (official release) or {SMALL_JUDGMENTS}.gz, found neither")
    return Source(
        name="esci",
        items=items,
        judgments=judgments,
        log=None,
        scale=resolve_scale(list(GRADES), config.guidelines, Scale(GUIDELINES), None)[0],
        grades=GRADES,
        attributes=tuple(name for name in _ATTRIBUTES if name in items.columns),
        languages=(language,),
        licence="Apache-2.0",
        note="Amazon Shopping Queries data set (ESCI)",
    )


def _either(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() else folder / name


def _official_judgments(folder: Path, config: DataConfig) -> Table:
    used = ["query_id", "query", "product_id", "product_locale", "esci_label", "small_version", "split"]
    wanted = pl.col("product_locale") == config.esci.locale
    if config.esci.small_version:
        wanted &= pl.col("small_version") == 1
    rows = _scan(folder / EXAMPLES, used, wanted)
    if rows.is_empty():
        raise DataError(f"{folder / EXAMPLES}: no judgments with product_locale {config.esci.locale}")
    columns = {
        "query_id": "query_id",
        "query": "query",
        "item_id": "product_id",
        "grade": "esci_label",
        "split": "split",
    }
    return Table(EXAMPLES, rows["_line"], rows.drop("_line"), columns)


def _official_items(folder: Path, judgments: Table, config: DataConfig) -> Table:
    """The judged products of the locale: the release holds no others, save those of the queries left out."""
    texts = ["product_title", "product_description", "product_bullet_point", "product_brand", "product_color"]
    used = ["product_id", *texts, "product_locale"]
    judged = judgments.rows["product_id"].unique()
    wanted = (pl.col("product_locale") == config.esci.locale) & pl.col("product_id").is_in(judged.implode())
    rows = _scan(folder / PRODUCTS, used, wanted)
    columns = {
        "item_id": "product_id",
        "title": "product_title",
        "description": "product_description",
        "bullet_points": "product_bullet_point",
        "brand": "product_brand",
        "color": "product_color",
    }
    if rows.is_empty():
        raise DataError(f"{folder / PRODUCTS}: none of the {judged.len():,} judged products is here")
    return Table(PRODUCTS, rows["_line"], rows.with_columns(_points("product_bullet_point")).drop("_line"), columns)


def _scan(path: Path, columns: list[str], wanted: pl.Expr) -> pl.DataFrame:
    """The wanted rows with ``_line``, their 1-based row in the file, without reading the others' text into memory."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        frame = pl.scan_parquet(path, row_index_name="_line", row_index_offset=1)
        present = frame.collect_schema().names()
        require_columns(path.name, {name: name for name in present}, columns, present, "items")
        line = pl.col("_line").cast(pl.Int64)
        return frame.select(line, *columns).filter(wanted).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def _small_judgments(folder: Path, config: DataConfig) -> Table:
    raw = read_table(_either(folder, SMALL_JUDGMENTS))
    columns = {"query": "query", "item_id": "asin", "grade": "label"}
    present = raw.rows.columns
    require_columns(raw.file, {name: name for name in present}, list(columns.values()), present, "judgments")
    split = fold_splits(raw.rows["query"].fill_null(""), config.esci.fold).alias("split")
    return Table(raw.file, raw.lines, raw.rows.with_columns(split), {**columns, "split": "split"}, raw.broken)


def _small_items(folder: Path) -> Table:
    """The products; ``query_id`` is not read, for it lists the queries under which a product was judged."""
    raw = read_table(_either(folder, SMALL_PRODUCTS))
    same = ("title", "description", "bullet_points", "brand", "color", "category", "image")
    numbers = ("price", "rating", "rating_count", "is_book")
    columns = {"item_id": "asin", **{name: name for name in same}, **{f"numeric.{name}": name for name in numbers}}
    present = raw.rows.columns
    require_columns(raw.file, {name: name for name in present}, list(columns.values()), present, "items")
    return Table(raw.file, raw.lines, raw.rows.with_columns(_points("bullet_points")), columns, raw.broken)


def _points(column: str) -> pl.Expr:
    """Bullet points, one a line in the source, as a list."""
    return pl.col(column).str.split("\n").alias(column)
