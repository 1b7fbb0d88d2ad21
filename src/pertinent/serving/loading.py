"""Load a store from files: the bundle's own items, or items that have changed since; and delete items from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pertinent.bundle import Scorer, bundle_folder, open_bundle
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.rows import encoding_of
from pertinent.data.sieve import reasons_of
from pertinent.data.source import QUARANTINE_SCHEMA
from pertinent.data.tables import kind_of, read_table
from pertinent.errors import DataError
from pertinent.files import reason_of
from pertinent.progress import progress
from pertinent.serving.changes import write_changed, write_records
from pertinent.serving.settings import Settings
from pertinent.serving.stores import ItemStore, check_store, open_store
from pertinent.text.sources import FieldSource, read_sources

_BATCH = 1_000  # items that are encoded and written at a time


def load_items(
    store: str, bundle: Path, items: Path | None = None, *, fields: Sequence[Path] = (), skip_broken: bool = False
) -> dict[str, Any]:
    """Write items to a store (redis:// or a folder), encoded for ``bundle``; those that it has as they are stay.

    items: a table with item_id and fields as a dataset folder has them; None: the bundle's own items, as they are.
    fields: folders of other stages (captions, boards, engaged queries, links), laid over the items as at the export.
    skip_broken: leave out broken rows and count them. A load that was cut off continues when it is started again, since
    what it wrote is unchanged then. Returns {"store", "encoding", "items", "written", "unchanged", "refused"}; refused: reason ->
    rows. Raises DataError for the first broken row, StoreError when the store cannot be written.
    """
    folder = bundle_folder(bundle)
    settings = Settings(bundle=folder, store=store)
    check_store(settings)
    scorer = open_bundle(folder)
    opened = open_store(settings, scorer)
    told: dict[str, Any] = {"store": opened.address, "encoding": encoding_of(scorer.description)}
    try:
        if items is None:
            return {**told, **_load_own(opened, scorer), "refused": {}}
        sources, _ = read_sources(fields)
        encoder = ItemEncoder.of(scorer, folder)
        return {**told, **_load_table(opened, encoder, items, sources, skip_broken)}
    finally:
        opened.close()


def delete_items(store: str, bundle: Path, items: Path) -> dict[str, Any]:
    """Delete the items that a table's column item_id names: {"store", "encoding", "items", "deleted", "absent"}."""
    folder = bundle_folder(bundle)
    settings = Settings(bundle=folder, store=store)
    check_store(settings)
    scorer = open_bundle(folder)
    opened = open_store(settings, scorer)
    n_items = n_deleted = 0
    try:
        with progress("items: delete", _height(items), "items") as bar:
            for _, rows in _slices(items):
                if "item_id" not in rows.columns:
                    raise DataError(f"{items}: expected the column item_id, found {', '.join(rows.columns)}")
                ids = rows["item_id"].cast(pl.String).drop_nulls().unique(maintain_order=True).to_list()
                n_deleted += opened.delete(ids)
                n_items += len(ids)
                bar.advance(rows.height)
    finally:
        opened.close()
    told = {"store": opened.address, "encoding": encoding_of(scorer.description)}
    return {**told, "items": n_items, "deleted": n_deleted, "absent": n_items - n_deleted}


def _load_own(store: ItemStore, scorer: Scorer) -> dict[str, int]:
    ids = list(scorer.row_of)
    counts = {"items": len(ids), "written": 0, "unchanged": 0}
    with progress("items: load", len(ids), "items") as bar:
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            records = scorer.items_at(np.arange(start, start + len(part))).records()
            written, unchanged = write_records(store, dict(zip(part, records, strict=True)))
            counts["written"] += written
            counts["unchanged"] += unchanged
            bar.advance(len(part))
    return counts


def _load_table(
    store: ItemStore, encoder: ItemEncoder, file: Path, sources: Sequence[FieldSource], skip_broken: bool
) -> dict[str, Any]:
    counts = {"items": 0, "written": 0, "unchanged": 0}
    refused = [pl.DataFrame(schema=QUARANTINE_SCHEMA)]
    with progress("items: load", _height(file), "items") as bar:
        for lines, rows in _slices(file):
            items, broken = encoder.clean_frame(file.name, rows, lines)
            if broken.height and not skip_broken:
                first = broken.row(0, named=True)
                raise DataError(f"{file}:{first['line']}: {first['reason']} (--skip-broken leaves such rows out)")
            written, unchanged = write_changed(store, encoder, items, sources)
            refused.append(broken)
            counts["items"] += items.height
            counts["written"] += written
            counts["unchanged"] += unchanged
            bar.advance(rows.height)
    return {**counts, "refused": reasons_of(pl.concat(refused))}


def _height(file: Path) -> int:
    if kind_of(file) != ".parquet":
        return read_table(file).rows.height
    try:
        return int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item())
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{file}: not a readable Parquet file: {reason}") from None


def _slices(file: Path) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    """Lines and rows, a batch at a time. Parquet may be larger than memory; another table is read whole."""
    if kind_of(file) != ".parquet":
        table = read_table(file)
        if table.broken.height:
            first = table.broken.row(0, named=True)
            raise DataError(f"{file}:{first['line']}: {first['reason']}")
        for start in range(0, table.rows.height, _BATCH):
            yield table.lines[start : start + _BATCH], table.rows[start : start + _BATCH]
        return
    scan = pl.scan_parquet(file, glob=False)
    for start in range(0, _height(file), _BATCH * 20):
        part = scan.slice(start, _BATCH * 20).collect()
        for at in range(0, part.height, _BATCH):
            rows = part[at : at + _BATCH]
            first_line = start + at + 1
            yield pl.Series(range(first_line, first_line + rows.height), dtype=pl.Int64), rows
