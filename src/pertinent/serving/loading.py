"""Load a store from files: the bundle's own items, or items that have changed since; and delete items from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    with _opened(store, bundle) as (opened, scorer, told):
        if items is None:
            return {**told, **_load_own(opened, scorer), "refused": {}}
        sources, _ = read_sources(fields)
        encoder = ItemEncoder.of(scorer, bundle_folder(bundle))
        return {**told, **_load_table(opened, encoder, items, sources, skip_broken)}


def delete_items(store: str, bundle: Path, items: Path) -> dict[str, Any]:
    """Delete the items that a table's column item_id names: {"store", "encoding", "items", "deleted", "absent"}."""
    counts = {"items": 0, "deleted": 0, "absent": 0}
    with _opened(store, bundle) as (opened, _, told):
        n_rows, slices = _slices(items)
        with progress("items: delete", n_rows, "items") as bar:
            for _, rows in slices:
                if "item_id" not in rows.columns:
                    raise DataError(f"{items}: expected the column item_id, found {', '.join(rows.columns)}")
                ids = rows["item_id"].cast(pl.String).drop_nulls().unique(maintain_order=True).to_list()
                n_deleted = opened.delete(ids)
                counts["items"] += len(ids)
                counts["deleted"] += n_deleted
                counts["absent"] += len(ids) - n_deleted
                bar.advance(rows.height)
    return {**told, **counts}


@contextmanager
def _opened(store: str, bundle: Path) -> Iterator[tuple[ItemStore, Scorer, dict[str, Any]]]:
    """A store for a bundle's encoding, and what a report says of the two."""
    folder = bundle_folder(bundle)
    settings = Settings(bundle=folder, store=store)
    check_store(settings)
    scorer = open_bundle(folder)
    opened = open_store(settings, scorer)
    try:
        yield opened, scorer, {"store": opened.address, "encoding": encoding_of(scorer.description)}
    finally:
        opened.close()


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
    n_rows, slices = _slices(file)
    with progress("items: load", n_rows, "items") as bar:
        for lines, rows in slices:
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


def _slices(file: Path) -> tuple[int, Iterator[tuple[pl.Series, pl.DataFrame]]]:
    """How many rows there are, and lines and rows, a batch at a time.

    Parquet may be larger than memory; another table is read whole.
    """
    if kind_of(file) == ".parquet":
        n_rows = _height(file)
        return n_rows, _parquet_slices(file, n_rows)
    table = read_table(file)
    if table.broken.height:
        first = table.broken.row(0, named=True)
        raise DataError(f"{file}:{first['line']}: {first['reason']}")
    starts = range(0, table.rows.height, _BATCH)
    return table.rows.height, ((table.lines[at : at + _BATCH], table.rows[at : at + _BATCH]) for at in starts)


def _height(file: Path) -> int:
    try:
        return int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item())
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{file}: not a readable Parquet file: {reason}") from None


def _parquet_slices(file: Path, n_rows: int) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    scan = pl.scan_parquet(file, glob=False)
    for start in range(0, n_rows, _BATCH * 20):
        part = scan.slice(start, _BATCH * 20).collect()
        for at in range(0, part.height, _BATCH):
            rows = part[at : at + _BATCH]
            first_line = start + at + 1
            yield pl.Series(range(first_line, first_line + rows.height), dtype=pl.Int64), rows
