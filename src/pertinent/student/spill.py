"""Label rows sorted into blocks on disk by their query, so that all rows of a query lie in one block.

A block is a file of records of fixed size, appended to as shards are read: memory holds one piece of a shard. spill.json,
written last, tells that the files are whole and what they were made of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet, sha256_of_json, write_json, write_parquet
from pertinent.progress import progress

SPILL_FILE, _QUERIES = "spill.json", "queries.parquet"


@dataclass(frozen=True)
class Spill:
    """queries: distinct, in order of first appearance. sizes: rows of each block. n_grades: of the targets."""

    folder: Path
    queries: list[str]
    sizes: tuple[int, ...]
    n_grades: int

    def block(self, k: int) -> NDArray[np.void]:
        """Records of `record_type`, those of a query next to one another, in the order in which they were read."""
        records = np.fromfile(_file(self.folder, k), dtype=record_type(self.n_grades))
        return records[np.argsort(records["query"], kind="stable")]


def record_type(n_grades: int) -> np.dtype[np.void]:
    """query and item: places among the distinct queries and the items. targets: probabilities."""
    return np.dtype([("query", "<i4"), ("item", "<i4"), ("weight", "<f4"), ("targets", "<f4", (n_grades,))])


def spill_rows(
    blocks: Callable[[], Iterable[pl.DataFrame]],
    n_rows: int,
    items: list[str],
    names: tuple[str, ...],
    folder: Path,
    *,
    block_rows: int,
    made_of: dict[str, Any],
) -> Spill:
    """Sort the rows of ``blocks()`` (query, item_id, ``names``, weight above 0) into about n_rows / block_rows blocks.

    items: every item_id, in the catalogue's order. made_of: what identifies the rows; a folder made of the same is taken
    as it is, any other emptied first. Raises DataError for an item that is not there, and where there is no row.
    """
    key = sha256_of_json({**made_of, "block_rows": block_rows})
    done = folder / SPILL_FILE
    if done.is_file() and (found := read_json(done)).get("key") == key:
        return Spill(folder, read_parquet(folder / _QUERIES)["query"].to_list(), tuple(found["sizes"]), len(names))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    n_blocks = max(1, -(-n_rows // block_rows))
    place_of_item = {item: place for place, item in enumerate(items)}
    place_of: dict[str, int] = {}
    sizes = np.zeros(n_blocks, dtype=np.int64)
    with progress("student: read labels", n_rows, "pairs") as bar:
        for block in blocks():
            records = _records(block, names, place_of, place_of_item)
            of_block = records["query"] % n_blocks
            for k in np.unique(of_block):
                with _file(folder, int(k)).open("ab") as stream:
                    stream.write(records[of_block == k].tobytes())
            sizes += np.bincount(of_block, minlength=n_blocks)
            bar.advance(block.height)
    kept = [int(size) for size in sizes if size]  # only the last blocks can be empty: where there are few queries
    write_parquet(folder / _QUERIES, pl.DataFrame({"query": list(place_of)}, schema={"query": pl.String}))
    write_json(done, {"key": key, "sizes": kept})
    return Spill(folder, list(place_of), tuple(kept), len(names))


def _records(
    block: pl.DataFrame, names: tuple[str, ...], place_of: dict[str, int], place_of_item: dict[str, int]
) -> NDArray[np.void]:
    records = np.empty(block.height, dtype=record_type(len(names)))
    records["query"] = [place_of.setdefault(query, len(place_of)) for query in block["query"]]
    try:
        records["item"] = [place_of_item[item] for item in block["item_id"]]
    except KeyError as error:
        raise DataError(f"labels: expected items of the text stage, found {error.args[0]}") from None
    records["weight"] = block["weight"].to_numpy()
    records["targets"] = block.select(names).to_numpy()
    return records


def _file(folder: Path, k: int) -> Path:
    return folder / f"labels-{k:05d}.bin"
