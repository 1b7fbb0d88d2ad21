"""The stratified sample of a log, against rules and counts worked out in Polars and Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.cli import main
from pertinent.data.build import build_dataset
from pertinent.data.config import DataConfig
from pertinent.data.splits import normalise_query, split_of
from pertinent.errors import ConfigError, DataError
from pertinent.features.terms import terms_of
from pertinent.labelling.config import SampleConfig
from pertinent.labelling.draw import draw_sample
from pertinent.mining.guards import are_held_out, load_held_out
from pertinent.types import StageResult

COLOURS, THINGS = ("red", "blue", "oak", "wool"), ("sofa", "chair", "lamp", "rug", "coat", "vase")
TITLES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
IDS = [f"i{k:02d}" for k in range(len(TITLES))]
QUERIES = [*TITLES, *(f"{colour} größe {thing}" for colour in COLOURS for thing in THINGS)]
FREE = next(query for query in TITLES if split_of(query) == "train")
TOLD = next(query for query in TITLES if split_of(query) == "test")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """data/ and text/, and log/: 48 queries in two spellings; query q has q + 1 rows a pair on 6 items."""
    root = tmp_path_factory.mktemp("draw")
    for name in ("source", "data", "text", "log"):
        (root / name).mkdir()
    kinds = [title.split()[1] for title in TITLES]
    pl.DataFrame({"item_id": IDS, "title": TITLES, "kind": kinds}).write_csv(root / "source" / "items.csv")
    # The rule says test of TOLD; the set's own split says train, and goes first.
    judged = [{"query": FREE.upper(), "item_id": IDS[k], "grade": k % 3, "split": "train"} for k in range(3)]
    judged += [{"query": TOLD, "item_id": IDS[k], "grade": k % 3, "split": "train"} for k in range(3)]
    judged += [
        {"query": f"none {s}", "item_id": IDS[k], "grade": k, "split": s} for s in ("dev", "test") for k in (0, 1)
    ]
    pl.DataFrame(judged).write_csv(root / "source" / "judgments.csv")
    build_dataset(DataConfig.model_validate({"path": root / "source", "attributes": ["kind"]}), root / "data")
    text = pl.DataFrame({"item_id": IDS, "text": TITLES, "text_hash": ["0" * 16] * len(IDS)})
    text.write_parquet(root / "text" / "items.parquet")
    log_table().write_parquet(root / "log" / "all.parquet")
    return {name: root / name for name in ("data", "text", "log")}


def log_table() -> pl.DataFrame:
    rows = []
    for q, query in enumerate(QUERIES):
        for step in range(6):
            item = IDS[(q + step) % len(IDS)] if step < 5 else "gone"
            for seen in range(q + 1):
                spelt = f" {query.upper()} " if seen % 2 else query
                country = "DE" if "ö" in query else "US"
                rows.append((spelt, item, step * 7 + seen % 3, "de" if "ö" in query else None, country))
    table = pl.DataFrame(
        rows, schema=["query", "item_id", "position", "language", "country"], orient="row", infer_schema_length=None
    )
    blank = table.head(2).with_columns(query=pl.Series([None, " "]))
    return pl.concat([table, blank])


def drawn(
    folders: dict[str, Path], out: Path, seed: int = 0, vectors: Path | None = None, **settings: Any
) -> tuple[pl.DataFrame, StageResult]:
    out.mkdir(parents=True, exist_ok=True)
    tree = {"paths": [folders["log"]], "pairs": 60, "threads": 1, "pool_depth": 8, **settings}
    result = draw_sample(
        SampleConfig.model_validate(tree), folders["data"], folders["text"], out, vectors=vectors, seed=seed
    )
    assert [file.name for file in out.iterdir()] == ["pairs.parquet"]
    return pl.read_parquet(out / "pairs.parquet"), result


ONLY_LOG = {"impressions": 1.0, "bm25": 0.0, "embedding": 0.0, "random": 0.0}


def eligible(folders: dict[str, Path]) -> pl.DataFrame:
    """The pairs that may be drawn, found by the functions of the split and not by SQL."""
    log = log_table().drop_nulls("query").filter(pl.col("query").str.strip_chars() != "", pl.col("item_id") != "gone")
    log = log.with_columns(text=pl.Series(map(normalise_query, log["query"])))
    log = log.filter(~are_held_out(log["text"], load_held_out(folders["data"])))
    judged = pl.read_parquet(folders["data"] / "judgments.parquet")
    judged = judged.with_columns(text=pl.Series(map(normalise_query, judged["query"])))
    pairs = log.group_by("text", "item_id").agg(pl.col("position").min(), pl.col("country").min())
    return pairs.join(judged, on=["text", "item_id"], how="anti")


def keys(pairs: pl.DataFrame) -> set[tuple[str, str]]:
    return {(normalise_query(query), item) for query, item in pairs.select("query", "item_id").iter_rows()}


def test_a_sample_of_everything_is_what_the_split_functions_allow(folders: dict[str, Path], tmp_path: Path) -> None:
    pairs, result = drawn(folders, tmp_path, pairs=10_000, shares=ONLY_LOG)
    expected = eligible(folders)
    assert keys(pairs) == set(expected.select("text", "item_id").iter_rows())
    assert pairs.height == expected.height == result.counts["log"]["eligible"]
    assert (pairs["weight"] == 1.0).all()
    # The judged query is written as in its judgments, and is there though the rule would hold it out.
    assert FREE.upper() in set(pairs["query"])
    assert TOLD in set(pairs["query"])
    assert result.warnings == [f"impressions: found {expected.height} of 10,000 pairs"]


def test_strata_are_bands_and_columns_of_log_and_items(folders: dict[str, Path], tmp_path: Path) -> None:
    strata = ["popularity", "position", "language", "country", "kind"]
    pairs, result = drawn(folders, tmp_path, pairs=10_000, shares=ONLY_LOG, strata=strata)
    rows = {
        normalise_query(query): 6 * (q + 1) for q, query in enumerate(QUERIES)
    }  # "gone" counts: the query was searched
    position = {
        (text, item): low for text, item, low in eligible(folders).select("text", "item_id", "position").iter_rows()
    }
    kind = dict(zip(IDS, [title.split()[1] for title in TITLES], strict=True))

    def band(value: int, firsts: tuple[int, ...], names: tuple[str, ...]) -> str:
        return names[sum(value >= first for first in firsts)]

    for query, item, found in pairs.select("query", "item_id", "stratum").iter_rows():
        text = normalise_query(query)
        n = band(rows[text], (10, 100, 1000), ("1-9", "10-99", "100-999", "1000+"))
        at = band(position[text, item], (4, 11, 26), ("1-3", "4-10", "11-25", "26+"))
        tongue, country = ("de", "DE") if "ö" in text else ("und", "US")
        assert found == f"{n} | {at} | {tongue} | {country} | {kind[item]}"
    assert sum(stratum["pairs"] for stratum in result.counts["strata"].values()) == pairs.height


def test_places_are_the_allocations_and_weights_undo_them(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = {"shares": ONLY_LOG, "strata": ["country"], "allocation": "fixed", "pairs": 40}
    pairs, result = drawn(folders, tmp_path / "fixed", **settings)
    assert dict(pairs["stratum"].value_counts().iter_rows()) == {"DE": 20, "US": 20}
    sizes = {name: stratum["pairs"] for name, stratum in result.counts["strata"].items()}
    sums = dict(pairs.group_by("stratum").agg(pl.col("weight").sum()).iter_rows())
    assert sums == pytest.approx(sizes)
    pairs, _ = drawn(folders, tmp_path / "quota", **{**settings, "quotas": {"DE": 5}})
    assert dict(pairs["stratum"].value_counts().iter_rows()) == {"DE": 5, "US": 35}


def test_caps_hold_for_every_query_and_item(folders: dict[str, Path], tmp_path: Path) -> None:
    pairs, _ = drawn(folders, tmp_path, pairs=10_000, shares=ONLY_LOG, max_per_query=2, max_per_item=3)
    assert pairs["query"].value_counts()["count"].max() == 2
    assert pairs["item_id"].value_counts()["count"].max() == 3


def test_files_order_and_threads_change_nothing_and_the_seed_does(folders: dict[str, Path], tmp_path: Path) -> None:
    first, _ = drawn(folders, tmp_path / "first", seed=3)
    shards = tmp_path / "shards [a-z]*"  # as DuckDB writes patterns: these are names
    shards.mkdir()
    shuffled = log_table().sample(fraction=1.0, shuffle=True, seed=5)
    for k in range(4):  # the names are in another order than the rows
        shuffled.slice(k * 2000, None if k == 3 else 2000).write_parquet(shards / f"{9 - k}.parquet")
    again, _ = drawn(folders, tmp_path / "again", seed=3, paths=[shards], threads=3)
    assert first.equals(again)
    assert first.height == 60
    other, _ = drawn(folders, tmp_path / "other", seed=4)
    shown = pl.col("source") == "impressions"
    assert not first.filter(shown).equals(other.filter(shown))


def test_the_sources_have_their_shares_and_share_no_pair(folders: dict[str, Path], tmp_path: Path) -> None:
    shares = {"impressions": 0.5, "bm25": 0.3, "embedding": 0.0, "random": 0.2}
    pairs, result = drawn(folders, tmp_path, shares=shares)
    assert result.counts["by_source"] == {"impressions": 30, "bm25": 18, "embedding": 0, "random": 12}
    assert len(keys(pairs)) == pairs.height == 60
    judged = pl.read_parquet(folders["data"] / "judgments.parquet")
    assert not keys(pairs) & keys(judged)
    assert set(pairs["query"]) == set(pairs.filter(pl.col("source") == "impressions")["query"])
    titles = dict(zip(IDS, TITLES, strict=True))
    for query, item in pairs.filter(pl.col("source") == "bm25").select("query", "item_id").iter_rows():
        assert set(terms_of(query)) & set(terms_of(titles[item]))


def test_embedding_neighbours_are_the_nearest_by_the_teachers_vectors(
    folders: dict[str, Path], teacher: Path, tmp_path: Path
) -> None:
    from pertinent.labelling.neighbours import load_vectors

    shares = {"impressions": 0.5, "bm25": 0.0, "embedding": 0.5, "random": 0.0}
    pairs, _ = drawn(folders, tmp_path, vectors=teacher, shares=shares)
    encoder = load_vectors(teacher)
    vectors = encoder.encode(TITLES)
    near = pairs.filter(pl.col("source") == "embedding")
    assert near.height == 30
    for query, item in near.select("query", "item_id").iter_rows():
        cosines = vectors @ encoder.encode([query])[0]
        assert (cosines > cosines[IDS.index(item)] + 1e-6).sum() < 8


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"strata": ["contry"]}, ConfigError, "found 'contry'; nearest: 'country'"),
        (
            {"columns": {"query": "querry"}},
            DataError,
            r"expected a column 'querry' \(query\), found none; nearest: 'query'",
        ),
        ({"paths": ["gone.parquet"]}, DataError, "gone.parquet: no such file"),
        ({"shares": {"impressions": 0.5, "bm25": 0, "embedding": 0.5, "random": 0}}, ConfigError, "--vectors"),
    ],
)
def test_wrong_input_is_one_line(
    folders: dict[str, Path], tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        drawn(folders, tmp_path, **settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": {"impressions": 0.5}}, "expected a sum of 1, found 0.8"),
        ({"popularity_bands": [10, 5]}, "expected rising whole numbers over 1"),
        ({"strata": ["query"]}, "neither query nor item_id"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleConfig.model_validate(settings)


def test_the_command_samples_once_and_refuses_in_one_line(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    def run(*arguments: object) -> tuple[object, bytes, str]:
        words = ["pertinent", "label", "sample", folders["data"].parent, "--log", folders["log"], *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as stop:
            main()
        out, error = capfdbinary.readouterr()
        return stop.value.code, out, error.decode()

    out = tmp_path / "sample"
    code, document, _ = run("--out", out, "--set", "pairs=60", "--set", "pool_depth=8", "--seed", 3)
    assert code == 0
    manifest = orjson.loads(document)
    assert (manifest["counts"]["pairs"], manifest["folder"]) == (60, str(out))
    again = run("--out", out, "--set", "pairs=60", "--set", "pool_depth=8", "--seed", 3, "--set", "threads=1")
    assert (again[0], orjson.loads(again[1])) == (0, manifest)
    assert "sample: up to date, skipped" in again[2]
    code, _, error = run("--out", out, "--set", "quotas={nowhere: 3}")
    assert code == 2
    assert error.splitlines()[-1].startswith("pertinent: quotas: expected a stratum of the log, such as ")
    assert (out / "pairs.parquet").is_file()
