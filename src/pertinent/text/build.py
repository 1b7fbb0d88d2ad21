"""The text stage: items.parquet of the data stage -> items.parquet with the text of each item."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from tokenizers import Tokenizer

from pertinent.data.build import load_dataset
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json, write_parquet
from pertinent.progress import Progress, progress
from pertinent.text.config import ATTRIBUTE_TOKENS, FieldConfig, TextConfig
from pertinent.text.item_texts import ABOUT_FILE, ITEMS_FILE
from pertinent.text.representation import MARK, Field, render, tag_of
from pertinent.text.sources import SERVED, FieldSource, overlay, read_sources, versions_of
from pertinent.text.tokens import PhraseTokens, load_counting_tokenizer
from pertinent.types import StageResult

_BATCH_ITEMS = 2_000


def build_text(
    config: TextConfig, data: Path, out: Path, *, tokenizer_file: Path, sources: Sequence[Path] = ()
) -> StageResult:
    """Write out/items.parquet: item_id, text_version, text, text_hash, n_tokens, n_cut, title, body, language.

    text is what the teacher reads; title and body are the same fields cleaned and whole, for lexical features
    (body: every field but the title, joined). Where the config names no fields, the data set's attributes come after
    the default ones. tokenizer_file: the teacher's tokenizer.json. sources: folders with item fields that other stages
    made (`text.sources`); their versions are rows of their own where the text differs from version -1. Read it with
    `ItemTexts`. Also writes out/text.json: {"fields", "max_tokens", "drop_repeats", "lists", "n_folds"}; lists: the fields that are lists of texts.
    Raises ConfigError when no configured field is in the data set.
    """
    prepared = prepare_text(config, data, sources)
    tokenizer = load_counting_tokenizer(tokenizer_file)
    frame, n_repeated = _render_all(prepared, tokenizer)
    served = frame.filter(pl.col("text_version") == SERVED)
    empty = served.filter(pl.col("text") == "").height
    if empty == served.height:
        known = ", ".join(prepared.names)
        raise DataError(f"{data / 'items.parquet'}: expected some text in {known}, found none in any item")
    write_parquet(out / ITEMS_FILE, frame)
    settings = prepared.config.model_dump(mode="json", include={"fields", "max_tokens", "drop_repeats"})
    schema = prepared.of_version(SERVED).schema
    lists = [name for name in prepared.names if isinstance(schema[name], pl.List)]
    write_json(out / ABOUT_FILE, {**settings, "lists": lists, "n_folds": prepared.n_folds})
    tokens = served["n_tokens"]
    counts = {
        "items": served.height,
        "items_without_text": empty,
        "items_cut": served.filter(pl.col("n_cut") > 0).height,
        "parts_repeated": n_repeated,
        "tokens_mean": round(float(tokens.to_numpy().mean()), 1),
        "tokens_max": int(tokens.to_numpy().max()),
        "fields": prepared.names,
        "version_rows": frame.height - served.height,
    }
    return StageResult(counts, warnings=prepared.warnings)


@dataclass(frozen=True)
class PreparedText:
    """Items with the fields of every source, ready to be rendered.

    config: as it is used, the attributes named. names: the configured fields that the items have, in order.
    """

    config: TextConfig
    names: list[str]
    items: pl.DataFrame
    sources: list[FieldSource]
    n_folds: int | None
    warnings: list[str]

    def of_version(self, version: int) -> pl.DataFrame:
        """The items of a text version: all for -1, else those that have it."""
        return overlay(self.items, self.sources, version) if self.sources else self.items


def prepare_text(config: TextConfig, data: Path, sources: Sequence[Path] = ()) -> PreparedText:
    """Read the items and the sources, and settle the fields. Raises ConfigError when no configured field is there."""
    dataset = load_dataset(data)
    found, n_folds = read_sources(sources)
    columns = [*dataset.items.columns, *(name for source in found for name in source.columns)]
    told = "fields" in config.model_fields_set
    config = _with_attributes(config, dataset.attributes)
    known = [field.name for field in config.fields if field.name in columns]
    unknown = [field.name for field in config.fields if field.name not in columns]
    if not known:
        present = ", ".join(dict.fromkeys(column for column in columns if column != "item_id"))
        raise ConfigError(
            f"text.fields: expected at least one column of the items ({present}), found {', '.join(unknown)}"
        )
    warnings = [f"text.fields: the items have no column {name}" for name in unknown if told]
    unread = [(source.folder, name) for source in found for name in source.columns if name not in known]
    warnings += [f"text.fields: {folder.name} makes {name}, which no field reads" for folder, name in unread]
    return PreparedText(config, known, dataset.items, found, n_folds, warnings)


def _with_attributes(config: TextConfig, attributes: Sequence[str]) -> TextConfig:
    """The config as written; where it names no fields, the default ones and the data set's own attributes."""
    if "fields" in config.model_fields_set:
        return config
    named = {field.name for field in config.fields}
    more = tuple(FieldConfig(name=name, tokens=ATTRIBUTE_TOKENS) for name in attributes if name not in named)
    return config.model_copy(update={"fields": (*config.fields, *more)})


