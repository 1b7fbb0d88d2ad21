from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import orjson
import polars as pl
import pytest

from pertinent.config import parse_config
from pertinent.data.config import DataConfig
from pertinent.data.splits import split_of
from pertinent.errors import ConfigError, DataError
from pertinent.types import Scale

N = 120


def test_the_official_release_keeps_its_test_split_and_gives_dev_by_hash(official_esci: Path, build) -> None:
    dataset, quarantine, result = build(official_esci, reader="esci")
    own = {
        f"query {k}": "test" if k % 5 == 0 else "dev" if split_of(f"query {k}") == "dev" else "train" for k in range(N)
    }
    assert dict(dataset.judgments.select("query", "split").unique().rows()) == own
    assert result.counts["dev_from_train"] == list(own.values()).count("dev") > 0
    assert dataset.items.height == 37
    assert dataset.items["bullet_points"].to_list()[:2] == [None, ["one", "two"]]
    assert dataset.attributes == ("bullet_points", "brand", "color")
    assert dataset.judgments.filter(pl.col("query") == "query 1").select("query_id", "grade").row(0) == ("1", 2)
    assert dataset.languages == ("en",)
    assert quarantine.is_empty()


def test_locale_and_small_version_choose_the_rows(official_esci: Path, build) -> None:
    folder = official_esci
    dataset, _, _ = build(folder, reader="esci", esci={"locale": "jp", "small_version": True})
    assert dataset.judgments["query_id"].n_unique() == N // 2
    assert set(dataset.judgments["language"]) == {"ja"}
    assert all(item.startswith("jp") for item in dataset.items["item_id"])
    with pytest.raises(DataError, match="no judgments with product_locale es"):
        build(folder, reader="esci", esci={"locale": "es"})


def test_a_folder_with_neither_form_is_refused(tmp_path: Path, build) -> None:
    with pytest.raises(DataError, match=r"expected shopping_queries_dataset_examples\.parquet .* found neither"):
        build(tmp_path, reader="esci")


def test_the_small_set_never_reads_the_query_ids_of_a_product(tmp_path: Path, build) -> None:
    products = [
        {"asin": f"B{k}", "title": f"T{k}", "description": "" if k else "A lamp.", "bullet_points": "a\nb", "brand": None, "color": "red",
         "category": ["Home", "Lamps"] if k else [], "image": "u", "price": None, "rating": 4.5, "rating_count": k,
         "is_book": k == 1, "query_id": ["67"], "_id": f"B{k}"}
        for k in range(8)
    ]  # fmt: skip
    judgments = [
        {"query": f"q {q}", "asin": f"B{(q + k) % 8}", "label": "ISCE"[k]} for q in range(60) for k in range(4)
    ]
    for name, rows in (("ubi_ecommerce_products.json.gz", products), ("judgments.jsonl.gz", judgments)):
        (tmp_path / name).write_bytes(gzip.compress(b"\n".join(orjson.dumps(row) for row in rows)))
    dataset, _, _ = build(tmp_path, reader="esci")
    assert dataset.items.columns == [
        "item_id", "title", "description", "image", "language", "numeric.is_book", "numeric.rating", "numeric.rating_count",
        "bullet_points", "brand", "color", "category",
    ]  # fmt: skip
    row = dataset.items.row(1, named=True)
    assert (row["numeric.is_book"], row["bullet_points"], row["category"]) == (1.0, ["a", "b"], ["Home", "Lamps"])
    assert dataset.scale.n_grades == 4
    splits = [
        dict(build(tmp_path, reader="esci", esci={"fold": k})[0].judgments.select("query", "split").rows())
        for k in range(5)
    ]
    assert Counter(splits[0].values()) == {"train": 40, "dev": 8, "test": 12}
    assert all([found[query] for found in splits].count("test") == 1 for query in splits[0])


def test_a_fold_that_is_none_of_the_five_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^my\.yaml: esci\.fold: expected less than 5, found 5$"):
        parse_config(DataConfig, {"reader": "esci", "path": ".", "esci": {"fold": 5}}, "my.yaml")


def test_the_real_small_set_has_its_known_counts(real_data: Path, build) -> None:
    dataset, quarantine, result = build(real_data / "esci_us_small", reader="esci")
    assert (result.counts["judgments"], result.counts["queries"], result.counts["items"]) == (6_678, 150, 6_764)
    assert result.counts["grades"] == {"L1": 1_086, "L2": 305, "L3": 1_898, "L4": 3_389}
    assert result.counts["splits"] == {
        "train": {"judgments": 4_473, "queries": 100},
        "dev": {"judgments": 927, "queries": 20},
        "test": {"judgments": 1_278, "queries": 30},
    }
    assert quarantine.is_empty()
    assert "query_id" not in dataset.items.columns
    assert isinstance(dataset.scale, Scale)
    assert dataset.items.schema["category"] == pl.List(pl.String)
