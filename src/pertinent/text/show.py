"""What the teacher reads of one item, field by field: `pertinent text show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.errors import DataError
from pertinent.text.build import prepare_text
from pertinent.text.config import TextConfig
from pertinent.text.representation import Field, WrittenField, lay_out, text_of
from pertinent.text.sources import SERVED
from pertinent.text.tokens import PhraseTokens, load_counting_tokenizer


@dataclass(frozen=True)
class ShownItem:
    """One item's text and how it came about. absent: configured fields that the item has nothing in."""

    item_id: str
    text_version: int
    text: str
    n_tokens: int
    max_tokens: int
    fields: list[WrittenField]
    absent: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        fields = [{**vars(field), "cut": list(field.cut), "repeated": list(field.repeated)} for field in self.fields]
        return {**vars(self), "fields": fields}


def show_item(
    config: TextConfig,
    data: Path,
    item_id: str,
    *,
    tokenizer_file: Path,
    sources: Sequence[Path] = (),
    version: int = SERVED,
) -> ShownItem:
    """Lay out one item as the text stage does. version: the text version, -1 for what serving reads.

    Raises DataError for an unknown item.
    """
    prepared = prepare_text(config, data, sources)
    wanted = pl.col("item_id") == item_id
    found = prepared.of_version(version).filter(wanted) if version != SERVED else None
    if found is None or found.is_empty():  # without a row of its own, the served one stands for the version
        found = prepared.of_version(SERVED).filter(wanted)
    if found.is_empty():
        example = prepared.items["item_id"][0]
        raise DataError(f"{data / 'items.parquet'}: expected an item_id such as {example}, found no item {item_id}")
    row = found.row(0, named=True)
    fields = [Field.of(name, row[name]) for name in prepared.names]
    written = lay_out(fields, PhraseTokens(load_counting_tokenizer(tokenizer_file)), prepared.config)
    shown = [field for field in written if field.value]
    return ShownItem(
        item_id=item_id,
        text_version=version,
        text=text_of(written),
        n_tokens=sum(field.n_tokens + field.n_fixed for field in shown),
        max_tokens=prepared.config.max_tokens,
        fields=written,
        absent=[field.name for field in fields if not field.entries],
    )
