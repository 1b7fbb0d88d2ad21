"""Crisscrossed Captions (CxC): a COCO caption as query, an image as item, the image's own human captions as its text.

Five grades, cut at 1, 2, 3 and 4 of the mean rating from 0 to 5. The headline set is ``c2i_intrasim``, a caption with
another, similar image; ``c2i_original`` pairs it with its own. Split by image: of a pair, the caption's own image and the
judged one must fall on one side, for sibling captions of an image carry each other's answers; other pairs are left out. A
query's own caption never stands in the text it is scored against: pairs for which it would are left out. Source: Parekh
et al. 2021, arXiv 2004.15020. Ratings are free for any use; the captions are COCO's, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.config import DataConfig, resolve_scale
from pertinent.data.source import QUARANTINE_SCHEMA, Source, Table, as_json, require_columns
from pertinent.data.splits import normalised, splits
from pertinent.data.tables import RawTable, read_table
from pertinent.errors import DataError
from pertinent.types import Scale

GRADE_CUTS = (1.0, 2.0, 3.0, 4.0)
ITEMS = "items_test.jsonl"
JUDGMENTS = "judgments.jsonl"
ORIGINAL = "c2i_original"
GUIDELINES = (
    "Not alike: the caption and the image have nothing in common.",
    "Barely alike: they share a topic or a thing, and little else.",
    "Somewhat alike: they share the scene or the main thing, with important details different.",
    "Alike: the caption is mostly true of the image, with a few details different.",
    "Match: the caption describes the image, or all but.",
)


def read_cxc(folder: Path, config: DataConfig) -> Source:
    """Read the folder as judgments of images that have ``data.cxc.captions`` captions each.

    ``grade_mean`` is the mean rating less a half, within 0 to 4, so that it rounds to the grade.
    Raises DataError for a missing file or column.
    """
    raw_items, raw = (
        _read(folder, ITEMS, ("image", "captions")),
        _read(folder, JUDGMENTS, ("query_id", "query", "image", "score", "sampling")),
    )
    items = _items(raw_items, config.cxc.captions)
    judgments, note = _judgments(raw, items, config)
    return Source(
        name="cxc",
        items=Table(raw_items.file, raw_items.lines, items.drop("_keys"), {"item_id": "image", "captions": "captions"}),
        judgments=judgments,
        log=None,
        scale=resolve_scale(list(range(5)), config.guidelines, Scale(GUIDELINES), None)[0],
        grades=tuple(range(5)),
        languages=("en",),
        licence="CxC ratings: free for any use; captions: COCO, CC BY 4.0",
        note=f"Crisscrossed Captions, {config.cxc.sampling}, captions in an item's text: {config.cxc.captions}; {note}",
    )


def _read(folder: Path, name: str, columns: tuple[str, ...]) -> RawTable:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            raw = read_table(path)
            present = raw.rows.columns
            require_columns(raw.file, {column: column for column in present}, columns, present, "items")
            return raw
    raise DataError(f"{folder / name}.gz: no such file")


def _items(raw: RawTable, n_captions: int) -> pl.DataFrame:
    """image, the captions kept, and _keys, their normalised texts."""
    captions = raw.rows["captions"]
    if captions.dtype == pl.String:  # a nested JSON value comes as its text
        captions = captions.str.json_decode(pl.List(pl.String))
    items = raw.rows.select("image", captions.list.head(n_captions).alias("captions"))
    keys = items.select("image", pl.col("captions").alias("_key")).explode("_key").drop_nulls()
    keys = keys.with_columns(normalised(keys["_key"])).group_by("image").agg(pl.col("_key").alias("_keys"))
    return items.join(keys, on="image", how="left", maintain_order="left")


def _judgments(raw: RawTable, items: pl.DataFrame, config: DataConfig) -> tuple[Table, str]:
    """The table of the chosen sampling with its splits, and a sentence on what the rules left out."""
    score = pl.col("score").cast(pl.Float64, strict=False)
    rows = raw.rows.with_columns(raw.lines.alias("_line"), normalised(raw.rows["query"].fill_null("")).alias("_key"))
    original = rows.filter(pl.col("sampling") == ORIGINAL).select("query_id", "_key", own="image")
    rows = rows.filter(pl.col("sampling") == config.cxc.sampling).with_columns(
        _known=score.is_between(0.0, 5.0).fill_null(False),
        grade=pl.sum_horizontal([(score >= cut).cast(pl.Int64) for cut in GRADE_CUTS]),
        grade_mean=(score - 0.5).clip(0.0, 4.0),
    )
    if rows.is_empty():
        raise DataError(f"{raw.file}: expected judgments of sampling {config.cxc.sampling}, found none")
    broken = _off_scale(raw.file, rows.filter(~pl.col("_known")))
    rows = rows.filter("_known")
    # One text may be a caption of several images: each is its own, and all must be on the side of the judged one.
    sides = original.with_columns(side=splits(original["own"], config.cxc.split))
    sides = sides.group_by("_key").agg(pl.col("side").unique())
    judged_side = splits(rows["image"].fill_null(""), config.cxc.split).alias("split")
    rows = rows.with_columns(judged_side).join(sides, on="_key", how="left", maintain_order="left")
    on_one_side = (pl.col("side").list.len() == 1) & (pl.col("side").list.first() == pl.col("split"))
    apart = rows.filter(~on_one_side.fill_null(False)).height
    rows = rows.filter(on_one_side)
    rows = rows.join(items.select("image", "_keys"), on="image", how="left", maintain_order="left")
    told = pl.col("_keys").list.contains(pl.col("_key")).fill_null(False)
    own = rows.filter(told).height
    rows = rows.filter(~told).drop("side", "_keys", "_known", "_key")
    note = (
        f"left out: {apart:,} pairs whose images fall on different sides, {own:,} whose query stands in the item's text"
    )
    columns = {"query": "query", "query_id": "query_id", "item_id": "image"}
    columns |= {name: name for name in ("grade", "grade_mean", "split")}
    return Table(raw.file, rows["_line"], rows.drop("_line"), columns, pl.concat([raw.broken, broken])), note


def _off_scale(file: str, rows: pl.DataFrame) -> pl.DataFrame:
    reasons = [f"score must be a number from 0 to 5, got {value}" for value in rows["score"]]
    shown = rows.select("query_id", "query", "image", "score", "sampling").iter_rows(named=True)
    return pl.DataFrame(
        {
            "file": [file] * rows.height,
            "line": rows["_line"],
            "reason": reasons,
            "row": [as_json(row) for row in shown],
        },
        schema=QUARANTINE_SCHEMA,
    )
