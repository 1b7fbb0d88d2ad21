"""`pertinent label sample`: a log that need not fit in memory -> the pairs for the teacher, by strata and sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_parquet, write_parquet
from pertinent.labelling.config import SOURCES, SampleConfig
from pertinent.labelling.impressions import sample_impressions
from pertinent.labelling.neighbours import load_vectors, neighbour_pairs
from pertinent.mining.engine import open_engine
from pertinent.mining.guards import load_held_out
from pertinent.mining.logs import log_files
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

PAIRS = "pairs.parquet"


def draw_sample(
    config: SampleConfig, data: Path, text: Path, out: Path, *, vectors: Path | None = None, seed: int
) -> StageResult:
    """Write out/pairs.parquet: query, item_id, language, source, stratum, weight, sorted by source, query and item.

    text: the text stage's folder. vectors: a folder with tokenizer.json and token_vectors.npy, where
    shares.embedding is over 0. source: one of SOURCES. stratum, weight: of impressions alone; weight is the number of
    pairs, after the caps, that the pair stands for. Neighbours and random items are of the impressions' queries.
    The same rows of a log and the same seed give the same table, in whatever files, order or number of threads.
    Raises DataError in one line for a log that is missing, unreadable or without a pair to draw; ConfigError for strata,
    quotas or vectors that cannot be.
    """
    encoder = load_vectors(vectors) if config.shares.embedding else None
    held_out = load_held_out(data)
    files = sample_files(config.paths or (data / "log.parquet",))
    with open_engine(out, "label sample", threads=config.threads, memory_gib=config.memory_gib) as engine:
        drawn = sample_impressions(engine, config, files, held_out, data, out, seed)
    impressions = drawn.pairs.select("query", "item_id", "language", "stratum", "weight")
    parts = {"impressions": impressions}
    items = ItemTexts.read(text).served.select("item_id", "text").sort("item_id")
    queries = impressions.group_by("query").agg(pl.col("language").min()).sort("query")
    # A judged query is drawn in one spelling, whatever the others that its judgments have.
    judged = read_parquet(out / "judged.parquet").join(read_parquet(out / "written.parquet"), on="text")
    known = pl.concat([judged.select(query="written", item_id="item_id"), impressions.select("query", "item_id")])
    for source in SOURCES[1:]:
        n = round(config.pairs * getattr(config.shares, source))
        found = neighbour_pairs(source, queries, items, known, n, depth=config.pool_depth, seed=seed, encoder=encoder)
        parts[source] = found
        known = pl.concat([known, found.select("query", "item_id")])
    named = [part.with_columns(source=pl.lit(source, pl.String)) for source, part in parts.items()]
    pairs = pl.concat(named, how="diagonal")
    write_parquet(out / PAIRS, pairs.select("query", "item_id", "language", "source", "stratum", "weight"))
    for name in ("judged", "told", "written", "places", "drawn"):
        (out / f"{name}.parquet").unlink()
    counts = {
        "pairs": pairs.height,
        "by_source": {source: part.height for source, part in parts.items()},
        "queries": queries.height,
        "log": drawn.counts,
        "strata": drawn.strata,
    }
    return StageResult(counts, warnings=_warnings(config, parts))


def sample_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """`log_files`, which must be Parquet: other kinds go through the data stage."""
    files = log_files(paths)
    for file in files:
        if file.suffix.lower() != ".parquet":
            raise DataError(
                f"{file}: expected Parquet (the log), found {file.suffix or 'no suffix'}: build the data with it"
            )
    return files


def _warnings(config: SampleConfig, parts: dict[str, pl.DataFrame]) -> list[str]:
    asked = {source: round(config.pairs * getattr(config.shares, source)) for source in parts}
    return [
        f"{source}: found {part.height:,} of {asked[source]:,} pairs"
        for source, part in parts.items()
        if part.height < asked[source]
    ]
