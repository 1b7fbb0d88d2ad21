"""What every kind of student is trained on: the catalogue, label rows in a cache on disk, judged dev pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
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
from pertinent.student.spill import Spill, spill_rows

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
    """Read the folders of `train_student`; the label rows and their features go to out/rows, block by block.

    What a killed run left whole there is taken as it is. Labels are never held as a whole.
    """
    dataset = load_dataset(data)
    names = dataset.scale.probability_columns
    tokenizer = Tokenizer.from_file(str(labels / "tokenizer.json"))
    catalogue = read_catalogue(text, tokenizer)
    humans = human_rows(dataset.judgments, names, config.human_weight).filter(pl.col("weight") > 0)
    files = label_files(labels)
    n_labels = sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in files)

    def blocks() -> Iterator[pl.DataFrame]:
        for block in chain(label_blocks(labels, names), [humans]):
            if (used := block.filter(pl.col("weight") > 0)).height:
                yield used

    spill = spill_rows(
        blocks,
        n_labels + humans.height,
        catalogue.ids,
        names,
        out / CACHE,
        block_rows=BLOCK_ROWS,
        made_of={
            "labels": [(file.name, file.stat().st_size) for file in files],
            "settings": config.model_dump(mode="json", include={"features", "human_weight"}),
        },
    )
    if not spill.sizes:
        raise DataError(f"{labels}: expected label rows with a weight above 0, found none")
    catalogue = with_sides(
        catalogue, config.features, dataset.items, partial(weighted_pairs, spill, catalogue.ids), mined
    )
    rows = write_rows(spill, catalogue, workers=config.workers)
    dev = dataset.judgments.filter(pl.col("split") == "dev")
    counts = {
        "label_rows": n_labels,
        "human_rows": humans.height,
        "label_queries": len(spill.queries),
        "dev_rows": dev.height,
        "items": len(catalogue.ids),
    }
    dev_rows = pair_rows(dev, catalogue, "dev")
    return Prepared(dataset, tokenizer, catalogue, spill.queries, rows, dev, dev_rows, counts)


def weighted_pairs(spill: Spill, items: list[str]) -> pl.DataFrame:
    """query, item_id, weight (the expected grade times the row's weight) of all rows, a block at a time."""
    parts = []
    for k in range(len(spill.sizes)):
        records = spill.block(k)
        expected = records["targets"].astype(np.float64) @ np.arange(spill.n_grades) * records["weight"]
        places = {"query": records["query"], "item_id": records["item"]}
        parts.append(pl.DataFrame({**places, "weight": expected}))
    found = pl.concat(parts)
    texts = {"query": pl.Series(spill.queries), "item_id": pl.Series(items)}
    return found.with_columns(texts[name].gather(found[name]).alias(name) for name in texts)
