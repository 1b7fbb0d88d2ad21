"""Items: a stranger's catalogue as the canonical table, one row an item."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
import polars as pl

from pertinent.data import values
from pertinent.data.folder import ITEM_TEXTS
from pertinent.data.sieve import Sieve
from pertinent.data.source import Source, Table, as_json

BOARDS = pl.List(pl.Struct({"title": pl.String, "count": pl.Int64}))
ENGAGED_QUERIES = pl.List(pl.Struct({"query": pl.String, "weight": pl.Float64}))


def clean_items(source: Source) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """The canonical items, the quarantine and counts (``duplicate_items``: repeats of a whole row, dropped).

    Of several rows with one item_id the first is kept; those with other content than it are quarantined.
    """
    return clean_item_table(source.items, source.attributes, source.languages)


def clean_item_table(
    table: Table, attributes: tuple[str, ...], languages: tuple[str, ...] = (), lists: Collection[str] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """`clean_items` of a table alone. lists: the attributes that are lists of texts; None: as their values tell."""
    sieve = Sieve(table)
    _clean_ids(sieve)
    duplicates = _drop_duplicates(sieve)
    present = sieve.frame.columns
    texts = [name for name in ITEM_TEXTS if name in present]
    sieve.frame = sieve.frame.with_columns([values.text(sieve.frame, name) for name in texts])
    _clean_lists(sieve)
    _spread_numeric(sieve)
    _clean_numbers(sieve)
    _clean_embedding(sieve)
    for name in attributes:
        listed = _is_listed(sieve.frame, name) if lists is None else name in lists
        sieve.frame = sieve.frame.with_columns(_attribute(sieve.frame, name, table.list_separator, listed))
    frame = fill_language(sieve.frame, languages, always=False)
    return _canonical(frame, attributes), sieve.quarantined, {"duplicate_items": duplicates}


def fill_language(frame: pl.DataFrame, languages: tuple[str, ...], always: bool) -> pl.DataFrame:
    """Lower-case the languages; where the data set has a single language, rows without one get it.

    always: whether to add the column (of nulls) when nothing is known.
    """
    if "language" in frame.columns:
        frame = frame.with_columns(values.text(frame, "language").str.to_lowercase())
    elif always or len(languages) == 1:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("language"))
    if len(languages) == 1:
        frame = frame.with_columns(pl.col("language").fill_null(languages[0].lower()))
    return frame


def _clean_ids(sieve: Sieve) -> None:
    sieve.frame = sieve.frame.with_columns(values.text(sieve.frame, "item_id"))
    sieve.reject(pl.col("item_id").is_null(), "item_id must not be empty")


def _drop_duplicates(sieve: Sieve) -> int:
    repeated = sieve.frame.filter(pl.col("item_id").is_duplicated())
    first: dict[str, tuple[str, int]] = {}
    same: list[int] = []
    other: dict[int, str] = {}
    for row in repeated.iter_rows(named=True):
        index, line = row.pop("_row"), row.pop("_line")
        content, first_line = first.setdefault(row["item_id"], (as_json(row), line))
        if first_line == line:
            continue
        if content == as_json(row):
            same.append(index)
        else:
            other[index] = (
                f"item_id must be unique or its rows the same, got {row['item_id']} with other content"
                f" (line {first_line} is kept)"
            )
    reasons = pl.col("_row").replace_strict(list(other), list(other.values()), default=None, return_dtype=pl.String)
    if other:
        sieve.reject(pl.col("_row").is_in(list(other)), reasons)
    sieve.frame = sieve.frame.filter(~pl.col("_row").is_in(same))
    return len(same)


def _clean_lists(sieve: Sieve) -> None:
    present = sieve.frame.columns
    _blank_to_null(sieve, [name for name in ("captions", "boards", "engaged_queries") if name in present])
    if "captions" in present:
        sieve.convert("captions", values.text_list(sieve.table.list_separator), pl.List(pl.String))
    if "boards" in present:
        sieve.convert("boards", values.boards, BOARDS)
    if "engaged_queries" in present:
        sieve.convert("engaged_queries", values.engaged_queries, ENGAGED_QUERIES)


def _blank_to_null(sieve: Sieve, columns: list[str]) -> None:
    for name in columns:
        if sieve.frame.schema[name] == pl.String:
            sieve.frame = sieve.frame.with_columns(values.text(sieve.frame, name))


def _spread_numeric(sieve: Sieve) -> None:
    """``numeric`` {name: number} becomes one ``numeric.NAME`` column a name."""
    if "numeric" not in sieve.frame.columns:
        return
    _blank_to_null(sieve, ["numeric"])
    sieve.convert("numeric", lambda value: orjson.dumps(values.mapping(value)).decode(), pl.String)
    found = [orjson.loads(value) if value else {} for value in sieve.frame["numeric"].to_list()]
    names = list(dict.fromkeys(name for row in found for name in row))
    columns = [
        pl.Series(f"numeric.{name}", [_as_text(row.get(name)) for row in found], dtype=pl.String) for name in names
    ]
    sieve.frame = sieve.frame.drop("numeric").with_columns(columns)


def _as_text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def _clean_numbers(sieve: Sieve) -> None:
    for name in [name for name in sieve.frame.columns if name.startswith("numeric.")]:
        value, broken = values.number(sieve.frame, name)
        found = pl.col(name).cast(pl.String)
        sieve.reject(broken, pl.format("{} must be a finite number, got {}", pl.lit(name), found))
        sieve.frame = sieve.frame.with_columns(value)


def _clean_embedding(sieve: Sieve) -> None:
    if "embedding" not in sieve.frame.columns:
        return
    dtype = sieve.frame.schema["embedding"]
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric():
        sieve.frame = sieve.frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float32)))
    else:
        _blank_to_null(sieve, ["embedding"])
        sieve.convert("embedding", values.vector, pl.List(pl.Float32))
    given = sieve.frame["embedding"].drop_nulls()
    if given.len() == 0:
        return
    width = len(given[0])
    length = pl.col("embedding").list.len()
    sieve.reject(
        length != width, pl.format("embedding must have {} numbers as the first has, got {}", pl.lit(width), length)
    )
    finite = pl.col("embedding").list.eval(pl.element().is_finite() & pl.element().is_not_null()).list.all()
    sieve.reject(~finite, "embedding must have finite numbers only")


def _is_listed(frame: pl.DataFrame, name: str) -> bool:
    """Whether every value of an attribute is a list."""
    dtype = frame.schema[name]
    given = [value for value in frame[name].to_list() if value is not None]
    return isinstance(dtype, pl.List) or (dtype == pl.String and bool(given) and all(map(_is_json_list, given)))


def _attribute(frame: pl.DataFrame, name: str, separator: str, listed: bool) -> pl.Series:
    """An attribute as list[str], or as text."""
    if not listed:
        return frame.select(values.text(frame, name)).to_series()
    parse = values.text_list(separator)
    found = [None if value is None else parse(value) for value in frame[name].to_list()]
    return pl.Series(name, found, dtype=pl.List(pl.String))


def _is_json_list(value: str) -> bool:
    if not value.startswith("["):
        return False
    try:
        return isinstance(orjson.loads(value), list)
    except orjson.JSONDecodeError:
        return False


def _canonical(frame: pl.DataFrame, attributes: tuple[str, ...]) -> pl.DataFrame:
    ordered = ["item_id", *ITEM_TEXTS, "captions", "boards", "engaged_queries"]
    numeric = sorted(name for name in frame.columns if name.startswith("numeric."))
    names = [*ordered, *numeric, "embedding", *attributes]
    kept = [
        name
        for name in names
        if name in frame.columns and (name in attributes or frame[name].null_count() < max(frame.height, 1))
    ]
    return frame.select(kept)
