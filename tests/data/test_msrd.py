from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import polars as pl
import pytest

from pertinent.data.splits import sorted_words, split_of
from pertinent.errors import DataError
from pertinent.mining.config import MineConfig
from pertinent.mining.queries import mine_queries


@pytest.fixture
def small_msrd(tmp_path: Path) -> Path:
    """60 queries, every fifth also with its words turned round, of 4 movies each; one judgment names no movie."""
    folder = tmp_path / "msrd"
    folder.mkdir()
    movies = [
        {"id": str(k), "title": f"Movie {k}", "overview": "A plot.", "tags": ["slow", "space"] if k % 2 else [],
         "genres": ["Drama"], "director": "D. Rector", "actors": ["A", "B"], "characters": ["Ann", "Bob"], "year": 1990 + k,
         "votes": 7, "rating": 6.5, "popularity": 1.5, "budget": 0, "url": "https://example.org/p.jpg"}
        for k in range(12)
    ]  # fmt: skip
    queries = [f"robot film {k}" for k in range(60)] + [f"{k} film robot" for k in range(0, 60, 5)]
    rows = [f"qid:{q}\t{text}\t{(q + k) % 12}\t{int(k == 0)}" for q, text in enumerate(queries) for k in range(4)]
    lost = next(q for q, query in enumerate(queries) if split_of(sorted_words(query)) == "train")
    text = "\n".join(["query_id\tquery\tdoc_id\tgrade", *rows, f"qid:{lost}\t{queries[lost]}\t99\t1"])
    (folder / "movies-judgments.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "movies-corpus.jsonl.gz").write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, movies))))
    return folder


def test_movies_judgments_and_the_log_that_stands_for_engagement(small_msrd: Path, build) -> None:
    dataset, quarantine, result = build(small_msrd, reader="msrd")
    item = dataset.items.row(1, named=True)
    assert (item["item_id"], item["description"], item["image"]) == ("1", "A plot.", "https://example.org/p.jpg")
    assert item["boards"] == [{"title": "slow", "count": 1}, {"title": "space", "count": 1}]
    assert (item["year"], item["numeric.year"], item["actors"]) == ("1991", 1991.0, ["A", "B"])
    assert dataset.attributes == ("year", "genres", "director", "actors", "characters")
    assert dataset.scale.n_grades == 2
    assert quarantine.select("line", "reason").rows() == [(290, "item_id must name a known item, got 99")]
    assert result.counts["judgments"] == 288
    train = dataset.judgments.filter(split="train")
    log = dataset.log.collect()
    assert log.filter(action="impression").height == train.height  # the lost movie is counted once, not in the log too
    assert log.filter(action="save").height == train.filter(grade=1).height
    assert set(log["query"]) == set(train["query"])
    assert log["user"].null_count() == log["position"].null_count() == log["timestamp"].null_count() == log.height


def test_reorderings_share_a_split(small_msrd: Path, build) -> None:
    dataset, _, _ = build(small_msrd, reader="msrd")
    assert dataset.split_rule.by == "words"
    split = dict(dataset.judgments.select("query", "split").unique().iter_rows())
    assert all(split[f"robot film {k}"] == split[f"{k} film robot"] for k in range(0, 60, 5))
    assert split == {query: split_of(sorted_words(query)) for query in split}
    by_text = {query: split_of(query) for query in split}
    assert split != by_text


def test_the_set_is_mined_with_k_of_1_and_no_held_out_query(small_msrd: Path, build, tmp_path: Path) -> None:
    dataset, _, _ = build(small_msrd, reader="msrd")
    (tmp_path / "mined").mkdir()
    with pytest.raises(DataError, match="found none: set k=1 if every query may be shown"):
        mine_queries(MineConfig(threads=1), tmp_path / "out", tmp_path / "mined", seed=0)
    result = mine_queries(MineConfig(k=1, threads=1), tmp_path / "out", tmp_path / "mined", seed=0)
    fields = pl.read_parquet(tmp_path / "mined" / "fields.parquet")
    mined = {entry["query"] for entries in fields["engaged_queries"] for entry in entries}
    assert mined == set(dataset.judgments.filter(split="train", grade=1)["query"])
    assert result.counts["propensity"] == "none: the log has no positions"


def test_a_missing_file_or_column_is_named(small_msrd: Path, build) -> None:
    judgments = small_msrd / "movies-judgments.tsv.gz"
    text = gzip.decompress(judgments.read_bytes())
    judgments.write_bytes(gzip.compress(text.replace(b"doc_id", b"movie", 1)))
    with pytest.raises(DataError, match=r"movies-judgments\.tsv\.gz: missing column 'doc_id'"):
        build(small_msrd, reader="msrd")
    judgments.unlink()
    with pytest.raises(DataError, match=r"movies-judgments\.tsv\.gz: no such file"):
        build(small_msrd, reader="msrd")


def test_the_real_set_has_its_known_counts(real_data: Path, build) -> None:
    dataset, quarantine, result = build(real_data / "msrd", reader="msrd")
    assert (result.counts["items"], result.counts["queries"], result.counts["judgments"]) == (9_750, 16_279, 384_381)
    assert result.quarantined == {"item_id must name a known item": 374}
    assert quarantine.height == 374
    assert dataset.items.filter(pl.col("boards").is_not_null()).height == 5_004
    words = dataset.judgments.select("query", "split").unique()
    words = words.with_columns(key=pl.col("query").map_elements(sorted_words, pl.String))
    assert words.group_by("key").agg(pl.col("split").n_unique())["split"].max() == 1
