"""Units labelled by the workers of a Ray cluster: those that die are replaced, and what they had is done elsewhere.

The head reads units and writes shards; workers get texts and give probabilities, a bounded number of units at a time, so
that neither the head's memory nor the workers' disks know how many pairs there are.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import ConfigError, ModelError, PertinentError
from pertinent.labelling.config import RayConfig
from pertinent.labelling.engine import (
    Budget,
    Labelled,
    Labeller,
    Units,
    failed_rows,
    label_unit,
    read_unit,
    reason_for,
    texts_of,
)
from pertinent.progress import Progress, say

_IN_FLIGHT = 2  # pieces of a worker: one is read while the other is in the network
_MOST_STARTS = (
    3  # that fail one after the other; of each worker where they die, for a node takes all of its own at once
)
_MOST_LOSSES = 50  # of each worker, one after the other, without any piece done
_STORE_BYTES = 512 * 2**20  # of a cluster started here: the units in flight are a few megabytes


class Worker:
    """What runs in a worker's process. Two calls of `label` may run at once: one reads, one has the network."""

    def __init__(self, open_labeller: Callable[[], Labeller], n_threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(n_threads)  # of tokenizers
        self._open_labeller, self._n_threads = open_labeller, n_threads
        self._network = threading.Lock()

    def open(self) -> None:
        """Open the labeller. Raises what that raises."""
        self.labeller = self._open_labeller()
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(self._n_threads)

    def label(
        self, queries: list[str], texts: list[str], n_grades: int, budget: Budget
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """`label_unit`."""
        read = read_unit(self.labeller, queries, texts)
        with self._network:
            return label_unit(self.labeller, read, n_grades, budget)

    def apply(self, work: Callable[[Labeller], Any]) -> Any:
        """``work`` on the labeller."""
        return work(self.labeller)


@dataclass(frozen=True)
class _Piece:
    """Rows of a unit that are labelled together. lost: whether a worker died over them, so that they are tried alone."""

    number: int
    start: int
    stop: int
    lost: bool = False

    def halves(self) -> tuple[_Piece, _Piece]:
        middle = (self.start + self.stop) // 2
        return _Piece(self.number, self.start, middle, True), _Piece(self.number, middle, self.stop, True)


@dataclass
class _Open:
    """A unit of which pieces are under way."""

    frame: pl.DataFrame
    probs: NDArray[np.float32]
    reasons: list[str | None]
    n_left: int

    def put(self, piece: _Piece, probs: NDArray[np.float32], reasons: list[str | None]) -> None:
        self.probs[piece.start : piece.stop] = probs
        self.reasons[piece.start : piece.stop] = reasons
        self.n_left -= piece.stop - piece.start


@dataclass
class _Handle:
    """An actor, and the pieces that it has by reference; ``opening`` until it is ready."""

    actor: Any
    opening: Any
    pieces: dict[Any, _Piece] = field(default_factory=dict)


class RayEngine:
    """Labels units by Ray's workers. open_labeller: what each worker calls, once; it must be picklable."""

    def __init__(self, open_labeller: Callable[[], Labeller], config: RayConfig) -> None:
        self.open_labeller, self.config = open_labeller, config

    def label(self, units: Units, n_grades: int, budget: Budget, bar: Progress) -> Iterator[Labelled]:
        """The units as they are done.

        A unit whose worker dies is tried again, alone in a worker, and halved while that dies too: a row that kills its
        worker is set aside. Raises ModelError past the budget or where workers cannot start, ConfigError without Ray
        or where the cluster has no room for a worker.
        """
        first = next(units, None)
        if first is None:
            return
        with ray_cluster(self.config) as cluster:
            yield from _Run(cluster, self.open_labeller, n_grades, budget, bar).label(chain([first], units))

    def on_every_worker(self, work: Callable[[Labeller], Any]) -> tuple[float, list[Any]]:
        """Seconds until all workers could label, and what ``work`` gives of each one's labeller, all at the same time."""
        started = time.monotonic()
        with ray_cluster(self.config) as cluster:
            actors = [cluster.start(self.open_labeller) for _ in range(cluster.n_workers)]
            try:
                cluster.ray.get([actor.open.remote() for actor in actors])
                opening_s = time.monotonic() - started
                return opening_s, list(cluster.ray.get([actor.apply.remote(work) for actor in actors]))
            except cluster.ray.exceptions.RayError as error:
                raise ModelError(f"ray: a worker failed: {_cause(error)}") from None


class _Run:
    """The state of one `RayEngine.label`."""

    def __init__(
        self, cluster: Cluster, open_labeller: Callable[[], Labeller], n_grades: int, budget: Budget, bar: Progress
    ) -> None:
        self.cluster, self.open_labeller = cluster, open_labeller
        self.n_grades, self.budget, self.bar = n_grades, budget, bar
        self.open: dict[int, _Open] = {}
        self.again: deque[_Piece] = deque()
        self.coming: tuple[int, pl.DataFrame] | None = None
        self.n_bad_starts = self.n_losses = 0
        self.workers = [self._started() for _ in range(cluster.n_workers)]

    def label(self, units: Units) -> Iterator[Labelled]:
        exceptions, wait = self.cluster.ray.exceptions, self.cluster.ray.wait
        self.coming = next(units, None)
        while True:
            self._assign(units)
            if not self.open and self.coming is None:
                return
            refs = {
                ref: worker for worker in self.workers for ref in (worker.opening, *worker.pieces) if ref is not None
            }
            (ref,), _ = wait(list(refs), num_returns=1)
            worker = refs[ref]
            try:
                result = self.cluster.ray.get(ref)
            except exceptions.RayTaskError as error:
                self._failed(worker, ref, error)
            except exceptions.RayError as error:
                yield from self._lost(worker, error)
            else:
                yield from self._done(worker, ref, result)

    def _started(self) -> _Handle:
        actor = self.cluster.start(self.open_labeller)
        return _Handle(actor, actor.open.remote())

    def _assign(self, units: Units) -> None:
        """Give pieces to the workers that are ready: those to try again to one that has nothing else, and first."""
        for worker in self.workers:
            if worker.opening is not None or any(piece.lost for piece in worker.pieces.values()):
                continue
            if self.again:
                if not worker.pieces:
                    self._submit(worker, self.again.popleft())
                continue  # a worker runs dry until it can take one
            while len(worker.pieces) < _IN_FLIGHT and self.coming is not None:
                number, frame = self.coming
                n = frame.height
                self.open[number] = _Open(frame, failed_rows(n, self.n_grades), [None] * n, n)
                self._submit(worker, _Piece(number, 0, n))
                self.coming = next(units, None)

    def _submit(self, worker: _Handle, piece: _Piece) -> None:
        rows = self.open[piece.number].frame[piece.start : piece.stop]
        worker.pieces[worker.actor.label.remote(*texts_of(rows), self.n_grades, self.budget)] = piece

    def _done(self, worker: _Handle, ref: Any, result: Any) -> Iterator[Labelled]:
        if ref == worker.opening:
            worker.opening, self.n_bad_starts = None, 0
            return
        self.n_losses = 0
        probs, reasons = result
        failed = [reason for reason in reasons if reason is not None]
        if failed:
            self.budget.spend(len(failed), failed[-1])
        yield from self._put(worker.pieces.pop(ref), probs, reasons)

    def _put(self, piece: _Piece, probs: NDArray[np.float32], reasons: list[str | None]) -> Iterator[Labelled]:
        unit = self.open[piece.number]
        unit.put(piece, probs, reasons)
        self.bar.advance(piece.stop - piece.start)
        if not unit.n_left:
            del self.open[piece.number]
            yield Labelled(piece.number, unit.frame, unit.probs, unit.reasons)

    def _failed(self, worker: _Handle, ref: Any, error: Any) -> None:
        """An error of our own code in a worker: past the budget, or it cannot open the labeller."""
        if ref != worker.opening:
            raise ModelError(_cause(error))
        self._replaced(worker)
        self._bad_start(_cause(error), _MOST_STARTS)

    def _lost(self, worker: _Handle, error: Exception) -> Iterator[Labelled]:
        reason = _cause(error)
        self.n_losses += 1
        if self.n_losses > _MOST_LOSSES * len(self.workers):
            raise ModelError(
                f"ray: expected workers that live, found {self.n_losses} die one after the other: {reason}"
            )
        pieces = list(worker.pieces.values())
        self._replaced(worker)
        if worker.opening is not None:
            self._bad_start(reason, _MOST_STARTS * len(self.workers))
        elif pieces:
            say(f"labels: a worker died ({type(error).__name__}); its {len(pieces)} units are tried again elsewhere")
        for piece in pieces:
            if not piece.lost:
                self.again.append(_Piece(piece.number, piece.start, piece.stop, True))
            elif piece.stop - piece.start > 1:
                self.again.extend(piece.halves())
            else:
                told = f"worker died: {reason}"
                self.budget.spend(1, told)
                yield from self._put(piece, failed_rows(1, self.n_grades), [told])

    def _replaced(self, worker: _Handle) -> None:
        with suppress(Exception):  # it may be dead already
            self.cluster.ray.kill(worker.actor)
        self.workers[self.workers.index(worker)] = self._started()

    def _bad_start(self, reason: str, most: int) -> None:
        self.n_bad_starts += 1
        if self.n_bad_starts >= most:
            raise ModelError(f"ray: expected workers to start, found {self.n_bad_starts} fail in turn: {reason}")


@dataclass(frozen=True)
class Cluster:
    """A connection. n_workers: how many to start. start: of what opens a labeller, an actor that may be anywhere."""

    ray: Any
    n_workers: int
    start: Callable[[Callable[[], Labeller]], Any]


@contextmanager
def ray_cluster(config: RayConfig) -> Iterator[Cluster]:
    """Connect to config.address, or start a cluster on this machine; what was started ends with the block.

    Raises ConfigError without Ray, where no cluster answers, or where it has no room for a worker.
    """
    ray = _ray()
    n_threads = max(int(config.cpus), 1)
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, config)
    try:
        room = _room(ray, config)
        remote = ray.remote(Worker).options(
            num_cpus=config.cpus, num_gpus=config.gpus, max_restarts=0, max_concurrency=_IN_FLIGHT
        )
        with redirect_stdout(sys.stderr):  # where Ray tells of its dead workers
            yield Cluster(ray, min(config.workers or room, room), partial(remote.remote, n_threads=n_threads))
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the default to come: a warning otherwise
    try:
        import ray
    except ImportError:
        raise ConfigError("labels.engine: ray: expected Ray, found none: pip install 'pertinent[ray]'") from None
    return ray


def _connect(ray: Any, config: RayConfig) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if config.address is not None:
        try:
            ray.init(address=config.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise ConfigError(f"labels.ray.address: no Ray cluster at {config.address}: {reason_for(error)}") from None
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = ceil((config.workers or max(int(cores / config.cpus), 1)) * config.cpus)
    ray.init(address="local", num_cpus=wanted, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)


def _room(ray: Any, config: RayConfig) -> int:
    found = ray.cluster_resources()
    room = int(found.get("CPU", 0) / config.cpus)
    if config.gpus:
        room = min(room, int(found.get("GPU", 0) / config.gpus))
    if not room:
        raise ConfigError(
            f"labels.ray: expected room for a worker of {config.cpus:g} cores and {config.gpus:g} GPUs, found "
            f"{found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} GPUs in the cluster"
        )
    return room


def _cause(error: Any) -> str:
    """What went wrong in a worker, in one line. Of a dead worker Ray tells the story first and the cause last."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, PertinentError):
        return str(cause)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"[:300]
