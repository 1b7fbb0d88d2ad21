"""A bundle's item store for a catalogue as it is now: items that changed meaningfully are encoded anew, the others kept.

No torch: the bundle's own code and networks do it. The new store is written beside the old one and replayed; bundle.json,
which names the store, is replaced last, so that a kill at any time leaves a whole bundle, the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle.building import item_vectors, write_texts
from pertinent.bundle.format import STORE, bundle_folder, write_description
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.scorer import Scorer, open_bundle
from pertinent.bundle.store import PROBE, TEXTS, ItemStore, mapped_bytes
from pertinent.bundle.verify import replay
from pertinent.data.sieve import reasons_of
from pertinent.data.tables import read_table
from pertinent.errors import DataError, ModelError
from pertinent.features.corpus import FIELDS, LexicalItems
from pertinent.features.strings import StringTable
from pertinent.files import read_parquet, write_parquet
from pertinent.progress import progress
from pertinent.text.build import render_items
from pertinent.text.changes import ChangesConfig, changed_between
from pertinent.text.sources import SERVED, FieldSource, overlay, read_sources

_BATCH = 4_096  # items whose text is rendered at a time
_COMPARED = (pl.lit(SERVED, pl.Int8).alias("text_version"), pl.col("text").alias("text_hash"))


def index_items(
    bundle: Path,
    items: Path,
    *,
    fields: Sequence[Path] = (),
    changes: ChangesConfig | None = None,
    skip_broken: bool = False,
) -> dict[str, Any]:
    """Make the item store of ``bundle`` that of the catalogue ``items``; what is not in it is dropped.

    items: a table with item_id and fields as a dataset folder has them. fields: folders of other stages (captions,
    boards, engaged queries, links), laid over the items as at the export. changes: when a changed text counts. An item
    whose text changed less keeps its text, terms and vector; a given column (price, category) is always read again.
    Returns {"bundle", "store", "items", "added", "changed", "columns_changed", "kept", "small_changes", "deleted",
    "replaced_probe_pairs", "refused"}; kept: items without any change but small ones. Where nothing changed, nothing is
    written. Raises DataError for the first broken row, ModelError for a bundle that another index run is at work on, that
    does not say how its texts are made, or whose kept probe pairs no longer replay.
    """
    folder = bundle_folder(bundle)
    with _alone(folder):
        scorer = open_bundle(folder)
        encoder = ItemEncoder.of(scorer, folder)
        cleaned, refused = _read(encoder, items, skip_broken)
        sources, _ = read_sources(fields)
        texts = _render(encoder, cleaned, sources)
        plan = _Plan.of(scorer, read_parquet(folder / scorer.description["store"] / TEXTS), cleaned, texts, changes)
        told = {"bundle": str(folder), "store": scorer.description["store"], **plan.counts, "refused": refused}
        if plan.unchanged:
            return {**told, "replaced_probe_pairs": 0}
        store, n_replaced = _write(folder, scorer, plan)
        return {**told, "store": store, "replaced_probe_pairs": n_replaced}


@dataclass(frozen=True)
class _Plan:
    """N items of the new catalogue. old_rows: (N,) int64 where each lies in the old store, -1 for a new one.

    encode: (N,) bool, its text is encoded anew. refresh: (N,) bool, its text stays and its columns changed. texts: what
    each item is made from, in order: the old text where it is kept. values: by side, (N, W) float32.
    """

    old_rows: NDArray[np.int64]
    encode: NDArray[np.bool_]
    refresh: NDArray[np.bool_]
    texts: pl.DataFrame
    values: tuple[NDArray[np.float32], ...]
    counts: dict[str, int]

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        before: pl.DataFrame,
        cleaned: pl.DataFrame,
        after: pl.DataFrame,
        config: ChangesConfig | None,
    ) -> _Plan:
        ids = after["item_id"].to_list()
        old_rows = scorer.row_of.find(ids)
        known = after.filter(pl.Series(old_rows >= 0))
        changes = changed_between(before.with_columns(_COMPARED), known.with_columns(_COMPARED), config)
        encode = after["item_id"].is_in(changes.filter("needed")["item_id"].implode()).to_numpy() | (old_rows < 0)
        held = np.flatnonzero(~encode)
        values = tuple(side.encoded(cleaned, old_rows) for side in scorer.sides)
        refresh = np.zeros(len(ids), dtype=bool)
        for side, new in zip(scorer.sides, values, strict=True):
            refresh[held] |= (side.values(old_rows[held]) != new[held]).any(axis=1)
        names = ["item_id", "title", "body", "text"]
        texts = pl.concat([before.select(names)[old_rows[held]], after.select(names).filter(pl.Series(encode))])
        texts = texts[np.argsort(np.concatenate([held, np.flatnonzero(encode)]))]
        small = changes.filter(pl.col("change") == "small").height
        counts = {
            "items": len(ids),
            "added": int((old_rows < 0).sum()),
            "changed": int((encode & (old_rows >= 0)).sum()),
            "columns_changed": int(refresh.sum()),
            "kept": int((~encode & ~refresh).sum()),
            "small_changes": small,
            "deleted": len(scorer.row_of) - int((old_rows >= 0).sum()),
        }
        return cls(old_rows, encode, refresh, texts, values, counts)

    @property
    def unchanged(self) -> bool:
        """Whether the old store is that of this catalogue; a mere change of order counts for nothing."""
        return not (self.encode.any() or self.refresh.any() or self.counts["deleted"])


def _read(encoder: ItemEncoder, file: Path, skip_broken: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    table = read_table(file)
    cleaned, broken = encoder.clean_frame(file.name, table.rows, table.lines)
    broken = pl.concat([table.broken, broken], how="diagonal_relaxed")
    if broken.height and not skip_broken:
        first = broken.row(0, named=True)
        raise DataError(f"{file}:{first['line']}: {first['reason']} (--skip-broken leaves such rows out)")
    if not cleaned.height:
        raise DataError(f"{file}: expected items, found none")
    return cleaned, reasons_of(broken)


def _render(encoder: ItemEncoder, cleaned: pl.DataFrame, sources: Sequence[FieldSource]) -> pl.DataFrame:
    laid = overlay(cleaned, sources, SERVED) if sources else cleaned
    parts = []
    with progress("index: text", laid.height, "items") as bar:
        for start in range(0, laid.height, _BATCH):
            parts.append(render_items(laid[start : start + _BATCH], encoder.config, encoder.tokenizer))
            bar.advance(parts[-1].height)
    return pl.concat(parts)


def _write(folder: Path, scorer: Scorer, plan: _Plan) -> tuple[str, int]:
    """Write the new store, replay it, and make it the bundle's; returns its name and how many probe pairs are others."""
    old = scorer.description["store"]
    new = f"{STORE}-{int(old.removeprefix(f'{STORE}-')) + 1 if old != STORE else 2}"
    shutil.rmtree(folder / new, ignore_errors=True)  # what a killed run left
    _made(scorer, plan).write(folder / new)
    write_texts(folder / new, plan.texts)
    store = ItemStore.open(folder, new)  # what is replayed is what lies there
    made = replace(scorer, row_of=store.ids, item_vectors=store.vectors, lexical=store.lexical, sides=store.sides)
    n_replaced = _write_probe(read_parquet(folder / old / PROBE), made, plan, folder / new)
    replay(made, folder / new / PROBE)
    n_items = len(store.ids)
    document = {key: value for key, value in scorer.description.items() if key not in ("format", "files")}
    n_bytes = round(mapped_bytes(folder / new) / n_items, 1)
    write_description(folder, {**document, "store": new, "n_items": n_items, "store_bytes_per_item": n_bytes})
    for path in list(folder.iterdir()):
        if path.name != new and re.fullmatch(rf"{STORE}(-\d+)?", path.name):
            shutil.rmtree(path)  # who has mapped it keeps its pages
    return new, n_replaced


