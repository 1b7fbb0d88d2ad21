"""The server under open-loop load: Poisson arrivals, latency counted from the time a request was meant to be sent.

For 100, 500 and 1,000 candidates by ID, 1 and 2 workers, and items in the bundle's own files (mmap) or in a real redis-server
on the same machine that is started and loaded here: the in-process score, latency at a low rate, the highest rate whose p99
stays within 25 ms, and what happens at twice that rate. Latency by stage is the server's own Server-Timing. The sender runs
on the same machine: its share of a core is in every row. store_bytes_per_item: of the files, or what Redis grew by.

Side by side, on the same queries and candidates: lightgbm-N-1, LightGBM on the same features, and minilm-N-1, a MiniLM
cross-encoder in int8 behind /rerank, which is sent the items' texts; both behind this server's HTTP stack, one worker
(`serving_rivals.py`). Where the score alone takes longer than 25 ms, no rate is looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from common import (
    ROOT,
    Row,
    Target,
    chosen_rows,
    measured_row,
    parser_of,
    print_table,
    print_targets,
    results_folder,
    write_results,
)
from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.store import mapped_bytes
from pertinent.errors import DataError, PertinentError
from pertinent.serving.bundles import Loaded
from pertinent.serving.loading import load_items
from pertinent.serving.scoring import score_items
from pertinent.serving.stores.embedded import EmbeddedStore
from redis_servers import start_redis
from serving_rivals import PREPARE, probe_queries, scorer_of, texts_of

SEED = 0
P99_AIM_MS = 25.0
CANDIDATES, WORKERS = (100, 500, 1000), (1, 2)
_CONNECTIONS = 256
_LEAST, _ENOUGH_MS = 10, 20_000.0  # requests of a slow system, and milliseconds after which they are enough
STORES = ("mmap", "redis")
RIVALS = {"lightgbm": (100, 500, 1000), "minilm": (100, 500)}  # with how many candidates
_STAGES = ("read", "parse", "queue", "store", "features", "network", "write")


@dataclass
class Load:
    """What one stretch of load gave. latency_ms: of answers 200; shed_ms: of answers 503.

    degraded: answers 200 that lack an item or were given without the store, which costs less than a whole one.
    """

    rate: float
    seconds: float
    latency_ms: list[float] = field(default_factory=list)
    shed_ms: list[float] = field(default_factory=list)
    failed: int = 0
    degraded: int = 0
    sender_cpu: float = 0.0
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _STAGES})

    def figures(self) -> dict[str, Any]:
        """Percentiles in ms, the throughput of answers 200 per second, and counts."""
        told: dict[str, Any] = {
            "rate": round(self.rate, 1),
            "answered_per_s": round(len(self.latency_ms) / self.seconds, 1),
        }
        told |= {f"p{q}_ms": percentile(self.latency_ms, q) for q in (50, 95, 99)}
        told |= {"shed": len(self.shed_ms), "shed_p95_ms": percentile(self.shed_ms, 95)}
        told |= {"failed": self.failed, "degraded": self.degraded}
        told |= {f"{name}_p{q}_ms": percentile(values, q) for name, values in self.stages_ms.items() for q in (50, 99)}
        return {**told, "sender_cpu": round(self.sender_cpu, 3)}


@dataclass(frozen=True)
class Asked:
    """Where requests go, and what they may be."""

    path: bytes
    bodies: list[bytes]


def percentile(values: list[float], q: int) -> float | None:
    """None of nothing."""
    return round(float(np.percentile(values, q)), 3) if values else None


def requests_of(scorer: Scorer, bundle: Path, n_candidates: int, n: int) -> list[tuple[str, list[str]]]:
    """Queries of the bundle's probe set, each with random stored items."""
    chance = random.Random(SEED)
    queries = probe_queries(scorer, bundle)
    ids = list(scorer.row_of)
    return [(chance.choice(queries), chance.choices(ids, k=n_candidates)) for _ in range(n)]


def in_process_ms(score: Callable[[str, list[str]], object], asked: list[tuple[str, list[str]]]) -> float:
    """Median of the score without a server; a slow one is not asked everything."""
    spent: list[float] = []
    for query, ids in asked:
        if len(spent) >= _LEAST and sum(spent) > _ENOUGH_MS:
            break
        began = time.perf_counter()
        score(query, ids)
        spent.append((time.perf_counter() - began) * 1000)
    return float(np.median(spent))


def serve_command(bundle: Path, workers: int, store: str | None) -> list[str]:
    """`pertinent serve` on a free port of loopback."""
    options = ["--port", "0", "--workers", str(workers), "--set", "access_log=false"]
    options += ["--store", store] if store else []
    return [sys.executable, "-c", "from pertinent.cli import main; main()", "serve", str(bundle), *options]


