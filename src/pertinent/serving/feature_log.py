"""The feature log: what was served of a sample of requests, as Parquet files that `pertinent audit` reads.

One file holds rows of one bundle, a row a candidate: time, bundle, request_id, path, query, index (the candidate's place
in the request), item_id, text (of a document sent along), from_store (an item that the bundle's own files have not, or not
like this: it came from Redis or the journal of changes), features (a struct by name, float32), p_1..p_n, relevance. An
unknown candidate has nulls from features on. A file is whole or absent: it is written under a name that begins with a
dot and renamed.
"""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import ConfigError
from pertinent.files import reason_of, write_parquet
from pertinent.progress import say
from pertinent.serving.scoring import Scored
from pertinent.types import Scale

PATTERN = "features-*.parquet"
_ABANDONED_S = 3600  # a file under its temporary name and this old belongs to a worker that was killed


@dataclass(frozen=True)
class Served:
    """One request of the sample. names: of the features. at: when it was answered.

    from_store: (C,). found: without the candidates, whose rows may be large and would wait here in memory.
    """

    bundle: str
    names: tuple[str, ...]
    request_id: str
    path: str
    query: str
    ids: Sequence[str | None]
    texts: Sequence[str | None]
    found: Scored
    from_store: NDArray[np.bool_]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def n_rows(self) -> int:
        """Candidates."""
        return len(self.ids)

    def frame(self) -> pl.DataFrame:
        """Its rows, in the columns that the module's docstring names."""
        known = self.found.known
        told = [pl.lit(value).alias(name) for name, value in self._told().items()]
        scores: dict[str, NDArray[np.floating]] = {"relevance": self.found.relevance}
        names = Scale.of_size(self.found.probs.shape[1]).probability_columns
        scores |= {name: self.found.probs[:, k] for k, name in enumerate(names)}
        features = pl.DataFrame(self.found.features, schema=list(self.names)).to_struct("features")
        rows = pl.DataFrame(
            {
                "index": pl.Series(range(self.n_rows), dtype=pl.Int32),
                "item_id": pl.Series(self.ids, dtype=pl.String),
                "text": pl.Series(self.texts, dtype=pl.String),
                "from_store": pl.Series(self.from_store, dtype=pl.Boolean),
                "features": features,
                **scores,
            }
        )
        missing = pl.when(pl.Series(known)).then(pl.col("features", *scores))
        return rows.select(*told, "index", "item_id", "text", "from_store", missing)

    def _told(self) -> dict[str, object]:
        told: dict[str, object] = {"time": self.at, "bundle": self.bundle, "request_id": self.request_id}
        return {**told, "path": self.path, "query": self.query}


class FeatureLog:
    """Writes sampled requests on a thread of its own. A request never waits for it and never fails by it.

    What does not fit into the queue, and what cannot be written, is dropped and counted; the first failure after a
    success is told on stderr.
    """

    def __init__(
        self,
        folder: Path,
        on_rows: Callable[[str, int], None],
        *,
        rows_a_file: int,
        seconds_a_file: float,
        queue_rows: int,
    ) -> None:
        """on_rows: called with "written" or "dropped" and a number of rows.

        rows_a_file, seconds_a_file: a file is closed at whichever is reached first. queue_rows: rows that may wait.
        """
        self.folder, self._tell = folder, on_rows
        self.rows_a_file, self.seconds_a_file, self.queue_rows = rows_a_file, seconds_a_file, queue_rows
        self._queue: deque[Served] = deque()
        self._waiting = 0  # rows in the queue, and those being written
        self._oldest = 0.0
        self._changed = threading.Condition()
        self._stopping = self._failing = False
        self._thread = threading.Thread(target=self._run, name="feature-log", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, served: Served) -> None:
        """Take a request's rows, or drop them where the queue is full. Returns at once."""
        with self._changed:
            # A request larger than the whole queue is taken when nothing else waits.
            if self._waiting and self._waiting + served.n_rows > self.queue_rows:
                self._tell("dropped", served.n_rows)
                return
            if not self._queue:
                self._oldest = time.monotonic()
            self._queue.append(served)
            self._waiting += served.n_rows
            if self._waiting >= self.rows_a_file:
                self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits; after ``timeout_s`` leave it, since a disk that hangs must not hold the end up."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due():
                    self._changed.wait(self._left_s())
                batch, stopping = list(self._queue), self._stopping
                self._queue.clear()
            for _, group in groupby(batch, key=lambda served: (served.bundle, served.names)):
                self._write(list(group))
            if stopping:
                return

    def _due(self) -> bool:
        return self._stopping or (bool(self._queue) and (self._waiting >= self.rows_a_file or self._left_s() <= 0))

    def _left_s(self) -> float:
        return self._oldest + self.seconds_a_file - time.monotonic() if self._queue else self.seconds_a_file

    def _write(self, batch: list[Served]) -> None:
        n_rows = sum(served.n_rows for served in batch)
        try:
            name = f"features-{batch[0].at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
            write_parquet(self.folder / name, pl.concat([served.frame() for served in batch]))
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
            self._failed(n_rows, f"feature log: {self.folder}: cannot be written: {reason}; rows are dropped")
        except Exception:  # a bug of ours must not end the thread: its trace is told instead
            self._failed(n_rows, traceback.format_exc())
        else:
            self._tell("written", n_rows)
            if self._failing:
                say(f"feature log: {self.folder}: written again")
            self._failing = False
        finally:
            with self._changed:
                self._waiting -= n_rows

    def _failed(self, n_rows: int, message: str) -> None:
        self._tell("dropped", n_rows)
        if not self._failing:
            say(message)
        self._failing = True


def prepare_folder(folder: Path) -> None:
    """Make the folder, and remove what killed workers left half written. Raises ConfigError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
        for file in folder.glob(".features-*.partial"):
            if time.time() - file.stat().st_mtime > _ABANDONED_S:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"feature log: {folder}: cannot be written: {reason_of(error)}") from None