def _made(scorer: Scorer, plan: _Plan) -> ItemStore:
    """The store of the new items, in memory."""
    held, fresh = np.flatnonzero(~plan.encode), np.flatnonzero(plan.encode)
    back = np.argsort(np.concatenate([held, fresh]))
    rows = plan.texts[fresh]
    sides = tuple(side.with_values(values) for side, values in zip(scorer.sides, plan.values, strict=True))
    written, encoded = _encode(scorer, rows)
    lexical = LexicalItems.joined([scorer.lexical.take(plan.old_rows[held]), written]).take(back)
    vectors = scorer.item_vectors.rows(np.maximum(plan.old_rows, 0))
    again = np.flatnonzero(plan.encode | plan.refresh)
    if again.size:
        own = vectors.first(again)
        own[np.searchsorted(again, fresh)] = encoded
        of_these = tuple(side.with_values(side.values(again)) for side in sides)
        made = item_vectors(
            scorer.item_session, own, lexical.take(again), scorer.statistics, of_these, vectors.precision
        )
        vectors = vectors.with_rows(again, made)
    ids = StringTable.of(plan.texts["item_id"].to_list())
    return ItemStore(ids, vectors, lexical, sides)


def _encode(scorer: Scorer, texts: pl.DataFrame) -> tuple[LexicalItems, NDArray[np.float32]]:
    """What the store keeps of texts: terms, and vectors (C, d)."""
    lexical = [LexicalItems.of({field: [] for field in FIELDS}, scorer.statistics)]
    vectors = [np.zeros((0, scorer.encoder.dimensions), dtype=np.float32)]
    with progress("index: encode", texts.height, "items") as bar:
        for part in texts.iter_slices(_BATCH):
            lexical.append(LexicalItems.of({field: part[field].to_list() for field in FIELDS}, scorer.statistics))
            vectors.append(scorer.encoder.encode(part["text"].to_list()))
            bar.advance(part.height)
    return LexicalItems.joined(lexical), np.concatenate(vectors)


def _write_probe(probe: pl.DataFrame, made: Scorer, plan: _Plan, store: Path) -> int:
    """Pairs whose item is as it was stay; the others take another item of the store, scored by the bundle itself."""
    rows = made.row_of.find(probe["item_id"].to_list())
    stays = (rows >= 0) & ~(plan.encode | plan.refresh)[rows]
    others = np.flatnonzero(~stays)
    rows[others] = np.linspace(0, len(made.row_of) - 1, others.size).astype(np.int64)
    features = np.array(probe["features"].to_list(), dtype=np.float32)
    probs = probe.select(made.scale.probability_columns).to_numpy().copy()
    for place in others:
        inputs = made.inputs(probe["query"][int(place)], rows[place : place + 1])
        features[place], probs[place] = inputs[2][0], made.run(*inputs)[0]
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(made.scale.probability_columns)]
    ids = plan.texts["item_id"][rows]
    told = pl.Series("features", features.tolist(), dtype=pl.List(pl.Float32))
    write_parquet(store / PROBE, probe.select("query").with_columns(ids.alias("item_id"), told, *columns))
    return int(others.size)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the bundle's folder; raises ModelError where another index run does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ModelError(f"{folder}: another index run is at work on this bundle") from None
    finally:
        os.close(descriptor)
