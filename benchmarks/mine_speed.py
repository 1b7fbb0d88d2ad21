"""Rows a second and peak memory of `mine_queries` on a generated log, against the same tables by bare DuckDB SQL.

    python benchmarks/mine_speed.py

50 million rows, generated once into the user's cache. Three rows, each measurement a process of its own, alternating:
``mine``, the stage with its guards (normalisation, held-out queries, k users, private texts, cross-fitting versions);
``bare``, the SQL that writes the same three tables without any guard, for every query as it is written; ``group-by``, the
first statement of it alone, one GROUP BY, to see where the time goes. All have the same threads and memory limit.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from common import (
    Row,
    Target,
    chosen_rows,
    new_row,
    parser_of,
    print_table,
    print_targets,
    results_folder,
    run_main,
    runs_in_turn,
    write_results,
)
from pertinent.data.build import build_dataset
from pertinent.data.config import DataConfig
from pertinent.files import atomic_path, cache_folder
from pertinent.mining.config import MineConfig
from pertinent.mining.engine import Engine, open_engine
from pertinent.mining.queries import mine_queries

N_ROWS, N_QUICK = 50_000_000, 200_000
ROUNDS = 3
SEED = 0
NAMES = ("mine", "bare", "group-by")
COLUMNS = ("rows_per_s", "lowest", "highest", "seconds_median", "cpu_seconds", "peak_gib", "queries_shown", "rates")
_PAGE, _SEARCHES = 10, 50_000  # results a search; searches a file
_ACTIONS = ("impression", "click", "long_click", "save")
_WORDS = [c + v + d + w for c in "bdfgklmnprstvz" for v in "aeiou" for d in "lmnrst" for w in ("a", "o", "er", "in")]


def main() -> None:
    """Run the rounds, or, as a child process, one measurement."""
    started = time.monotonic()
    parser = parser_of(__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_rows = N_QUICK if arguments.quick else N_ROWS
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](prepared(n_rows))))
        return
    prepared(n_rows)
    names = chosen_rows(NAMES, arguments.rows)
    found = runs_in_turn(names, 1 if arguments.quick else ROUNDS, quick=arguments.quick)
    rows = [row_of(name, runs, n_rows) for name, runs in found.items()]
    folder = results_folder(arguments)
    document = write_results("mine_speed", rows, targets, seeds=[SEED], started=started, folder=folder)
    print_table(document["rows"], COLUMNS)
    print_targets(document)


def row_of(name: str, runs: Sequence[Mapping[str, Any]], n_rows: int) -> Row:
    """The rounds of one row over a log of ``n_rows`` rows, summed up."""
    seconds = [run["seconds"] for run in runs]
    figures = {
        "n_rows": n_rows,
        "rows_per_s": round(n_rows / median(seconds)),
        "lowest": round(n_rows / max(seconds)),
        "highest": round(n_rows / min(seconds)),
        "seconds_median": round(median(seconds), 2),
        "peak_gib": round(max(run["peak"] for run in runs) / 2**30, 2),
        **({"cpu_seconds": round(median([run["cpu_seconds"] for run in runs]), 2)} if "cpu_seconds" in runs[0] else {}),
        **{key: runs[0][key] for key in ("queries_shown", "rates", "pairs") if key in runs[0]},
    }
    return new_row(name, figures, sum(seconds))


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """What the guards cost, and that a log larger than memory fits."""
    mine, bare = rows.get("mine"), rows.get("bare")
    ratio = round(mine["seconds_median"] / bare["seconds_median"], 3) if mine and bare else None
    return [
        Target("time of mine, times that of bare SQL", 1.3, "<=", ratio),
        Target("peak memory of mine, GiB", 4.0, "<=", mine["peak_gib"] if mine else None),
        Target("minutes of mine", 10.0, "<=", round(mine["seconds_median"] / 60, 2) if mine else None),
    ]


def measure_mine(folder: Path) -> dict[str, Any]:
    """The stage, from the files of the log to its three tables."""
    config = MineConfig.model_validate({"log": {"paths": [folder / "log"]}})
    with tempfile.TemporaryDirectory(dir=folder) as out:
        found, result = _timed(lambda: mine_queries(config, folder / "data", Path(out), seed=SEED))
    return {**found, "queries_shown": result.counts["queries"]["shown"], "rates": result.counts["rates"]}


def measure_bare(folder: Path, *, pairs_alone: bool = False) -> dict[str, Any]:
    """The same sums, rates and lists for every query as it is written, in as few statements."""
    config = MineConfig()
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        open_engine(Path(out), "bare", threads=None, memory_gib=config.memory_gib) as engine,
    ):
        found, n_rates = _timed(lambda: bare_sql(engine, folder / "log", Path(out), config, pairs_alone=pairs_alone))
    return {**found, "rates": n_rates}


def bare_sql(engine: Engine, log: Path, out: Path, config: MineConfig, *, pairs_alone: bool) -> int:
    """Write rates, item_rates and fields, or pairs alone; returns the pairs."""
    source = f"read_parquet('{log}/*.parquet')"
    last = engine.row(f"SELECT epoch_us(max(timestamp)) FROM {source}")[0]
    assert config.half_life_days is not None
    half_life_us = config.half_life_days * 86_400 * 1e6
    rows = (
        "SELECT query, item_id, action = 'impression' AS seen, action IN ('long_click', 'save') AS acted,"
        f" pow(2::DOUBLE, (epoch_us(timestamp) - {last}) / {half_life_us}::DOUBLE) AS decay,"
        f" greatest(1 / position, {config.propensity.clip}::DOUBLE) AS chance FROM {source}"
    )
    sums = (
        "count(*) FILTER (seen) AS impressions, count(*) FILTER (acted) AS actions,"
        " coalesce(sum(decay * chance) FILTER (seen), 0) AS examined, coalesce(sum(decay) FILTER (acted), 0) AS engaged,"
        " coalesce(sum(decay / chance) FILTER (acted), 0) AS weight"
    )
    pairs = f"SELECT query, item_id, {sums} FROM ({rows}) GROUP BY query, item_id"
    if pairs_alone:
        engine.write(out / "pairs.parquet", pairs)
        return int(engine.row(f"SELECT count(*) FROM '{out}/pairs.parquet'")[0])
    engine.table("pairs", pairs)
    strength = f"{config.prior_strength}::DOUBLE"
    mean = engine.row("SELECT sum(engaged) / sum(examined) FROM pairs")[0]
    of_item = "sum(impressions) AS impressions, sum(actions) AS actions"
    of_item += f", (sum(engaged) + {strength} * {mean}::DOUBLE) / (sum(examined) + {strength}) AS rate"
    engine.table("items", f"SELECT item_id, {of_item} FROM pairs GROUP BY item_id")
    engine.write(out / "item_rates.parquet", "FROM items ORDER BY item_id")
    rate = f"(engaged + {strength} * i.rate) / (examined + {strength}) AS rate"
    joined = f"SELECT query, p.item_id, p.impressions, p.actions, {rate} FROM pairs p JOIN items i USING (item_id)"
    engine.write(out / "rates.parquet", f"{joined} ORDER BY query, p.item_id")
    best = f"list({{'query': query, 'weight': weight}} ORDER BY weight DESC, query)[1:{config.max_queries}]"
    lists = f"SELECT item_id, {best} AS engaged_queries FROM pairs WHERE weight > 0 GROUP BY item_id ORDER BY item_id"
    engine.write(out / "fields.parquet", lists)
    return int(engine.row("SELECT count(*) FROM pairs")[0])


def _timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    started, cpu_started = time.perf_counter(), cpu()
    result = work()
    return {"seconds": time.perf_counter() - started, "cpu_seconds": cpu() - cpu_started}, result


def prepared(n_rows: int) -> Path:
    """The folder with the log and the data folder, made once."""
    folder = cache_folder() / "benchmarks" / f"mine-{n_rows}-{SEED}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder) as temporary:
            for name in ("log", "source", "data"):
                (temporary / name).mkdir(parents=True)
            write_data(temporary / "source", temporary / "data", n_rows)
            write_log(temporary / "log", n_rows)
    return folder


def write_data(source: Path, data: Path, n_rows: int) -> None:
    """The catalogue, and judgments of 3,000 of the queries."""
    n_items, n_queries = n_items_of(n_rows), n_queries_of(n_rows)
    items = pl.DataFrame({"item_id": np.arange(n_items)}).select(pl.format("item-{}", "item_id").alias("item_id"))
    items.with_columns(title=pl.lit("a title")).write_parquet(source / "items.parquet")
    queries = query_texts(np.arange(0, n_queries, max(n_queries // 3_000, 1)))
    judged = [
        pl.DataFrame({"query": queries, "item_id": items["item_id"][: len(queries)]}).with_columns(grade=pl.lit(grade))
        for grade in (0, 4)
    ]
    judged[1] = judged[1].with_columns(item_id=items["item_id"][len(queries) : 2 * len(queries)])
    pl.concat(judged).write_parquet(source / "judgments.parquet")
    build_dataset(DataConfig(path=source, name="mine-speed"), data)


def n_queries_of(n_rows: int) -> int:
    """Queries that could be asked: one a search, so that by Zipf's law a quarter of them is."""
    return max(n_rows // 12, 2_000)


def n_items_of(n_rows: int) -> int:
    """Items of the catalogue: a million for 50 million rows."""
    return max(n_rows // 50, 7_000)


def query_texts(ranks: np.ndarray[Any, np.dtype[np.int64]]) -> pl.Series:
    """Two words and a number; one in twenty is not ASCII, one in ten thousand holds an e-mail address."""
    mixed = ranks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = np.array(_WORDS)
    first, second = (words[(mixed >> np.uint64(shift)) % np.uint64(words.size)] for shift in (7, 23))
    frame = pl.DataFrame({"first": first, "second": second, "rank": ranks})
    text = pl.format("{} {} {}", "first", "second", "rank")
    rank = pl.col("rank")
    texts = (
        pl.when(rank % 20 == 3)
        .then(pl.format("café {}", text))
        .when(rank % 9_973 == 9_972)
        .then(pl.format("{}@mail.example", "second"))
        .otherwise(text)
    )
    return frame.select(texts.alias("query")).to_series()


def write_log(folder: Path, n_rows: int) -> None:
    """Files of searches in the order of time over 180 days, of about 11 rows each, by Zipf's law over the queries.

    Searchers look at position k with probability k^-0.7; a tenth of the searches are written with capitals.
    """
    rng = np.random.default_rng(SEED)
    n_queries, n_items, n_users = n_queries_of(n_rows), n_items_of(n_rows), max(n_rows // 50, 500)
    chances = np.cumsum(1.0 / np.arange(1, n_queries + 1))
    texts = query_texts(np.arange(n_queries))
    done = part = 0
    while done < n_rows:
        queries = np.searchsorted(chances, rng.random(_SEARCHES) * chances[-1])
        users = (n_users * rng.random(_SEARCHES) ** 2).astype(np.int64)
        length_s = 180 * 86_400 * _SEARCHES * 12 / n_rows
        starts_s = 1_700_000_000 + length_s * part + np.sort(rng.random(_SEARCHES)) * length_s
        capitals = rng.random(_SEARCHES) < 0.1
        position = np.tile(np.arange(1, _PAGE + 1), _SEARCHES)
        search = np.repeat(np.arange(_SEARCHES), _PAGE)
        slot = position + np.repeat(rng.integers(0, _PAGE, _SEARCHES), _PAGE)  # 10 of the query's 20 best items
        mixed = (queries[search] * 1_000_003 + slot * 7_919 + 12_345) * 2_654_435_761
        items = (n_items * (((mixed >> 11) & 0xFFFFFFFF) / 2**32) ** 2).astype(np.int64)
        clicked = (rng.random(position.size) < position**-0.7) & (rng.random(position.size) < 0.25)
        long, saved = (clicked & (rng.random(position.size) < share) for share in (0.45, 0.15))
        picked = [np.arange(position.size), *(np.flatnonzero(acted) for acted in (clicked, long, saved))]
        action = np.repeat(np.arange(4), [indices.size for indices in picked])
        index = np.concatenate(picked)
        seconds = starts_s[search[index]] + np.where(action > 0, 5 + 7 * action + 3 * position[index], 0)
        order = np.argsort(seconds, kind="stable")[: n_rows - done]
        index, action, seconds = index[order], action[order], seconds[order]
        query = texts.gather(queries[search[index]])
        frame = pl.DataFrame(
            {
                "timestamp": (seconds * 1e6).astype(np.int64),
                "query": query,
                "item_id": items[index],
                "position": position[index].astype(np.int32),
                "action": action,
                "user": users[search[index]],
                "capitals": capitals[search[index]],
            }
        )
        frame = frame.with_columns(
            pl.col("timestamp").cast(pl.Datetime("us", "UTC")),
            pl.when("capitals").then(pl.col("query").str.to_titlecase()).otherwise("query").alias("query"),
            pl.format("item-{}", "item_id").alias("item_id"),
            pl.col("action").replace_strict(list(range(4)), _ACTIONS, return_dtype=pl.String),
            pl.format("user-{}", "user").alias("user"),
        )
        frame.drop("capitals").write_parquet(folder / f"part-{part:04d}.parquet", compression="zstd")
        done += frame.height
        part += 1


MEASURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "mine": measure_mine,
    "bare": measure_bare,
    "group-by": lambda folder: measure_bare(folder, pairs_alone=True),
}


if __name__ == "__main__":
    run_main(main)
