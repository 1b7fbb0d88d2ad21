"""The server under open-loop load: Poisson arrivals, latency counted from the time a request was meant to be sent.

For 100, 500 and 1,000 candidates by ID, 1 and 2 workers, and items in the bundle's own files (mmap) or in a real redis-server
on the same machine that is started and loaded here: the in-process score, latency at a low rate, the highest rate whose p99
stays within 25 ms, and what happens at twice that rate. Latency by stage is the server's own Server-Timing. The sender runs
on the same machine: its share of a core is in every row. store_bytes_per_item: of the files, or what Redis grew by. A row
takes three to five minutes, the twelve about an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from pertinent.bundle.store import PROBE, mapped_bytes
from pertinent.errors import DataError, PertinentError
from pertinent.files import read_parquet
from pertinent.serving.bundles import Loaded
from pertinent.serving.loading import load_items
from pertinent.serving.scoring import score_items
from pertinent.serving.stores.embedded import EmbeddedStore
from redis_servers import start_redis

SEED = 0
P99_AIM_MS = 25.0
CANDIDATES, WORKERS = (100, 500, 1000), (1, 2)
_CONNECTIONS = 256
STORES = ("mmap", "redis")
_STAGES = ("read", "parse", "queue", "store", "features", "network", "write")


@dataclass
class Load:
    """What one stretch of load gave. latency_ms: of answers 200; shed_ms: of answers 503."""

    rate: float
    seconds: float
    latency_ms: list[float] = field(default_factory=list)
    shed_ms: list[float] = field(default_factory=list)
    failed: int = 0
    sender_cpu: float = 0.0
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _STAGES})

    def figures(self) -> dict[str, Any]:
        """Percentiles in ms, the throughput of answers 200 per second, and counts."""
        told: dict[str, Any] = {
            "rate": round(self.rate, 1),
            "answered_per_s": round(len(self.latency_ms) / self.seconds, 1),
        }
        told |= {f"p{q}_ms": percentile(self.latency_ms, q) for q in (50, 95, 99)}
        told |= {"shed": len(self.shed_ms), "shed_p95_ms": percentile(self.shed_ms, 95), "failed": self.failed}
        told |= {f"{name}_p50_ms": percentile(values, 50) for name, values in self.stages_ms.items()}
        return {**told, "sender_cpu": round(self.sender_cpu, 3)}


def percentile(values: list[float], q: int) -> float | None:
    """None of nothing."""
    return round(float(np.percentile(values, q)), 3) if values else None


def requests_of(scorer: Scorer, bundle: Path, n_candidates: int, n: int) -> list[tuple[str, list[str]]]:
    """Queries of the bundle's probe set, each with random stored items."""
    chance = random.Random(SEED)
    queries = (
        read_parquet(bundle / scorer.description["store"] / PROBE, ["query"])["query"]
        .unique(maintain_order=True)
        .to_list()
    )
    ids = list(scorer.row_of)
    return [(chance.choice(queries), chance.choices(ids, k=n_candidates)) for _ in range(n)]


def in_process_ms(scorer: Scorer, asked: list[tuple[str, list[str]]]) -> float:
    """Median of the score of the bundle's own items without a server."""
    loaded = Loaded(scorer, Path(), "", EmbeddedStore(scorer))
    spent = []
    for query, ids in asked:
        began = time.perf_counter()
        score_items(loaded, query, ids, 1_024)
        spent.append((time.perf_counter() - began) * 1000)
    return float(np.median(spent))


