"""What is to be labelled: pairs sorted by length in one file on disk, of which units of fixed row count are read in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from pertinent.data.build import load_dataset
from pertinent.errors import DataError
from pertinent.files import read_parquet, reason_of, write_parquet
from pertinent.labelling.cache import cached_labels
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.sample import PAIR_SCHEMA, sample_pairs
from pertinent.mining.guards import are_held_out, load_held_out
from pertinent.text.item_texts import ItemTexts

PLAN = "plan.parquet"
TEXT_ROW = "text_row"
KEPT = ("query", "item_id", "language", "source", "text_hash")


@dataclass(frozen=True)
class Plan:
    """Pairs of a file in the order of their units. texts: what the file's column text_row points into.

    The file has query, item_id, text_hash, text_row and what else a shard keeps. Only the unit at hand is held in
    memory, beside the texts of the items: labelling a hundred times the pairs takes no more.
    """

    file: Path
    texts: pl.Series
    unit_pairs: int

    @cached_property
    def n_pairs(self) -> int:
        """Pairs of all units."""
        return int(pl.scan_parquet(self.file).select(pl.len()).collect().item())

    @property
    def n_units(self) -> int:
        """Units of unit_pairs; the last one may have fewer."""
        return -(-self.n_pairs // self.unit_pairs)

    def unit(self, number: int) -> pl.DataFrame:
        """The file's columns of a unit, with ``text`` in place of text_row. Raises DataError for a damaged file."""
        return self.rows(number * self.unit_pairs, self.unit_pairs)

    def rows(self, start: int, n: int) -> pl.DataFrame:
        """`unit` of any rows."""
        try:
            found = pl.scan_parquet(self.file).slice(start, n).collect()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{self.file}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
        return found.with_columns(text=self.texts.gather(found[TEXT_ROW])).drop(TEXT_ROW)


def write_plan(file: Path, pairs: pl.DataFrame, texts: pl.Series, unit_pairs: int) -> Plan:
    """Write ``pairs`` (with text_row) in the order given as a plan. Raises DataError where the file cannot be written."""
    write_whole(file, pairs)
    return Plan(file, texts, unit_pairs)


@dataclass(frozen=True)
class Chosen:
    """pairs: KEPT, text_row and length, sorted by length: what the teacher is to label. cached: KEPT, p_1..p_n, teacher."""

    pairs: pl.DataFrame
    cached: pl.DataFrame
    texts: ItemTexts


def choose_pairs(config: LabelsConfig, data: Path, text: Path, teacher_id: str, seed: int) -> Chosen:
    """The pairs of config.pairs, else of `sample_pairs`, less what config.cache has of them.

    length: tokens, about: of the text as the text stage counted them, and of the query by its bytes.
    Raises DataError when there is no pair to label, or a pair is of a held-out query or an unknown item.
    """
    dataset = load_dataset(data)
    texts = ItemTexts.read(text, ("text", "text_hash", "n_tokens"))
    chosen = sample_pairs(dataset, texts.served, config, seed) if config.pairs is None else _told(config.pairs, data)
    if not chosen.height:
        raise DataError("labels: expected pairs to label, found none; raise labels.pool_per_query or labels.log_pairs")
    # All are pairs of training queries: each is read without what its own fold of the log would tell.
    rows = pl.Series(TEXT_ROW, texts.rows_of(chosen.with_columns(split=pl.lit("train"))), dtype=pl.UInt32)
    pairs = chosen.with_columns(rows, text_hash=texts.rows["text_hash"].gather(rows))
    names = dataset.scale.probability_columns
    cached = cached_labels(config.cache, pairs, names, teacher_id).select(*KEPT, *names, "teacher")
    pairs = pairs.join(cached, on=["query", "item_id"], how="anti", maintain_order="left")
    lengths = texts.rows["n_tokens"].gather(pairs[TEXT_ROW]) + pairs["query"].str.len_bytes() // 4
    pairs = pairs.with_columns(length=lengths).sort("length", maintain_order=True)
    return Chosen(pairs.select(*KEPT, TEXT_ROW, "length"), cached, texts)


def _told(file: Path, data: Path) -> pl.DataFrame:
    """The distinct pairs of a sample's table. Raises DataError where one is of a held-out query."""
    pairs = read_parquet(file, list(PAIR_SCHEMA)).cast(PAIR_SCHEMA)  # type: ignore[arg-type]
    pairs = pairs.drop_nulls(["query", "item_id"]).unique(["query", "item_id"], keep="first", maintain_order=True)
    queries = pairs["query"].unique(maintain_order=True)
    wrong = queries.filter(are_held_out(queries, load_held_out(data)))
    if wrong.len():
        raise DataError(
            f"{file}: expected no held-out query (dev or test), found {wrong[0]!r} ({wrong.len():,} in all)"
        )
    return pairs


def write_whole(path: Path, frame: pl.DataFrame) -> None:
    """Write Parquet whole or not at all. Raises DataError where the disk is full or the folder cannot be written."""
    try:
        write_parquet(path, frame)
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be written: {reason}") from None
