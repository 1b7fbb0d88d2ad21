"""Items given anew, from raw fields to the rows that the scorer reads, by the code that made those of the export."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from tokenizers import Tokenizer

from pertinent.bundle.rows import ItemRows
from pertinent.bundle.scorer import Scorer
from pertinent.data.folder import ITEM_COLUMNS
from pertinent.data.items import clean_item_table
from pertinent.data.source import Table
from pertinent.data.tables import frame_of
from pertinent.errors import DataError, ModelError
from pertinent.features.corpus import FIELDS, LexicalItems
from pertinent.features.side import GIVEN, Interest
from pertinent.text.build import render_items
from pertinent.text.config import TextConfig
from pertinent.text.sources import SERVED, FieldSource, overlay
from pertinent.text.tokens import load_counting_tokenizer

ITEM_TEXT_KEYS = ("fields", "max_tokens", "drop_repeats", "lists")  # of text.json, kept in bundle.json


@dataclass(frozen=True)
class ItemEncoder:
    """Encodes items for one bundle. attributes: the fields and columns it reads beside the standard ones.

    lists: those of them that are lists of texts. tokenizer: counts the tokens of a text's budget.
    """

    scorer: Scorer
    config: TextConfig
    attributes: tuple[str, ...]
    lists: frozenset[str]
    tokenizer: Tokenizer

    @classmethod
    def of(cls, scorer: Scorer, folder: Path) -> ItemEncoder:
        """Raises ModelError for a bundle that does not say how its items' texts were made."""
        about = scorer.description.get("item_text")
        if about is None:
            raise ModelError(
                f"{folder}: expected a bundle that says how an item's text is made (item_text), found none; export it again"
            )
        config = TextConfig.model_validate({key: about[key] for key in ("fields", "max_tokens", "drop_repeats")})
        read = [field.name for field in config.fields]
        read += [spec.source for side in scorer.sides for spec in side.specs if spec.name.startswith(GIVEN)]
        read += [side.column for side in scorer.sides if isinstance(side, Interest)]
        others = [name for name in dict.fromkeys(read) if name not in ITEM_COLUMNS and not name.startswith("numeric.")]
        tokenizer = load_counting_tokenizer(folder / "tokenizer.json")
        return cls(scorer, config, tuple(others), frozenset(about["lists"]), tokenizer)

    def clean(self, objects: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """JSON objects as the data stage would have them.

        Raises DataError for a key that neither a data set nor this bundle knows, and for the first broken item.
        """
        known = (*ITEM_COLUMNS, *self.attributes)
        for i, one in enumerate(objects):
            for key in one:
                if key not in known and not key.startswith("numeric."):
                    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                    raise DataError(f"items.{i}: unknown field {key}; {hint}")
        places = pl.Series(range(len(objects)), dtype=pl.Int64)
        cleaned, broken = self.clean_frame("items", frame_of(objects), places)
        if broken.height:
            first = broken.row(0, named=True)
            raise DataError(f"items.{first['line']}: {first['reason']}")
        return cleaned

    def clean_frame(self, file: str, rows: pl.DataFrame, lines: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows of a table under our names as the data stage would have them, and those set aside.

        Columns that neither a data set nor this bundle knows are not read. Raises DataError without an item_id.
        """
        known = {*ITEM_COLUMNS, *self.attributes}
        columns = {name: name for name in rows.columns if name in known or name.startswith("numeric.")}
        if "item_id" not in columns:
            raise DataError(f"{file}: expected the column item_id, found {', '.join(rows.columns) or 'none'}")
        attributes = tuple(name for name in self.attributes if name in columns)
        table = Table(file, lines, rows, columns)
        cleaned, broken, _ = clean_item_table(table, attributes, lists=self.lists)
        return cleaned, broken

    def encode(self, items: pl.DataFrame, sources: Sequence[FieldSource] = ()) -> ItemRows:
        """Rows of items as the data stage has them. sources: fields of other stages, laid over them."""
        texts = render_items(overlay(items, sources, SERVED) if sources else items, self.config, self.tokenizer)
        rows = self.scorer.row_of.find(items["item_id"].to_list())
        lexical = LexicalItems.of({field: texts[field].to_list() for field in FIELDS}, self.scorer.statistics)
        sides = [side.with_values(side.encoded(items, rows)) for side in self.scorer.sides]
        vectors = self.scorer.rounded(self.scorer.encoder.encode(texts["text"].to_list()))
        return ItemRows(vectors, lexical, tuple(sides))
