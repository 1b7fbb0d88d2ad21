"""Seconds to measure one system with grade probabilities, by every metric of metrics.json, on one core.

    OMP_NUM_THREADS=1 python benchmarks/metrics_speed.py --rows 1M

Generated pairs, 20 a query, five grades, probabilities that follow the grade: a value is of no interest here. A row holds
the seconds of all values together, of the slowest ones, and of every value with its analytic 95% interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from common import (
    Target,
    measure_rows,
    run_main,
)
from pertinent.evaluation.classification import most_likely
from pertinent.evaluation.intervals import analytic_interval
from pertinent.evaluation.measures import stage_measures, statistic_of
from pertinent.evaluation.metrics import Judgments
from pertinent.evaluation.statistics import value_of
from pertinent.evaluation.systems import Scored, SystemScores

PAIRS = {"1M": 1_000_000, "10M": 10_000_000}
QUICK_PAIRS = 20_000
PER_QUERY = 20
N_GRADES = 5
SEED = 0
AIM_S = 60.0
COLUMNS = ("n_pairs", "values_s", "with_intervals_s", "pairs_per_s", "peak_gib", "slowest")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("metrics_speed", __doc__, rows_of, targets, columns=COLUMNS, seeds=[SEED])


def rows_of(quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    return {name: partial(measure, QUICK_PAIRS if quick else n_pairs) for name, n_pairs in PAIRS.items()}


def pairs(n_pairs: int) -> tuple[Judgments, SystemScores]:
    """Judgments and one system's probabilities of them."""
    generator = np.random.default_rng(SEED)
    grades = generator.integers(0, N_GRADES, n_pairs)
    probs = generator.random((n_pairs, N_GRADES)) ** 3
    probs[np.arange(n_pairs), grades] += 0.5
    probs /= probs.sum(axis=1, keepdims=True)
    queries = generator.permutation(n_pairs) // PER_QUERY
    judgments = Judgments(queries, grades, -(-n_pairs // PER_QUERY), N_GRADES)
    return judgments, SystemScores("model", probs @ (2.0 ** np.arange(N_GRADES) - 1), probs, most_likely(probs), True)


def measure(n_pairs: int) -> dict[str, Any]:
    """The figures of one row. A sort that several metrics share is told under the first of them."""
    judgments, system = pairs(n_pairs)
    scored, measures = Scored(judgments, system), stage_measures(N_GRADES)
    seconds = {}
    for key, each in measures.items():
        begun = time.perf_counter()
        value_of(statistic_of(each, scored))
        seconds[key] = time.perf_counter() - begun
    begun = time.perf_counter()
    fresh = Scored(judgments, system)
    for each in measures.values():
        analytic_interval(statistic_of(each, fresh))
    with_intervals = time.perf_counter() - begun
    total = sum(seconds.values())
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]
    return {
        "n_pairs": n_pairs,
        "n_metrics": len(measures),
        "values_s": round(total, 2),
        "with_intervals_s": round(with_intervals, 2),
        "pairs_per_s": round(n_pairs / total),
        "slowest": ", ".join(f"{key} {seconds[key]:.2f}" for key in slowest),
        "seconds_by_metric": {key: round(value, 3) for key, value in seconds.items()},
    }


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Ten million judged pairs in under a minute."""
    found = rows.get("10M", {})
    measured = found.get("values_s") if found.get("n_pairs") == PAIRS["10M"] else None
    return [Target("seconds for 10M judged pairs, every metric, one core", AIM_S, "<=", measured)]


if __name__ == "__main__":
    run_main(main)
