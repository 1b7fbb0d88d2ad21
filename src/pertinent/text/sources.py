"""Item fields that other stages made (captions, boards, engaged queries, link text), laid over the items.

Such a stage's folder holds fields.parquet: item_id, text_version and field columns, one row an item and version.
Version -1 is what serving reads. Version k >= 0 is for training pairs whose query is in cross-fitting fold k (see
`pertinent.data.splits.cross_folds`): made without the log of that fold's queries, so that no pair reads its own query.
Where an item has no row k, its row -1 stands for it. The number of folds is `n_folds` of fields.json beside the table, or
of the stage's manifest.json (counts or config).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet

FIELDS_FILE = "fields.parquet"
SERVED = -1  # the text_version of what may use everything
_KEYS = ("item_id", "text_version")
# Entries of a record column and what ranks them, best first.
_RANKED = {"title": "count", "query": "weight"}


@dataclass(frozen=True)
class FieldSource:
    """The fields of one stage. rows: item_id String, text_version Int8, then columns of String or List(String)."""

    folder: Path
    rows: pl.DataFrame
    n_folds: int | None

    @property
    def columns(self) -> list[str]:
        """The field columns."""
        return [name for name in self.rows.columns if name not in _KEYS]

    def of_version(self, version: int) -> pl.DataFrame:
        """item_id and the field columns that stand for a version."""
        own = self.rows.filter(pl.col("text_version") == version).drop("text_version")
        if version == SERVED:
            return own
        served = self.rows.filter(pl.col("text_version") == SERVED).drop("text_version")
        return pl.concat([own, served.join(own, on="item_id", how="anti")])


def read_sources(folders: Sequence[Path]) -> tuple[list[FieldSource], int | None]:
    """The sources and their number of folds, None where none has a version above -1.

    Raises DataError for a missing file, a wrong column, a version outside the folds, or folds that differ.
    """
    sources = [_read(folder) for folder in folders]
    folds = {source.n_folds: source.folder for source in sources if source.n_folds is not None}
    if len(folds) > 1:
        told = ", ".join(f"{n} in {folder}" for n, folder in folds.items())
        raise DataError(f"text: expected sources with one number of folds, found {told}")
    return sources, next(iter(folds), None)


def versions_of(sources: Sequence[FieldSource]) -> list[int]:
    """The versions above -1 of all sources, in order."""
    found = {version for source in sources for version in source.rows["text_version"].unique()}
    return sorted(found - {SERVED})


def overlay(items: pl.DataFrame, sources: Sequence[FieldSource], version: int) -> pl.DataFrame:
    """The items with the sources' fields: all of them for version -1, else those with a row of this version.

    Entries of a list field are the item's own first, then each source's; a text field keeps the item's own where it has
    one. Records (boards, engaged queries) become their texts, best first.
    """
    if version != SERVED:
        own = [source.rows.filter(pl.col("text_version") == version)["item_id"] for source in sources]
        items = items.filter(pl.col("item_id").is_in(pl.concat(own).unique().implode()))
    for source in sources:
        columns = source.columns
        shared = [name for name in columns if name in items.columns]
        items = items.with_columns(as_texts(items, name) for name in shared)
        new = source.of_version(version).rename({name: f"{name}.new" for name in columns})
        items = items.join(new, on="item_id", how="left", maintain_order="left")
        _check_kinds(items, shared, source)
        items = items.with_columns(_merged(items, name, name in shared) for name in columns)
        items = items.drop(f"{name}.new" for name in columns)
    return items


def as_texts(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column of records ({title, count} or {query, weight}) as lists of their texts, best first; others as they are."""
    dtype = frame.schema[name]
    if not isinstance(dtype, pl.List) or not isinstance(dtype.inner, pl.Struct):
        return pl.col(name)
    fields = [field.name for field in dtype.inner.fields]
    text = next((key for key in _RANKED if key in fields), None)
    if text is None or _RANKED[text] not in fields:
        raise DataError(f"{name}: expected records of title and count or query and weight, found {', '.join(fields)}")
    record = pl.element().struct
    order = [record.field(_RANKED[text]).fill_null(0), record.field(text).fill_null("")]
    return pl.col(name).list.eval(record.field(text).sort_by(order, descending=[True, False]))


def _merged(frame: pl.DataFrame, name: str, shared: bool) -> pl.Expr:
    new = pl.col(f"{name}.new")
    if not shared:
        return new.alias(name)
    if isinstance(frame.schema[name], pl.List):
        empty = pl.lit([], dtype=pl.List(pl.String))
        return pl.concat_list(pl.col(name).fill_null(empty), new.fill_null(empty)).alias(name)
    return pl.coalesce(name, new).alias(name)


def _check_kinds(frame: pl.DataFrame, shared: Sequence[str], source: FieldSource) -> None:
    for name in shared:
        own, new = frame.schema[name], frame.schema[f"{name}.new"]
        if own != new:
            raise DataError(f"{source.folder / FIELDS_FILE}: expected {name} as in the items ({own}), found {new}")


def _read(folder: Path) -> FieldSource:
    file = folder / FIELDS_FILE
    rows = read_parquet(file)
    absent = [name for name in _KEYS if name not in rows.columns]
    if absent:
        raise DataError(f"{file}: expected the columns item_id and text_version, found {', '.join(rows.columns)}")
    rows = rows.with_columns(pl.col("item_id").cast(pl.String), pl.col("text_version").cast(pl.Int8))
    names = [name for name in rows.columns if name not in _KEYS]
    if not names:
        raise DataError(f"{file}: expected a field column beside item_id and text_version, found none")
    rows = rows.with_columns(as_texts(rows, name) for name in names)
    for name in names:
        if rows.schema[name] not in (pl.String, pl.List(pl.String)):
            raise DataError(f"{file}: expected {name} as text or a list of texts, found {rows.schema[name]}")
    repeated = rows.filter(pl.struct(_KEYS).is_duplicated())
    if repeated.height:
        item, version = repeated.select(_KEYS).row(0)
        raise DataError(f"{file}: expected one row an item and version, found {item} {version} more than once")
    return FieldSource(folder, rows, _folds(folder, file, rows))


def _folds(folder: Path, file: Path, rows: pl.DataFrame) -> int | None:
    versions = rows["text_version"].unique().drop_nulls().to_list()
    highest, lowest = max(versions, default=SERVED), min(versions, default=SERVED)
    n_folds = told_folds(folder)
    if highest == SERVED and lowest == SERVED:
        return n_folds
    if n_folds is None:
        raise DataError(f"{folder / 'fields.json'}: expected n_folds of text_version 0 to {highest}, found none")
    if highest >= n_folds or lowest < SERVED:
        wrong = highest if highest >= n_folds else lowest
        raise DataError(f"{file}: expected text_version from -1 to {n_folds - 1}, found {wrong}")
    return n_folds


def told_folds(folder: Path) -> int | None:
    """n_folds of fields.json or of the manifest that the pipeline writes."""
    for name, parts in (("fields.json", ((),)), ("manifest.json", (("counts",), ("config",)))):
        if not (folder / name).is_file():
            continue
        document = read_json(folder / name)
        for part in parts:
            found = document
            for key in part:
                found = found.get(key, {})
            if isinstance(found.get("n_folds"), int):
                return int(found["n_folds"])
    return None
