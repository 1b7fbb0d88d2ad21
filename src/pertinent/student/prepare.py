"""What every kind of student is trained on: the catalogue, label rows in a cache on disk, judged dev pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.data.build import Dataset, load_dataset
from pertinent.errors import DataError
from pertinent.features.encoder import tokenise
from pertinent.features.ragged import Ragged
from pertinent.student.config import StudentConfig
from pertinent.student.dataset import Catalogue, PairRows, pair_rows, read_catalogue, with_sides
from pertinent.student.rows import RowCache, write_rows
from pertinent.student.shards import BLOCK_ROWS, human_rows, label_blocks, label_files

CACHE = "rows"  # in the stage's folder while it works


@dataclass(frozen=True)
class Prepared:
    """dev: judged pairs of the dev split, in the order of dev_rows. queries: distinct ones of the label rows."""

    dataset: Dataset
    tokenizer: Tokenizer
    catalogue: Catalogue
    queries: list[str]
    rows: RowCache
    dev: pl.DataFrame
    dev_rows: PairRows
    counts: dict[str, Any]

    @property
    def n_grades(self) -> int:
        """Of the scale."""
        return self.dataset.scale.n_grades

    @cached_property
    def query_tokens(self) -> Ragged:
        """Token ids of ``queries``."""
        return tokenise(self.tokenizer, self.queries)

    @property
    def dev_grades(self) -> NDArray[np.int64]:
        """(D,) int64 stored grades."""
        return self.dev["grade"].to_numpy().astype(np.int64)


def prepare(
    config: StudentConfig, data: Path, text: Path, labels: Path, out: Path, mined: Mapping[str, Path]
) -> Prepared:
    """Read the folders of `train_student`; the features of label rows go to out/rows, block by block.

    Labels are read twice and never held as a whole: once to check them and to find their queries, once for their features.
    """
    dataset = load_dataset(data)
    names = dataset.scale.probability_columns
    tokenizer = Tokenizer.from_file(str(labels / "tokenizer.json"))
    humans = human_rows(dataset.judgments, names, config.human_weight)

    def blocks() -> Iterator[pl.DataFrame]:
        for block in chain(label_blocks(labels, names, BLOCK_ROWS), [humans]):
            if (used := block.filter(pl.col("weight") > 0)).height:
                yield used

    found = _survey(blocks(), names, keep_pairs=config.features.interest is not None)
    if not found.n_rows:
        raise DataError(f"{labels}: expected label rows with a weight above 0, found none")
    catalogue = read_catalogue(text, tokenizer)
    catalogue = with_sides(catalogue, config.features, dataset.items, found.pairs, mined)
    made_of = {
        "labels": [(file.name, file.stat().st_size) for file in label_files(labels)],
        "settings": config.model_dump(mode="json", include={"features", "human_weight"}),
        "block_rows": BLOCK_ROWS,
    }
    rows = write_rows(
        blocks(), found.n_rows, found.place_of, catalogue, names, out / CACHE, made_of=made_of, workers=config.workers
    )
    dev = dataset.judgments.filter(pl.col("split") == "dev")
    n_humans = humans.height if config.human_weight > 0 else 0
    counts = {
        "label_rows": sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in label_files(labels)),
        "human_rows": n_humans,
        "label_queries": len(found.place_of),
        "dev_rows": dev.height,
        "items": len(catalogue.ids),
    }
    dev_rows = pair_rows(dev, catalogue, tokenizer, "dev")
    return Prepared(dataset, tokenizer, catalogue, list(found.place_of), rows, dev, dev_rows, counts)


@dataclass(frozen=True)
class _Survey:
    n_rows: int
    place_of: dict[str, int]
    pairs: pl.DataFrame  # query, item_id, weight: the expected grade times the row's weight; empty unless asked for


def _survey(blocks: Iterator[pl.DataFrame], names: tuple[str, ...], *, keep_pairs: bool) -> _Survey:
    n_rows, place_of, kept = 0, dict[str, int](), []
    expected = pl.sum_horizontal(pl.col(name).cast(pl.Float64) * k for k, name in enumerate(names))
    for block in blocks:
        n_rows += block.height
        for query in block["query"].unique(maintain_order=True):
            place_of.setdefault(query, len(place_of))
        pairs = block.select("query", "item_id", weight=pl.col("weight") * expected)
        kept.append(pairs if keep_pairs else pairs.clear())
    empty = {"query": pl.String, "item_id": pl.String, "weight": pl.Float64}
    return _Survey(n_rows, place_of, pl.concat([pl.DataFrame(schema=empty), *kept]))
