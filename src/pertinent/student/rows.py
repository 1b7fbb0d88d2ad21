"""The training rows of a student on disk: features computed once, kept in blocks, read back in shuffled batches.

A cache is block-00000.npz, block-00001.npz ... beside the files of a `Spill`. A block that is there is not computed again,
so a killed stage goes on with the next one.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.files import atomic_path
from pertinent.progress import progress
from pertinent.student.dataset import Catalogue, pair_features_of
from pertinent.student.spill import Spill


@dataclass(frozen=True)
class Rows:
    """N training pairs. query_rows: into the distinct queries. item_rows: into the rows of the catalogue's texts.

    features: (N, F) float32. targets: (N, n) float32 probabilities. weights: (N,) float32 above 0.
    """

    query_rows: NDArray[np.int32]
    item_rows: NDArray[np.int32]
    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return self.weights.size

    def take(self, places: NDArray[np.int64] | slice) -> Rows:
        """The rows at these places."""
        return Rows(**{field.name: getattr(self, field.name)[places] for field in fields(self)})

    @staticmethod
    def joined(parts: list[Rows]) -> Rows:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        return Rows(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)})


@dataclass(frozen=True)
class RowCache:
    """The blocks of a finished cache. sizes: rows of each."""

    folder: Path
    sizes: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Of all blocks."""
        return sum(self.sizes)

    def block(self, k: int) -> Rows:
        """Read one block."""
        with np.load(_block_file(self.folder, k), allow_pickle=False) as arrays:
            return Rows(**{name: arrays[name] for name in arrays.files})

    def moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of every feature over all rows: (F,) float32 each, a block at a time."""
        n_before, mean, squares = 0, np.zeros(1), np.zeros(1)
        for k, size in enumerate(self.sizes):
            features = self.block(k).features.astype(np.float64)
            own = features.mean(axis=0)
            shift, n = own - mean, n_before + size
            # Chan, Golub and LeVeque 1979: no difference of two large sums.
            squares = squares + ((features - own) ** 2).sum(axis=0) + shift**2 * (n_before * size / n)
            mean, n_before = mean + shift * (size / n), n
        return mean.astype(np.float32), np.sqrt(squares / n_before).astype(np.float32)

    def batches(
        self, batch_size: int, buffer_rows: int, seed: tuple[int, ...], *, by_query: bool = False
    ) -> Iterator[Rows]:
        """Every row once, in random batches of batch_size, the last one smaller; blocks come in random order.

        buffer_rows: rows that are shuffled together, at least one block; the same seed gives the same batches.
        by_query: the rows of a query stand together, so that batches hold pairs of one query.
        """
        rng = np.random.default_rng(seed)
        waiting: list[Rows] = []
        order = rng.permutation(len(self.sizes))
        for place, k in enumerate(order):
            waiting.append(self.block(int(k)))
            last = place == len(order) - 1
            if sum(map(len, waiting)) < buffer_rows and not last:
                continue
            rows = Rows.joined(waiting)
            shuffled = shuffled_places(rows.query_rows, rng, by_query=by_query)
            end = len(rows) if last else len(rows) // batch_size * batch_size
            for start in range(0, end, batch_size):
                yield rows.take(shuffled[start : start + batch_size])
            waiting = [rows.take(shuffled[end:])]


def shuffled_places(query_rows: NDArray[np.int32], rng: np.random.Generator, *, by_query: bool) -> NDArray[np.int64]:
    """The places of rows in random order; by_query: those of a query next to one another."""
    order = rng.permutation(query_rows.size)
    if by_query:
        _, query = np.unique(query_rows, return_inverse=True)
        turn = rng.permutation(query.max(initial=-1) + 1)
        order = order[np.argsort(turn[query[order]], kind="stable")]
    return order


def write_rows(spill: Spill, catalogue: Catalogue, *, workers: int = 1) -> RowCache:
    """Compute the features of every block of ``spill`` beside it; a block that is there already is kept.

    workers: processes that compute; the cache is the same for any number. Raises DataError for an item without a text.
    """
    n_rows = sum(spill.sizes)
    with progress("student: features", n_rows, "pairs") as bar, _Workers(workers, spill, catalogue) as pool:
        for k, size in enumerate(spill.sizes):
            if _block_file(spill.folder, k).exists():
                bar.advance(size)
                continue
            for done in pool.write(k):
                bar.advance(done)
        for done in pool.rest():
            bar.advance(done)
    return RowCache(spill.folder, spill.sizes)


def _block_file(folder: Path, k: int) -> Path:
    return folder / f"block-{k:05d}.npz"


def _write_block(k: int, spill: Spill, catalogue: Catalogue) -> int:
    records = spill.block(k)
    pairs = pl.DataFrame(
        {
            "query": [spill.queries[place] for place in records["query"]],
            "item_id": [catalogue.ids[place] for place in records["item"]],
        }
    ).with_columns(split=pl.lit("train"))
    item_rows = catalogue.texts.rows_of(pairs)
    arrays = {
        "query_rows": records["query"],
        "item_rows": item_rows.astype(np.int32),
        "features": pair_features_of(pairs, item_rows, catalogue),
        "targets": records["targets"],
        "weights": records["weight"],
    }
    with atomic_path(_block_file(spill.folder, k)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    return records.size


_inputs: tuple[Spill, Catalogue] | None = None  # of a worker process, sent once and not with every block


def _begin(spill: Spill, catalogue: Catalogue) -> None:
    global _inputs
    _inputs = spill, catalogue


def _work(k: int) -> int:
    assert _inputs is not None
    return _write_block(k, *_inputs)


class _Workers:
    """Writes blocks here, or in processes of which each has a block and one waits."""

    def __init__(self, n_workers: int, spill: Spill, catalogue: Catalogue) -> None:
        self._inputs, self._n_workers = (spill, catalogue), n_workers
        self._pool: ProcessPoolExecutor | None = None
        self._futures: list[Future[int]] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def write(self, k: int) -> list[int]:
        """Take one block on; returns the sizes of blocks that are done since the last call."""
        if self._n_workers == 1:
            return [_write_block(k, *self._inputs)]
        if self._pool is None:
            # Not forked: the threads of Polars would not live on in a child.
            self._pool = ProcessPoolExecutor(
                self._n_workers, multiprocessing.get_context("spawn"), _begin, self._inputs
            )
        self._futures.append(self._pool.submit(_work, k))
        done = []
        while len(self._futures) > self._n_workers:
            done.append(self._futures.pop(0).result())
        return done

    def rest(self) -> list[int]:
        """Wait for all that is under way."""
        done = [future.result() for future in self._futures]
        self._futures = []
        return done
