"""The text stage: items.parquet of the data stage -> items.parquet with the text of each item."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from tokenizers import Tokenizer

from pertinent.data.build import load_dataset
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_parquet
from pertinent.progress import progress
from pertinent.text.config import ATTRIBUTE_TOKENS, FieldConfig, TextConfig
from pertinent.text.representation import MARK, Field, entries_of, render, tag_of
from pertinent.types import StageResult

_BATCH_ITEMS = 2_000


def build_text(config: TextConfig, data: Path, out: Path, *, tokenizer_file: Path) -> StageResult:
    """Write out/items.parquet: item_id, text, text_hash, n_tokens, n_cut, title, body, language.

    text is what the teacher reads; title and body are the same fields cleaned and whole, for lexical features
    (body: every field but the title, joined). Where the config names no fields, the data set's attributes come after
    the default ones. tokenizer_file: the teacher's tokenizer.json.
    Raises ConfigError when no configured field is in the data set.
    """
    dataset = load_dataset(data)
    items = dataset.items
    told = "fields" in config.model_fields_set
    config = _with_attributes(config, dataset.attributes)
    known = [field.name for field in config.fields if field.name in items.columns]
    unknown = [field.name for field in config.fields if field.name not in items.columns]
    if not known:
        columns = ", ".join(column for column in items.columns if column != "item_id")
        raise ConfigError(
            f"text.fields: expected at least one column of the items ({columns}), found {', '.join(unknown)}"
        )
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows: list[dict[str, Any]] = []
    with progress("text: render", items.height, "items") as bar:
        for part in items.iter_slices(_BATCH_ITEMS):
            rows += _render_batch(part.to_dicts(), known, config, tokenizer)
            bar.advance(part.height)
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    empty = frame.filter(pl.col("text") == "").height
    if empty == frame.height:
        raise DataError(f"{data / 'items.parquet'}: expected some text in {', '.join(known)}, found none in any item")
    write_parquet(out / "items.parquet", frame)
    tokens = frame["n_tokens"]
    counts = {
        "items": frame.height,
        "items_without_text": empty,
        "items_cut": frame.filter(pl.col("n_cut") > 0).height,
        "tokens_mean": round(float(tokens.to_numpy().mean()), 1),
        "tokens_max": int(tokens.to_numpy().max()),
        "fields": known,
    }
    warnings = [f"text.fields: the items have no column {name}" for name in unknown if told]
    return StageResult(counts, warnings=warnings)


def _with_attributes(config: TextConfig, attributes: Sequence[str]) -> TextConfig:
    """The config as written; where it names no fields, the default ones and the data set's own attributes."""
    if "fields" in config.model_fields_set:
        return config
    named = {field.name for field in config.fields}
    more = tuple(FieldConfig(name=name, tokens=ATTRIBUTE_TOKENS) for name in attributes if name not in named)
    return TextConfig(fields=(*config.fields, *more), max_tokens=config.max_tokens)


_SCHEMA = {
    "item_id": pl.String,
    "text": pl.String,
    "text_hash": pl.String,
    "n_tokens": pl.Int32,
    "n_cut": pl.Int32,
    "title": pl.String,
    "body": pl.String,
    "language": pl.String,
}


def _render_batch(
    batch: list[dict[str, Any]], names: list[str], config: TextConfig, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    fields = [[Field(name, entries_of(row[name])) for name in names] for row in batch]
    phrases = {entry for item in fields for field in item for entry in field.entries}
    phrases.update({MARK, *(tag_of(name) for name in names)})
    ordered = sorted(phrases)
    encodings = tokenizer.encode_batch(ordered, add_special_tokens=False)
    counts = {phrase: len(encoding.ids) for phrase, encoding in zip(ordered, encodings, strict=True)}
    rows = []
    for row, item in zip(batch, fields, strict=True):
        rendered = render(item, counts, config, tokenizer)
        title = " ".join(entry for field in item if field.name == "title" for entry in field.entries)
        body = " ".join(entry for field in item if field.name != "title" for entry in field.entries)
        rows.append(
            {
                "item_id": row["item_id"],
                "text": rendered.text,
                "text_hash": hashlib.sha256(rendered.text.encode()).hexdigest()[:16],
                "n_tokens": rendered.n_tokens,
                "n_cut": rendered.n_cut,
                "title": title,
                "body": body,
                "language": row.get("language"),
            }
        )
    return rows