def render_items(items: pl.DataFrame, config: TextConfig, tokenizer: Tokenizer) -> pl.DataFrame:
    """The rows of version -1 that `build_text` would write of these items, in their order.

    items: item_id and any of the config's fields, as in the data stage's table. config: as the text stage used it.
    """
    names = [field.name for field in config.fields if field.name in items.columns]
    rows, _ = _render_batch(items.select("item_id", *names).to_dicts(), SERVED, names, config, tokenizer)
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA = {
    "item_id": pl.String,
    "text_version": pl.Int8,
    "text": pl.String,
    "text_hash": pl.String,
    "n_tokens": pl.Int32,
    "n_cut": pl.Int32,
    "title": pl.String,
    "body": pl.String,
    "language": pl.String,
}


def _render_all(prepared: PreparedText, tokenizer: Tokenizer) -> tuple[pl.DataFrame, int]:
    """The rows of every version, and how many parts were left out of version -1 as repeated."""
    parts = [(version, prepared.of_version(version)) for version in (SERVED, *versions_of(prepared.sources))]
    with progress("text: render", sum(items.height for _, items in parts), "items") as bar:
        rendered = [_render_version(items, version, prepared, tokenizer, bar) for version, items in parts]
    (served, n_repeated), *others = rendered
    # A version that reads, and matches, as version -1 does needs no row of its own.
    same = ["item_id", "text", "body", "title"]
    kept = [frame.join(served, on=same, how="anti", maintain_order="left") for frame, _ in others]
    return pl.concat([served, *kept]), n_repeated


def _render_version(
    items: pl.DataFrame, version: int, prepared: PreparedText, tokenizer: Tokenizer, bar: Progress
) -> tuple[pl.DataFrame, int]:
    frames, n_repeated = [pl.DataFrame(schema=_SCHEMA)], 0
    columns = ["item_id", *prepared.names, *(["language"] if "language" in items.columns else [])]
    for part in items.select(list(dict.fromkeys(columns))).iter_slices(_BATCH_ITEMS):
        rows, n = _render_batch(part.to_dicts(), version, prepared.names, prepared.config, tokenizer)
        frames.append(pl.DataFrame(rows, schema=_SCHEMA))
        n_repeated += n
        bar.advance(part.height)
    return pl.concat(frames), n_repeated


def _render_batch(
    batch: list[dict[str, Any]], version: int, names: Sequence[str], config: TextConfig, tokenizer: Tokenizer
) -> tuple[list[dict[str, Any]], int]:
    fields = [[Field.of(name, row[name]) for name in names] for row in batch]
    tokens = PhraseTokens(tokenizer)
    tokens.add([MARK, *map(tag_of, names), *(entry for item in fields for field in item for entry in field.entries)])
    rows, n_repeated = [], 0
    for row, item in zip(batch, fields, strict=True):
        rendered = render(item, tokens, config)
        n_repeated += rendered.n_repeated
        title = " ".join(entry for field in item if field.name == "title" for entry in field.entries)
        body = " ".join(entry for field in item if field.name != "title" for entry in field.entries)
        rows.append(
            {
                "item_id": row["item_id"],
                "text_version": version,
                "text": rendered.text,
                "text_hash": hashlib.sha256(rendered.text.encode()).hexdigest()[:16],
                "n_tokens": rendered.n_tokens,
                "n_cut": rendered.n_cut,
                "title": title,
                "body": body,
                "language": row.get("language"),
            }
        )
    return rows, n_repeated
