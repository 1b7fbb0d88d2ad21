"""The links stage: saved pages of items -> fields.parquet with the title and description of each item's page."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from pertinent.data.build import load_dataset
from pertinent.data.columns import Column, Entry, open_column, slices
from pertinent.data.sieve import reasons_of
from pertinent.data.source import QUARANTINE_SCHEMA
from pertinent.data.units import is_whole, unit_files
from pertinent.errors import ConfigError, DataError
from pertinent.files import read_parquet, sha256_of_file, write_parquet
from pertinent.links.config import LinksConfig
from pertinent.links.extract import LinkText, PageError, read_page
from pertinent.links.metadata import PRODUCTS
from pertinent.links.pages import Page, load_page, pages_of_warc, require_warc, url_key
from pertinent.progress import progress, say
from pertinent.types import StageResult

_THING = ("kind", "name", "description", "brand", "category", "color", "material", "price", "currency")
_PARTS = ("title", "description", "og_title", "og_description", "site_name", "heading")
_UNIT_SCHEMA: dict[str, Any] = {
    "row": pl.Int64,
    "entry": pl.Int32,
    "item_id": pl.String,
    "page": pl.String,  # its path or URL; null for HTML in a column
    "reason": pl.String,  # why there is no text
    "link_title": pl.String,
    "link_description": pl.String,
    **dict.fromkeys(_PARTS, pl.String),
    **{f"thing_{part}": pl.String for part in _THING},
    "lead": pl.String,
    "encoding": pl.String,
    "cut": pl.Boolean,
}
_FIELDS_SCHEMA = {
    "item_id": pl.String,
    "text_version": pl.Int8,
    "link_title": pl.String,
    "link_description": pl.String,
}
_BATCH_PAGES = 32
_PACKAGES = ("charset_normalizer", "lxml", "lxml_html_clean", "trafilatura", "warcio")
_DAMAGE = -1  # in place of a row: what stands there is of the whole WARC file
Found = tuple[Entry, "Page | PageError"]
Reader = Callable[[Sequence[Found]], "list[dict[str, Any]]"]


def read_links(config: LinksConfig, data: Path, out: Path, *, seed: int) -> StageResult:
    """Read the items' pages: out/fields.parquet with item_id, text_version (-1), link_title and link_description.

    data: the data stage's folder. An item whose pages give nothing has no row; of several pages the first that gives
    something counts. out/unit-NNNNN.parquet, one for each slice of rows or each WARC file, hold all that was found on each page
    (title, description, Open Graph, JSON-LD, lead, encoding); they are whole or absent, so a killed stage goes on after
    the last. A page that cannot be read goes to out/quarantine.parquet with its reason. seed: nothing is drawn.
    Raises DataError where no item has a page, ConfigError for a wrong column.
    """
    _require_packages()
    column = _open(config, data)
    with ExitStack() as stack:
        pool = None
        if config.workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(config.workers, mp_context=context))
        reader = partial(_read_batch, config, pool)
        units = (
            _read_warcs(config, column, out, reader) if config.pages.warc else _read_slices(config, column, out, reader)
        )
    return _collect(config, column, units, out)


def link_inputs(config: LinksConfig, data: Path) -> dict[str, str]:
    """Hashes of what the stage reads beside its config, for its manifest: a file by name, size and time of change."""
    column = _open(config, data)
    digest = hashlib.sha256()
    for file in config.pages.warc:
        digest.update(orjson.dumps([str(file), *_stat(file)]))
    if config.pages.folder is not None:
        for file in sorted(path for path in config.pages.folder.rglob("*") if path.is_file()):
            digest.update(orjson.dumps([str(file.relative_to(config.pages.folder)), *_stat(file)]))
    inputs = {"pages": digest.hexdigest()}
    return inputs if column.table is None else {**inputs, "table": sha256_of_file(column.table)}


def _stat(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    return [found.st_size, found.st_mtime_ns]


def _open(config: LinksConfig, data: Path) -> Column:
    for path in (config.pages.folder, *config.pages.warc):
        if path is not None and not path.exists():
            raise DataError(f"{path}: no such file or folder (links.pages)")
    for file in config.pages.warc:
        require_warc(file)
    items = load_dataset(data).items.select("item_id")
    name = config.pages.column or config.pages.id_column
    return open_column(config.pages, name, items, data / "items.parquet", "links.pages.column")


def _require_packages() -> None:
    absent = [package for package in _PACKAGES if find_spec(package) is None]
    if absent:
        raise ConfigError(
            f"links: expected the extra links, found no {', '.join(absent)}: pip install 'pertinent[links]'"
        )


def _read_slices(config: LinksConfig, column: Column, out: Path, reader: Reader) -> list[Path]:
    """Read the pages of each slice of rows whose unit is not there yet. Returns all units."""
    starts = range(0, column.n_rows, config.unit_pages)
    units = list(zip(unit_files(out, len(starts)), starts, strict=True))
    todo = [(unit, start) for unit, start in units if not is_whole(unit, _UNIT_SCHEMA, "links")]
    sizes = {start: min(config.unit_pages, column.n_rows - start) for _, start in units}
    n_done = column.n_rows - sum(sizes[start] for _, start in todo)
    if n_done:
        say(f"links: {n_done:,} rows are done already")
    with progress("links", column.n_rows, "rows", n_done) as bar:
        for unit, start in todo:
            found: list[Found] = []
            for entry in column.entries(start, config.unit_pages):
                try:
                    if (page := load_page(entry, config.pages)) is not None:
                        found.append((entry, page))
                except PageError as error:
                    found.append((entry, error))
            _write_unit(unit, reader(found))
            bar.advance(sizes[start])
    return [unit for unit, _ in units]


def _read_warcs(config: LinksConfig, column: Column, out: Path, reader: Reader) -> list[Path]:
    """Read the wanted pages of each WARC file whose unit is not there yet. Returns all units."""
    wanted: dict[str, list[Entry]] = {}
    for _, start in slices(column.n_rows, 65_536):
        for entry in column.entries(start, 65_536):
            if isinstance(entry.value, str):
                wanted.setdefault(url_key(entry.value), []).append(entry)
    if not wanted:
        raise DataError(f"{column.file}: expected URLs in column {config.pages.column!r}, found none")
    units = unit_files(out, len(config.pages.warc))
    each = zip(config.pages.warc, units, strict=True)
    todo = [(file, unit) for file, unit in each if not is_whole(unit, _UNIT_SCHEMA, "links")]
    with progress("links", sum(file.stat().st_size for file in config.pages.warc) >> 20, "MiB") as bar:
        bar.advance(sum(file.stat().st_size for file in config.pages.warc if file not in {f for f, _ in todo}) >> 20)
        for file, unit in todo:
            _write_unit(unit, _read_warc(config, file, wanted, reader))
            bar.advance(file.stat().st_size >> 20)
    return units


def _read_warc(config: LinksConfig, file: Path, wanted: dict[str, list[Entry]], reader: Reader) -> list[dict[str, Any]]:
    """The rows of one WARC file: for each URL the first page that gives something, else why the last gave nothing.

    Of a file that ends too early a row _DAMAGE says so; what came before counts.
    """
    damage: list[dict[str, Any]] = []
    rows: dict[str, dict[str, Any]] = {}
    waiting: list[Found] = []

    def settle() -> None:
        for (entry, _), row in zip(waiting, reader(waiting), strict=True):
            key = url_key(str(entry.value))
            if key not in rows or rows[key].get("reason") is not None:
                rows[key] = row
        waiting.clear()

    try:
        for key, page in pages_of_warc(file, wanted, config.pages.max_bytes):
            if key not in rows or rows[key].get("reason") is not None:
                waiting.append((wanted[key][0], page))
            if len(waiting) >= _BATCH_PAGES * config.workers:
                settle()
    except DataError as error:
        damage.append({"row": _DAMAGE, "entry": 0, "reason": str(error)})
    settle()
    places = ("row", "entry", "item_id")
    return damage + [
        {**row, **{name: getattr(entry, name) for name in places}, "page": entry.value}
        for key, row in rows.items()
        for entry in wanted[key]
    ]


def _read_batch(config: LinksConfig, pool: ProcessPoolExecutor | None, found: Sequence[Found]) -> list[dict[str, Any]]:
    """A row for each page, in order."""
    read = partial(_read_one, config)
    pages = [page for _, page in found]
    texts = list(pool.map(read, pages, chunksize=_BATCH_PAGES)) if pool is not None else [read(page) for page in pages]
    return [
        {
            "row": entry.row,
            "entry": entry.entry,
            "item_id": entry.item_id,
            "page": None if config.pages.holds == "html" else entry.value,
            **text,
        }
        for (entry, _), text in zip(found, texts, strict=True)
    ]


def _read_one(config: LinksConfig, page: Page | PageError) -> dict[str, Any]:
    """The columns of a page; of one that cannot be read, its reason."""
    if isinstance(page, PageError):
        return {"reason": str(page)}
    try:
        return _columns(read_page(page.content, config, page.declared))
    except PageError as error:
        return {"reason": str(error)}
    except Exception as error:  # parsers fail in many ways on a page that was made to break them
        found = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"
        return {"reason": f"page must be one that can be read, got {found}"}


def _columns(text: LinkText) -> dict[str, Any]:
    metadata = asdict(text.metadata)
    thing = metadata.pop("thing") or {}
    return {
        "link_title": text.link_title,
        "link_description": text.link_description,
        **metadata,
        **{f"thing_{part}": thing.get(part) for part in _THING},
        "lead": text.lead,
        "encoding": text.encoding,
        "cut": text.cut,
    }


def _write_unit(unit: Path, rows: list[dict[str, Any]]) -> None:
    write_parquet(unit, pl.DataFrame(rows, schema=_UNIT_SCHEMA).sort("row", "entry"))


def _collect(config: LinksConfig, column: Column, units: list[Path], out: Path) -> StageResult:
    """Write fields.parquet and quarantine.parquet from all units."""
    rows = pl.concat([read_parquet(unit) for unit in units]) if units else pl.DataFrame(schema=_UNIT_SCHEMA)
    warnings = rows.filter(pl.col("row") == _DAMAGE)["reason"].to_list()
    rows = rows.filter(pl.col("row") != _DAMAGE)
    if config.pages.warc:
        rows = _first_of_each_url(config, column, rows)
    rows = rows.sort("row", "entry")
    read = rows.filter(pl.col("reason").is_null())
    broken = rows.filter(pl.col("reason").is_not_null())
    if not rows.height:
        raise DataError(f"{column.file}: expected pages of the items, found none (links.pages)")
    first = read.unique("item_id", keep="first", maintain_order=True)
    fields = first.with_columns(text_version=pl.lit(-1, pl.Int8)).select(list(_FIELDS_SCHEMA)).sort("item_id")
    write_parquet(out / "fields.parquet", fields)
    shown = [orjson.dumps(row).decode() for row in broken.select("item_id", "entry", "page").iter_rows(named=True)]
    lines = broken["row"] + 1
    quarantined = pl.DataFrame(
        {"file": [column.file] * broken.height, "line": lines, "reason": broken["reason"], "row": shown},
        schema=QUARANTINE_SCHEMA,
    )
    write_parquet(out / "quarantine.parquet", quarantined)
    counts = {
        "pages": rows.height,
        "pages_read": read.height,
        "pages_cut": read.filter("cut").height,
        "pages_with_product": read.filter(pl.col("thing_kind").is_in(PRODUCTS)).height,
        "items_with_link_text": fields.height,
        "rows_of_unknown_items": column.item_ids.null_count(),
        "encodings": dict(read["encoding"].value_counts().sort("encoding").iter_rows()),
    }
    return StageResult(counts, reasons_of(quarantined), warnings)


def _first_of_each_url(config: LinksConfig, column: Column, rows: pl.DataFrame) -> pl.DataFrame:
    """One row an entry: the first file's that gave something; entries that no file has get a reason."""
    best = rows.with_row_index("order").sort(pl.col("reason").is_not_null(), "order")
    best = best.unique(["row", "entry"], keep="first", maintain_order=True).drop("order")
    seen = set(best.select("row", "entry").iter_rows())
    absent = []
    for _, start in slices(column.n_rows, 65_536):
        for entry in column.entries(start, 65_536):
            if (entry.row, entry.entry) not in seen:
                shown = entry.value if isinstance(entry.value, str) else None
                reason = "page must be in the WARC files, got no response of its URL"
                absent.append(
                    {"row": entry.row, "entry": entry.entry, "item_id": entry.item_id, "page": shown, "reason": reason}
                )
    return pl.concat([best, pl.DataFrame(absent, schema=_UNIT_SCHEMA)])
