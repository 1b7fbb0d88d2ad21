"""Weights of labels: filtered ones weigh nothing, balanced cells weigh the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from pertinent.config import parse_config
from pertinent.errors import ConfigError
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.labelling.weights import cell_weights, weigh_labels
from pertinent.student.shards import label_blocks

NAMES = ("p_1", "p_2")


def written(folder: Path, rows: list[tuple[float, str | None]]) -> None:
    """Two shards of labels with P(grade 2) and a language."""
    table = pl.DataFrame(rows, schema={"p_2": pl.Float32, "language": pl.String}, orient="row")
    table = table.with_columns(p_1=(1 - pl.col("p_2")).cast(pl.Float32), query=pl.lit("q"), item_id=pl.lit("i"))
    half = table.height // 2
    for number, part in enumerate((table.head(half), table.slice(half))):
        part.select("query", "item_id", "language", *NAMES).write_parquet(folder / f"shard-{number:05d}.parquet")


def weights_of(folder: Path) -> list[float]:
    return pl.read_parquet(folder / "shard-*.parquet")["weight"].to_list()


def test_cells_weigh_the_same_by_hand() -> None:
    # 6, 3 and 1 of 10: 10/18, 10/9 and 10/3 each, so that every cell has 10/3 in all.
    weights = cell_weights(Counter({("a",): 6, ("b",): 3, ("c",): 1}), max_weight=10)
    assert weights == pytest.approx({("a",): 10 / 18, ("b",): 10 / 9, ("c",): 10 / 3})
    # At most 2 for the last: 10/3 + 10/3 + 2 in all, scaled to a mean of 1 over 10.
    capped = cell_weights(Counter({("a",): 6, ("b",): 3, ("c",): 1}), max_weight=2)
    scale = 10 / (20 / 3 + 2)
    assert capped == pytest.approx({("a",): 10 / 18 * scale, ("b",): 10 / 9 * scale, ("c",): 2 * scale})


def test_unsure_labels_weigh_nothing_and_stay(tmp_path: Path) -> None:
    written(tmp_path, [(0.9, "en"), (0.6, "en"), (0.1, "de"), (0.5, None)])
    found = weigh_labels(tmp_path, NAMES, LabelsConfig(min_confidence=0.8))
    assert weights_of(tmp_path) == [1.0, 0.0, 1.0, 0.0]
    assert found == {"filtered": 2, "effective_pairs": 2, "weights": {"all": 1.0}}


def test_grades_and_languages_are_balanced_over_what_is_not_filtered(tmp_path: Path) -> None:
    written(tmp_path, [(0.9, "en"), (0.9, "en"), (0.9, "en"), (0.1, "en"), (0.9, None), (0.55, "de")])
    config = LabelsConfig(balance=("grade", "language"), min_confidence=0.6)
    found = weigh_labels(tmp_path, NAMES, config)
    # Of 5 in 3 cells: 5/9 for each of the three, 5/3 for the two alone.
    assert weights_of(tmp_path) == pytest.approx([5 / 9, 5 / 9, 5 / 9, 5 / 3, 5 / 3, 0.0])
    assert found["weights"] == {"L1 | en": 1.6667, "L2 | en": 0.5556, "L2 | und": 1.6667}
    assert found["filtered"] == 1
    assert found["effective_pairs"] == round(25 / (3 * (5 / 9) ** 2 + 2 * (5 / 3) ** 2))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert weigh_labels(tmp_path, NAMES, config) == found  # cut off at the end and done again
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_student_reads_the_weights_of_the_stage(stages: dict[str, Path], teacher: Path, tmp_path: Path) -> None:
    config = LabelsConfig(pool_per_query=3, pool_depth=8, unit_pairs=16, balance=("language",), max_weight=3)
    counts = label_pairs(config, stages["data"], stages["text"], teacher, tmp_path, seed=1).counts
    labels = pl.read_parquet(tmp_path / "shard-*.parquet")
    names = ("p_1", "p_2", "p_3")
    assert pl.concat(label_blocks(tmp_path, names))["weight"].to_list() == labels["weight"].to_list()
    assert labels["weight"].mean() == pytest.approx(1.0, abs=1e-6)
    by_language = labels.group_by(pl.col("language").fill_null("und")).agg(pl.col("weight").first())
    assert {name: round(weight, 4) for name, weight in by_language.iter_rows()} == pytest.approx(counts["weights"])
    assert counts["filtered"] == 0
    assert labels.height == counts["pairs"]


def test_a_cell_cannot_be_asked_for_twice() -> None:
    with pytest.raises(ConfigError, match="balance: expected each once, found grade, grade"):
        parse_config(LabelsConfig, {"balance": ["grade", "grade"]}, "--set")
