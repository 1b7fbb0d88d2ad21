"""The text stage's table, read by every later stage: the text of an item, and of a pair the version that is fair to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.data.splits import cross_folds
from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet
from pertinent.text.sources import SERVED

ITEMS_FILE = "items.parquet"
ABOUT_FILE = "text.json"


@dataclass(frozen=True)
class ItemTexts:
    """Rows of the text stage, those of version -1 first and in the catalogue's order.

    A training pair reads the version of its query's cross-fitting fold, which was made without that fold's part of the
    log; every other pair, and serving, reads version -1. Where an item has no such version, -1 stands for it: without
    mined fields there is nothing else. rows: item_id, text_version and the columns asked for. source: for messages.
    """

    rows: pl.DataFrame
    n_folds: int | None
    source: Path

    @classmethod
    def read(cls, folder: Path, columns: Sequence[str] = ("text",)) -> ItemTexts:
        """Read the text stage's folder. A table without text_version has one text an item.

        Raises DataError where the file is missing, damaged, or has versions and no text.json that tells the folds.
        """
        file = folder / ITEMS_FILE
        rows = read_parquet(file, ["item_id", *columns])
        if "text_version" in pl.read_parquet_schema(file):
            rows = rows.insert_column(1, read_parquet(file, ["text_version"])["text_version"])
        else:
            rows = rows.insert_column(1, pl.lit(SERVED, pl.Int8).alias("text_version"))
        served = pl.col("text_version") == SERVED
        rows = pl.concat([rows.filter(served), rows.filter(~served)])
        if not rows.filter(~served).height:
            return cls(rows, None, file)
        n_folds = read_json(folder / ABOUT_FILE).get("n_folds")
        if not isinstance(n_folds, int):
            raise DataError(f"{folder / ABOUT_FILE}: expected n_folds of the text versions, found {n_folds}")
        return cls(rows, n_folds, file)

    @cached_property
    def n_items(self) -> int:
        """Items, which are also the first rows."""
        return int((self.rows["text_version"] == SERVED).sum())

    @cached_property
    def served(self) -> pl.DataFrame:
        """The rows of version -1, one an item, in the catalogue's order."""
        return self.rows.head(self.n_items)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.served["item_id"].to_list())}

    @cached_property
    def _row_of_version(self) -> dict[tuple[str, int], int]:
        rest = self.rows.slice(self.n_items).select("item_id", "text_version")
        return {(item, version): row for row, (item, version) in enumerate(rest.iter_rows(), self.n_items)}

    def of_items(self, item_ids: Iterable[str]) -> list[str]:
        """The served text of each item. Raises DataError for an unknown one."""
        return self.rows["text"].gather(self._served_rows(item_ids)).to_list()

    def rows_of(self, pairs: pl.DataFrame) -> NDArray[np.int64]:
        """(N,) int64: the row that each pair may read. pairs: query, item_id, split ("train" reads its fold's version).

        Raises DataError for an item without a text.
        """
        rows = np.array(self._served_rows(pairs["item_id"]), dtype=np.int64)
        if self.n_folds is None:
            return rows
        training = pairs.with_row_index("pair").filter(pl.col("split") == "train")
        folds = cross_folds(training["query"], self.n_folds)
        for pair, item, fold in zip(training["pair"], training["item_id"], folds, strict=True):
            rows[pair] = self._row_of_version.get((item, fold), rows[pair])
        return rows

    def of_pairs(self, pairs: pl.DataFrame) -> list[str]:
        """The text of each pair's item; see `rows_of`."""
        return self.rows["text"].gather(self.rows_of(pairs)).to_list()

    def joined(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs with the columns of the row that each may read."""
        return pairs.hstack(self.rows[self.rows_of(pairs)].drop("item_id", "text_version"))

    def _served_rows(self, item_ids: Iterable[str]) -> list[int]:
        row_of = self._row_of
        try:
            return [row_of[item] for item in item_ids]
        except KeyError as error:
            raise DataError(f"{self.source}: expected every item of the pairs, found no {error.args[0]}") from None
