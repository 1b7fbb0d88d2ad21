"""Time and peak memory of `pertinent label sample` on a generated log, against the same draw by bare DuckDB SQL.

    python benchmarks/sample_speed.py

The 50 million rows of mine_speed.py, generated once into the user's cache (some 10 minutes); 300,000 pairs by popularity and
position, square-root allocation, caps by query and item. Two rows, each measurement a process of its own, three rounds in turn,
about 15 minutes in all on 2 cores: ``sample``, the stage with its guards (spellings made one, held-out queries and judged pairs
left out, the same draw whatever the order of files); ``bare``, the SQL that groups, caps and draws the same number of pairs of
queries as they are written. Both have the same threads and memory limit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from common import (
    Target,
    chosen_rows,
    parser_of,
    print_table,
    print_targets,
    results_folder,
    run_main,
    runs_in_turn,
    write_results,
)
from mine_speed import N_QUICK, N_ROWS, prepared, row_of
from pertinent.files import atomic_path
from pertinent.labelling.allocation import allocate
from pertinent.labelling.config import SampleConfig
from pertinent.labelling.draw import PAIRS, draw_sample
from pertinent.mining.engine import Engine, open_engine
from pertinent.mining.sql import literal

ROUNDS = 3
SEED = 0
NAMES = ("sample", "bare")
COLUMNS = ("n_rows", "rows_per_s", "lowest", "highest", "seconds_median", "peak_gib", "pairs")


def main() -> None:
    """Run the rounds, or, as a child process, one measurement."""
    started = time.monotonic()
    parser = parser_of(__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_rows = N_QUICK if arguments.quick else N_ROWS
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](with_texts(prepared(n_rows)), sample_config(n_rows))))
        return
    names = chosen_rows(NAMES, arguments.rows)
    with_texts(prepared(n_rows))
    found = runs_in_turn(names, 1 if arguments.quick else ROUNDS, quick=arguments.quick)
    rows = [row_of(name, runs, n_rows) for name, runs in found.items()]
    document = write_results(
        "sample_speed", rows, targets, seeds=[SEED], started=started, folder=results_folder(arguments)
    )
    print_table(document["rows"], COLUMNS)
    print_targets(document)


def sample_config(n_rows: int) -> SampleConfig:
    """300,000 impressions of 50 million rows, and as large a share of fewer."""
    shares = {"impressions": 1.0, "bm25": 0.0, "embedding": 0.0, "random": 0.0}
    tree = {"pairs": max(n_rows * 3 // 500, 1), "shares": shares, "strata": ["popularity", "position"]}
    return SampleConfig.model_validate(tree)


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """What the guards cost, and that a log larger than memory fits."""
    sample, bare = rows.get("sample"), rows.get("bare")
    ratio = round(sample["seconds_median"] / bare["seconds_median"], 3) if sample and bare else None
    return [
        Target("time of sample, times that of bare SQL", 1.3, "<=", ratio),
        Target("peak memory of sample, GiB", 4.0, "<=", sample["peak_gib"] if sample else None),
    ]


def measure_sample(folder: Path, config: SampleConfig) -> dict[str, Any]:
    """The stage, from the files of the log to the table of pairs."""
    told = config.model_copy(update={"paths": (folder / "log",)})
    with tempfile.TemporaryDirectory(dir=folder) as out:
        started = time.perf_counter()
        result = draw_sample(told, folder / "data", folder / "text", Path(out), seed=SEED)
        return {"seconds": time.perf_counter() - started, "pairs": result.counts["pairs"]}


def measure_bare(folder: Path, config: SampleConfig) -> dict[str, Any]:
    """As few statements as group the pairs of queries as they are written, cap them and draw by strata."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        open_engine(Path(out), "bare", threads=None, memory_gib=config.memory_gib) as engine,
    ):
        started = time.perf_counter()
        bare_sql(engine, folder, Path(out), config)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "pairs": pl.read_parquet(Path(out) / PAIRS).height}


def bare_sql(engine: Engine, folder: Path, out: Path, config: SampleConfig) -> None:
    """Write pairs.parquet: query, item_id, stratum."""
    source = f"read_parquet('{folder}/log/*.parquet')"
    grouped = f"SELECT query, item_id, count(*) AS n, min(position) AS position FROM {source} GROUP BY query, item_id"
    engine.table("pairs", grouped)
    engine.table("queries", "SELECT query, sum(n) AS query_rows FROM pairs GROUP BY query")
    stratum = " || ' | ' || ".join(
        _band(name, edges)
        for name, edges in (("query_rows", config.popularity_bands), ("position", config.position_bands))
    )
    engine.table(
        "drawn",
        f"SELECT query, item_id, {stratum} AS stratum, hash(query, item_id, {SEED}) AS draw FROM pairs JOIN queries USING"
        f" (query) SEMI JOIN read_parquet('{folder}/data/items.parquet') i USING (item_id)",
    )
    ranked = "row_number() OVER (PARTITION BY {0} ORDER BY draw)"
    engine.table(
        "capped",
        f"SELECT * FROM (SELECT * FROM drawn QUALIFY {ranked.format('query')} <= {config.max_per_query})"
        f" QUALIFY {ranked.format('item_id')} <= {config.max_per_item}",
    )
    sizes = dict(engine.rows("SELECT stratum, count(*) FROM capped GROUP BY stratum"))
    places = allocate(sizes, config.pairs, config.allocation, {})
    told = ", ".join(f"({literal(name)}, {n})" for name, n in places.items())
    engine.write(
        out / PAIRS,
        f"SELECT query, item_id, stratum FROM (SELECT *, {ranked.format('stratum')} AS place FROM capped)"
        f" JOIN (VALUES {told}) p(stratum, places) USING (stratum) WHERE place <= places ORDER BY 1, 2",
    )


def _band(number: str, firsts: Sequence[int]) -> str:
    cases = " ".join(f"WHEN {number} < {first} THEN '<{first}'" for first in firsts)
    return f"CASE {cases} ELSE '{firsts[-1]}+' END"


def with_texts(folder: Path) -> Path:
    """``folder`` with text/, which the stage reads for the items' texts."""
    text = folder / "text"
    if not text.exists():
        items = pl.read_parquet(folder / "data" / "items.parquet", columns=["item_id", "title"])
        with atomic_path(text) as temporary:
            temporary.mkdir()
            items.select("item_id", text="title").write_parquet(temporary / "items.parquet")
    return folder


MEASURES: dict[str, Callable[[Path, SampleConfig], dict[str, Any]]] = {"sample": measure_sample, "bare": measure_bare}


if __name__ == "__main__":
    run_main(main)