@contextlib.contextmanager
def server(command: Sequence[str]) -> Iterator[int]:
    """A server in a process of its own, on one thread a worker; yields its port."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=one_thread)
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said = line.strip() or said
            if found := re.match(r"serve: http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise DataError(f"{' '.join(command[1:])}: expected its address, found {said!r}")
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


@contextlib.contextmanager
def items_in(store: str, bundle: Path) -> Iterator[tuple[str | None, int]]:
    """The items where the row wants them; yields what `--store` takes, and the bytes that they take."""
    if store == "mmap":
        yield None, mapped_bytes(bundle / open_bundle(bundle).description["store"])
        return
    import redis

    with tempfile.TemporaryDirectory() as folder:
        started = start_redis(Path(folder))
        try:
            with redis.Redis(port=started.port) as asked:
                before = int(asked.info("memory")["used_memory"])
                load_items(started.url, bundle)
                yield started.url, int(asked.info("memory")["used_memory"]) - before
        finally:
            started.stop()


async def loaded(port: int, asked: Asked, rate: float, seconds: float) -> Load:
    """Send Poisson arrivals at ``rate`` per second. A late sender counts against the server: latency is from the plan."""
    load, chance = Load(rate, seconds), random.Random(SEED)
    idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(_CONNECTIONS)]
    for pair in pairs:
        idle.put_nowait(pair)

    async def ask(body: bytes, planned: float) -> None:
        pair = await idle.get()
        try:
            status, head = await exchange(*pair, asked.path, body)
        except (OSError, EOFError):
            load.failed += 1
            pair = await asyncio.open_connection("127.0.0.1", port)
            pairs.append(pair)
        else:
            note(load, status, head, (time.perf_counter() - planned) * 1000)
        idle.put_nowait(pair)

    cpu, began = time.process_time(), time.perf_counter()
    planned, tasks = began, []
    while (planned := planned + chance.expovariate(rate)) < began + seconds:
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(chance.choice(asked.bodies), planned)))
    await asyncio.gather(*tasks)
    load.sender_cpu = (time.process_time() - cpu) / (time.perf_counter() - began)
    for _, writer in pairs:
        writer.close()
    return load


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes, body: bytes
) -> tuple[int, bytes]:
    """One request on a connection that is kept; the status and the head of the answer."""
    writer.write(b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path, len(body)) + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), head


def note(load: Load, status: int, head: bytes, spent_ms: float) -> None:
    """Count an answer."""
    if status == 503:
        load.shed_ms.append(spent_ms)
    elif status != 200:
        load.failed += 1
    else:
        load.latency_ms.append(spent_ms)
        load.degraded += b"\r\nx-degraded:" in head.lower()
        for name, value in re.findall(rb"(\w+);dur=([\d.]+)", head):
            load.stages_ms[name.decode()].append(float(value))


def capacity(port: int, asked: Asked, first: float, seconds: float) -> Load | None:
    """The highest rate, in steps of an eighth from ``first``, up or down, whose p99 stays within the aim.

    None may be shed, fail or be degraded. None where no rate fits down to a sixth of ``first``.
    """
    best, rate, step = None, first, 1.125
    while rate > first / 6:
        load = asyncio.run(loaded(port, asked, rate, seconds))
        p99 = percentile(load.latency_ms, 99)
        fits = not (load.shed_ms or load.failed or load.degraded or p99 is None or p99 > P99_AIM_MS)
        if fits:
            best = load
        elif rate == first:
            step = 1 / 1.125
        if rate != first and fits == (step < 1):
            return best
        rate *= step
    return best


def measure(bundle: Path, store: str, n_candidates: int, workers: int, *, quick: bool) -> dict[str, Any]:
    """A row of the student: in process, at a tenth of what one thread can do, at capacity, and at twice that."""
    scorer = open_bundle(bundle)
    requests = requests_of(scorer, bundle, n_candidates, 20 if quick else 200)
    asked = Asked(b"/v1/score", [orjson.dumps({"query": query, "item_ids": ids}) for query, ids in requests])
    loaded = Loaded(scorer, Path(), "", EmbeddedStore(scorer))
    alone_ms = in_process_ms(lambda query, ids: score_items(loaded, query, ids, 1_024), requests)
    about = {"system": "student", "candidates": n_candidates, "workers": workers, "store": store}
    about["n_items"] = len(scorer.row_of)
    with items_in(store, bundle) as (address, n_bytes), server(serve_command(bundle, workers, address)) as port:
        about["store_bytes_per_item"] = round(n_bytes / len(scorer.row_of), 1)
        return {**about, **under_load(port, asked, alone_ms, workers, quick=quick)}


def measure_rival(bundle: Path, system: str, n_candidates: int, *, quick: bool) -> dict[str, Any]:
    """The same row of another system on the same queries and items."""
    requests = requests_of(open_bundle(bundle), bundle, n_candidates, 20 if quick else 200)
    about = {"system": system, "candidates": n_candidates, "workers": 1, "store": "mmap"}
    texts = texts_of(bundle) if system == "minilm" else {}
    bodies: list[dict[str, Any]] = [{"query": query, "item_ids": ids} for query, ids in requests]
    if texts:
        bodies = [{"query": query, "texts": [texts[item] for item in ids]} for query, ids in requests]
        about["store"] = "the request"
    asked = Asked(b"/rerank" if texts else b"/v1/score", [orjson.dumps(body) for body in bodies])
    with tempfile.TemporaryDirectory() as folder:
        PREPARE[system](bundle, Path(folder), quick=quick)
        loaded, score = scorer_of(system, bundle, Path(folder))

        def alone(query: str, ids: list[str]) -> object:
            return score(loaded, query, ids, [texts.get(item) for item in ids], 1_024)

        alone_ms = in_process_ms(alone, requests)
        script = str(Path(__file__).with_name("serving_rivals.py"))
        with server([sys.executable, script, system, str(bundle), folder]) as port:
            return {**about, **under_load(port, asked, alone_ms, 1, quick=quick)}


def under_load(port: int, asked: Asked, alone_ms: float, workers: int, *, quick: bool) -> dict[str, Any]:
    """The figures of a server that takes ``alone_ms`` for a request's score on one thread."""
    seconds, highest = (1.0, 1) if quick else (20.0, workers)
    figures: dict[str, Any] = {"in_process_p50_ms": round(alone_ms, 3)}
    asyncio.run(loaded(port, asked, 10.0 if alone_ms < 50 else 1.0, 1.0 if quick else 3.0))  # warm
    rate = 100 / alone_ms
    quiet = asyncio.run(loaded(port, asked, rate, seconds if quick else max(seconds, _LEAST / rate)))
    figures |= {f"quiet_{key}": value for key, value in quiet.figures().items()}
    if (p50 := percentile(quiet.latency_ms, 50)) is not None:
        figures["http_adds_p50_ms"] = round(p50 - alone_ms, 3)
    best = None
    if alone_ms < P99_AIM_MS:
        best = capacity(port, asked, 300 / alone_ms * highest, seconds)
    if best is not None:
        figures |= {f"capacity_{key}": value for key, value in best.figures().items()}
        twice = asyncio.run(loaded(port, asked, 2 * best.rate, seconds))
        figures |= {f"twice_{key}": value for key, value in twice.figures().items()}
        if twice.latency_ms:
            ratio = np.percentile(twice.latency_ms, 99) / np.percentile(best.latency_ms, 99)
            figures["twice_p99_ratio"] = round(float(ratio), 3)
        figures["twice_throughput_ratio"] = round(len(twice.latency_ms) / len(best.latency_ms), 3)
    return figures


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Those of the serving issue, at 500 candidates."""
    one, two = rows.get("mmap-500-1", {}), rows.get("mmap-500-2", {})
    return [
        Target("HTTP adds to the in-process score of 500 candidates, p50 ms", 2.0, "<=", one.get("http_adds_p50_ms")),
        Target("requests/s of 500 candidates at p99 <= 25 ms, 2 workers", 100.0, ">=", two.get("capacity_rate")),
        Target("admitted p99 at twice the capacity, over that at capacity", 1.5, "<=", two.get("twice_p99_ratio")),
        Target("503 at twice the capacity, p95 ms", 10.0, "<=", two.get("twice_shed_p95_ms")),
        Target("throughput at twice the capacity, over that at capacity", 1.0, ">=", two.get("twice_throughput_ratio")),
    ]


def rows_of(bundle: Path, *, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    rows: dict[str, Callable[[], dict[str, Any]]] = {}
    for store, n, workers in itertools.product(STORES, CANDIDATES, WORKERS):
        rows[f"{store}-{n}-{workers}"] = partial(measure, bundle, store, n, workers, quick=quick)
    for system, counts in RIVALS.items():
        rows |= {f"{system}-{n}-1": partial(measure_rival, bundle, system, n, quick=quick) for n in counts}
    return rows


def main() -> None:
    """Measure the rows asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "runs" / "pinboard", help="bundle or run folder")
    arguments = parser.parse_args()
    from pertinent.bundle import bundle_folder

    started = time.monotonic()
    try:
        bundle = bundle_folder(arguments.bundle)
        known = rows_of(bundle, quick=arguments.quick)
        rows: list[Row] = [measured_row(name, known[name]) for name in chosen_rows(known, arguments.rows)]
        folder = results_folder(arguments)
        document = write_results("serving", rows, targets, seeds=[SEED], started=started, folder=folder)
    except PertinentError as error:
        sys.exit(f"serving: {error}")
    columns = (
        "in_process_p50_ms",
        "quiet_p50_ms",
        "http_adds_p50_ms",
        "capacity_rate",
        "capacity_p99_ms",
        "twice_p99_ms",
    )
    print_table(document["rows"], columns)
    print_targets(document)


if __name__ == "__main__":
    main()