@contextlib.contextmanager
def server(bundle: Path, workers: int, store: str | None) -> Iterator[int]:
    """`pertinent serve` on a free port of loopback; yields the port."""
    code = "from pertinent.cli import main; main()"
    options = ["--port", "0", "--workers", str(workers), "--set", "access_log=false"]
    options += ["--store", store] if store else []
    command = [sys.executable, "-c", code, "serve", str(bundle), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.match(r"serve: http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise DataError(f"pertinent serve: expected its address, found {line.strip()!r}")
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


async def loaded(port: int, bodies: list[bytes], rate: float, seconds: float) -> Load:
    """Send Poisson arrivals at ``rate`` per second. A late sender counts against the server: latency is from the plan."""
    load, chance = Load(rate, seconds), random.Random(SEED)
    idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(_CONNECTIONS)]
    for pair in pairs:
        idle.put_nowait(pair)

    async def ask(body: bytes, planned: float) -> None:
        pair = await idle.get()
        try:
            status, head = await exchange(*pair, body)
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
        tasks.append(asyncio.create_task(ask(chance.choice(bodies), planned)))
    await asyncio.gather(*tasks)
    load.sender_cpu = (time.process_time() - cpu) / (time.perf_counter() - began)
    for _, writer in pairs:
        writer.close()
    return load


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes]:
    """One request on a connection that is kept; the status and the head of the answer."""
    writer.write(b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
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
        for name, value in re.findall(rb"(\w+);dur=([\d.]+)", head):
            load.stages_ms[name.decode()].append(float(value))


def capacity(port: int, bodies: list[bytes], first: float, seconds: float) -> Load | None:
    """The highest rate, in steps of an eighth, whose p99 stays within the aim with none shed; None where none does."""
    best, rate = None, first
    while True:
        load = asyncio.run(loaded(port, bodies, rate, seconds))
        p99 = percentile(load.latency_ms, 99)
        if load.shed_ms or load.failed or p99 is None or p99 > P99_AIM_MS:
            return best
        best, rate = load, rate * 1.125


def measure(bundle: Path, store: str, n_candidates: int, workers: int, *, quick: bool) -> dict[str, Any]:
    """A row: in process, at a tenth of what one thread can do, at capacity, and at twice that."""
    with items_in(store, bundle) as (address, n_bytes):
        return _measured(bundle, store, address, n_bytes, n_candidates, workers, quick)


def _measured(
    bundle: Path, store: str, address: str | None, n_bytes: int, n_candidates: int, workers: int, quick: bool
) -> dict[str, Any]:
    scorer = open_bundle(bundle)
    asked = requests_of(scorer, bundle, n_candidates, 20 if quick else 200)
    bodies = [orjson.dumps({"query": query, "item_ids": ids}) for query, ids in asked]
    alone_ms = in_process_ms(scorer, asked)
    seconds, highest = (1.0, 1) if quick else (20.0, workers)
    figures: dict[str, Any] = {"candidates": n_candidates, "workers": workers, "store": store}
    figures |= {"n_items": len(scorer.row_of), "store_bytes_per_item": round(n_bytes / len(scorer.row_of), 1)}
    figures["in_process_p50_ms"] = round(alone_ms, 3)
    with server(bundle, workers, address) as port:
        asyncio.run(loaded(port, bodies, 10.0, 1.0 if quick else 3.0))  # warm
        quiet = asyncio.run(loaded(port, bodies, 100 / alone_ms, seconds))
        figures |= {f"quiet_{key}": value for key, value in quiet.figures().items()}
        if (p50 := percentile(quiet.latency_ms, 50)) is not None:
            figures["http_adds_p50_ms"] = round(p50 - alone_ms, 3)
        best = capacity(port, bodies, 300 / alone_ms * highest, seconds)
        if best is not None:
            figures |= {f"capacity_{key}": value for key, value in best.figures().items()}
            twice = asyncio.run(loaded(port, bodies, 2 * best.rate, seconds))
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


def main() -> None:
    """Measure the rows asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "runs" / "pinboard", help="bundle or run folder")
    arguments = parser.parse_args()
    from pertinent.bundle import bundle_folder

    started = time.monotonic()
    try:
        bundle = bundle_folder(arguments.bundle)
        known = {f"{store}-{n}-{w}": (store, n, w) for store in STORES for n in CANDIDATES for w in WORKERS}
        quick = arguments.quick
        rows: list[Row] = [
            measured_row(name, lambda told=known[name]: measure(bundle, *told, quick=quick))
            for name in chosen_rows(known, arguments.rows)
        ]
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
