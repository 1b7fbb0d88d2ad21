"""Prometheus metrics, summed over the workers by prometheus_client's multiprocess mode.

The mode is on where PROMETHEUS_MULTIPROC_DIR was set before prometheus_client was imported: `serve` sees to that.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_COUNTS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000)


class Metrics:
    """One worker's metrics, and the sum over all workers as text."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "pertinent_requests", "answers by path and status", ("path", "status"), registry=registry
        )
        self.stage = Histogram(
            "pertinent_stage_seconds",
            "latency by stage: read (body), parse, queue, store, features, network, write, total",
            ("stage",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.candidates = Histogram("pertinent_candidates", "candidates a request", registry=registry, buckets=_COUNTS)
        self.unknown = Counter("pertinent_unknown_items", "candidates that no store had", registry=registry)
        self.degraded = Counter(
            "pertinent_degraded",
            "answers marked as degraded: an item without a score (unknown), a store that could not be asked (store)",
            ("reason",),
            registry=registry,
        )
        self.cache_hits = Counter("pertinent_store_cache_hits", "items that needed no look at Redis", registry=registry)
        self.cache_misses = Counter("pertinent_store_cache_misses", "items that Redis was asked for", registry=registry)
        self.changed_items = Counter("pertinent_changed_items", "items put or deleted", ("change",), registry=registry)
        self.features_seen = Counter(
            "pertinent_feature_candidates", "candidates looked at for missing features", registry=registry
        )
        self.missing = Counter(
            "pertinent_feature_missing",
            "of those, the ones in which a feature had its default, as where it is missing",
            ("feature",),
            registry=registry,
        )
        self.feature_log = Counter(
            "pertinent_feature_log_rows", "candidates for the feature log by outcome", ("outcome",), registry=registry
        )
        self.shed = Counter("pertinent_shed", "requests answered 503 by the queue", registry=registry)
        self.queue = Gauge("pertinent_queue", "requests admitted now", registry=registry, multiprocess_mode="livesum")
        self.relevance = Histogram(
            "pertinent_relevance",
            "relevance of the candidates, every 16th of a request",
            registry=registry,
            buckets=tuple(k / 10 for k in range(1, 11)),
        )
        self.bundle = Gauge(
            "pertinent_bundle",
            "workers that serve this bundle",
            ("hash",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waiting = Gauge(
            "pertinent_waiting_workers",
            "workers that cannot open the served bundle, and take no traffic until they can",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.reloads = Counter("pertinent_reloads", "new bundles by outcome", ("outcome",), registry=registry)
        self.shadow = Histogram(
            "pertinent_shadow_difference",
            "absolute difference of the shadow's relevance, every 16th candidate",
            registry=registry,
            buckets=(0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        )
        self.shadow_requests = Counter("pertinent_shadow_requests", "requests the shadow scored too", registry=registry)

    def text(self) -> bytes:
        """The exposition format; over all workers where there are several."""
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        _bury_the_dead(Path(os.environ[FOLDER]))
        summed = CollectorRegistry()
        multiprocess.MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return generate_latest(summed)


def _bury_the_dead(folder: Path) -> None:
    """Gauges of workers that were killed would count for ever; counters of theirs stay, as they should."""
    pids = {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}
    for pid in pids:
        if not alive(pid):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def alive(pid: int) -> bool:
    """Whether a process of this machine runs. One that has ended does not, though its parent may not have seen it yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # gone by now, or a system without /proc
        return not Path("/proc/self/stat").exists()
    return state not in "ZX"
