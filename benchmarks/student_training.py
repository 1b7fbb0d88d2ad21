"""How fast a student trains from label shards, and that shards larger than memory stream through: generated rows.

    python benchmarks/student_training.py

Rows: rows-100k, rows-1m and rows-5m, each a process of its own: so many label rows, 50 a query, of 20,000 items made of
drawn words, in shards of 250,000 in random order, features in one process, one epoch over all. What is learned is of no interest.
rows-5m takes about a quarter of an hour on 2 cores, the features most of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tokenizers import Tokenizer, models, pre_tokenizers

from common import (
    Target,
    measure_rows,
    run_main,
)
from pertinent.files import atomic_path, cache_folder, write_json
from pertinent.student.config import StudentConfig
from pertinent.student.neural import Learner, fit
from pertinent.student.prepare import prepare
from pertinent.student.vectors import StaticVectors, first_vectors

SIZES = {"rows-100k": 100_000, "rows-1m": 1_000_000, "rows-5m": 5_000_000}
PAIRS_PER_QUERY, N_ITEMS, SHARD_ROWS, SEED = 50, 20_000, 250_000, 0
COLUMNS = ("n_rows", "features_rows_per_s", "training_rows_per_s", "rows_per_s", "peak_gib")
_WORDS = [c + v + d + w for c in "bdfgklmnprstvz" for v in "aeiou" for d in "lmnrst" for w in ("a", "o", "er", "in")]
_GRADES = ("p_1", "p_2", "p_3", "p_4", "p_5")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("student_training", __doc__, rows_of, targets, columns=COLUMNS, seeds=[SEED])


def rows_of(quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    return {name: partial(measure, size // 50 if quick else size) for name, size in SIZES.items()}


def measure(n_rows: int) -> dict[str, Any]:
    """One epoch over generated shards: the features, then the network."""
    folders = generated(n_rows)
    config = StudentConfig(epochs=1)
    with tempfile.TemporaryDirectory(dir=folders["labels"].parent) as out:
        start = first_vectors(folders["labels"] / "token_vectors.npy", config.dimensions)
        began = time.monotonic()
        prepared = prepare(config, **folders, out=Path(out), mined={})
        featured = time.monotonic()
        fit(config, Learner.of(config, StaticVectors.of(start, prepared), prepared), prepared, Path(out), SEED)
        trained = time.monotonic()
    return {
        "n_rows": n_rows,
        "features_rows_per_s": round(n_rows / (featured - began)),
        "training_rows_per_s": round(n_rows / (trained - featured)),
        "rows_per_s": round(n_rows / (trained - began)),
    }


def generated(n_rows: int) -> dict[str, Path]:
    """The folders data, text and labels, made once in the user's cache."""
    root = cache_folder() / "benchmarks" / "student_training" / str(n_rows)
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(root) as temporary:
            _generate(temporary, n_rows)
    return {name: root / name for name in ("data", "text", "labels")}


def _generate(root: Path, n_rows: int) -> None:
    rng = np.random.default_rng(SEED)
    for name in ("data", "text", "labels"):
        (root / name).mkdir(parents=True)
    n_items, n_queries = min(N_ITEMS, n_rows), n_rows // PAIRS_PER_QUERY
    titles, bodies, queries = (_texts(rng, n, words) for n, words in ((n_items, 6), (n_items, 18), (n_queries, 3)))
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(n_items)], "title": titles})
    items.with_columns(description=pl.Series(bodies)).write_parquet(root / "data" / "items.parquet")
    text = items.with_columns(body=pl.Series(bodies))
    text.with_columns(text=pl.col("title") + " " + pl.col("body")).write_parquet(root / "text" / "items.parquet")
    judged = pl.DataFrame({"query": [f"{q} held out" for q in queries[:400]], "item_id": items["item_id"][:400]})
    judged = judged.with_columns(query_id="query", grade=pl.Series(rng.integers(0, 5, judged.height)))
    judged = judged.with_columns(pl.col("grade").cast(pl.Float64).alias("grade_mean"), n_ratings=1)
    judged.with_columns(language=pl.lit("en"), split=pl.lit("dev")).write_parquet(root / "data" / "judgments.parquet")
    about = {
        "name": "generated",
        "generated": True,
        "note": "drawn words",
        "licence": "",
        "languages": [],
        "attributes": [],
    }
    write_json(root / "data" / "dataset.json", {**about, "scale": {"guidelines": ["1", "2", "3", "4", "5"]}})
    pieces = {"[UNK]": 0, **{word: k for k, word in enumerate(_WORDS, 1)}}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "labels" / "tokenizer.json"))
    np.save(root / "labels" / "token_vectors.npy", rng.normal(size=(len(pieces), 128)).astype(np.float16))
    for k, start in enumerate(range(0, n_rows, SHARD_ROWS)):
        n = min(SHARD_ROWS, n_rows - start)
        probs = rng.dirichlet(np.ones(5), n).astype(np.float32)
        pl.DataFrame(
            {
                "query": pl.Series(queries).gather(rng.integers(0, n_queries, n)),
                "item_id": items["item_id"].gather(rng.integers(0, n_items, n)),
                **{name: probs[:, i] for i, name in enumerate(_GRADES)},
            }
        ).write_parquet(root / "labels" / f"shard-{k:05d}.parquet", row_group_size=50_000)


def _texts(rng: np.random.Generator, n: int, n_words: int) -> list[str]:
    words = np.array(_WORDS)[rng.integers(0, len(_WORDS), (n, n_words))]
    return [" ".join(row) for row in words]


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Five million rows within the memory that the issue allows."""
    peak = rows.get("rows-5m", {}).get("peak_gib")
    return [Target("peak memory of 5,000,000 rows, GiB", 4.0, "<=", peak)]


if __name__ == "__main__":
    run_main(main)
