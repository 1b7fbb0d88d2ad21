"""Home Depot product search relevance (Kaggle 2016): train.csv.gz and three files of attributes.

Licence: Kaggle competition terms, benchmark use only, never to be redistributed; so nothing of it is in this package.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.config import DataConfig, resolve_scale
from pertinent.data.source import QUARANTINE_SCHEMA, Source, Table, as_json, require_columns
from pertinent.data.tables import RawTable, read_table
from pertinent.errors import DataError
from pertinent.types import Scale

# Midpoints between the neighbours of the stated mapping of mean ratings to five grades:
# L1 = 1 to 1.25, L2 = 1.33 to 1.75, L3 = 2, L4 = 2.25 to 2.75, L5 = 3.
GRADE_CUTS = (1.29, 1.875, 2.125, 2.875)
_ATTRIBUTES = {
    "brand": ("brandNameDf.csv", "brand"),
    "color": ("df_color_processed.csv", "product_color"),
    "material": ("df_material_processed.csv", "material"),
}


def read_homedepot(folder: Path, config: DataConfig) -> Source:
    """Read the folder as five-grade judgments of items with a title, brand, colour and material.

    ``grade_mean`` is the published mean on the stored scale: (relevance - 1) * 2.
    Raises DataError for a missing file or column.
    """
    train = read_table(_file(folder, "train.csv"))
    columns = ("product_uid", "product_title", "search_term", "relevance")
    require_columns(train.file, {name: name for name in train.rows.columns}, columns, train.rows.columns, "judgments")
    scale, grades = resolve_scale(list(range(5)), config.guidelines, Scale(), None)
    return Source(
        name="homedepot",
        items=_items(folder, train),
        judgments=_judgments(train),
        log=None,
        scale=scale,
        grades=grades,
        attributes=tuple(_ATTRIBUTES),
        languages=("en",),
        licence="Kaggle competition terms: benchmark use only, never redistribute",
        note="Home Depot product search relevance (Kaggle 2016); grades cut from the mean of about 3 raters",
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder / name}.gz: no such file")


def _judgments(train: RawTable) -> Table:
    rating = pl.col("relevance").cast(pl.Float64, strict=False)
    known = rating.is_between(1.0, 3.0).fill_null(False)
    grade = pl.sum_horizontal([(rating > cut).cast(pl.Int64) for cut in GRADE_CUTS])
    rows = train.rows.with_columns(
        grade.alias("grade"), ((rating - 1.0) * 2.0).alias("grade_mean"), known.alias("_known")
    )
    off_scale = rows["_known"].not_()
    reasons = [f"relevance must be a number from 1 to 3, got {value}" for value in rows["relevance"].filter(off_scale)]
    broken = pl.DataFrame(
        {
            "file": [train.file] * len(reasons),
            "line": train.lines.filter(off_scale),
            "reason": reasons,
            "row": [as_json(row) for row in train.rows.filter(off_scale).iter_rows(named=True)],
        },
        schema=QUARANTINE_SCHEMA,
    )
    columns = {"query": "search_term", "item_id": "product_uid", "grade": "grade", "grade_mean": "grade_mean"}
    kept = rows.filter("_known").drop("_known")
    return Table(train.file, train.lines.filter(rows["_known"]), kept, columns, pl.concat([train.broken, broken]))


def _items(folder: Path, train: RawTable) -> Table:
    """One row a product: the title of its first judgment and its attributes."""
    titles = train.rows.select("product_uid", "product_title").with_columns(train.lines.alias("_line"))
    items = titles.unique("product_uid", keep="first", maintain_order=True)
    for name, (file, column) in _ATTRIBUTES.items():
        items = items.join(
            _attribute(_file(folder, file), column, name), on="product_uid", how="left", maintain_order="left"
        )
    columns = {"item_id": "product_uid", "title": "product_title", **{name: name for name in _ATTRIBUTES}}
    return Table(train.file, items["_line"], items.drop("_line"), columns)


def _attribute(path: Path, column: str, name: str) -> pl.DataFrame:
    """product_uid -> the product's different values, joined by "; ". The file writes uids as floats."""
    table = read_table(path)
    require_columns(
        table.file, {c: c for c in table.rows.columns}, ("product_uid", column), table.rows.columns, "items"
    )
    uid = pl.col("product_uid").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).cast(pl.String)
    value = pl.col(column).str.strip_chars()
    found = table.rows.select(uid.alias("product_uid"), value.alias(name)).filter(
        pl.col("product_uid").is_not_null() & (pl.col(name) != "")
    )
    return found.group_by("product_uid", maintain_order=True).agg(
        pl.col(name).unique(maintain_order=True).str.join("; ")
    )
