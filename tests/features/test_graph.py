from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.errors import ConfigError
from pertinent.features.corpus import CorpusStatistics
from pertinent.features.graph import learn_graph

IDS = ["a", "b", "c", "d", "lonely"]
STATISTICS = CorpusStatistics.of({"title": [["red", "sofa", "oak", "table", "settee"]], "body": [[]]})
QUERIES = pl.List(pl.Struct({"query": pl.String, "weight": pl.Float64}))


def write(folder: Path, rows: list[tuple[str, int, dict[str, float]]]) -> Path:
    folder.mkdir(exist_ok=True)
    lists = [[{"query": query, "weight": weight} for query, weight in found.items()] for _, _, found in rows]
    table = pl.DataFrame({"item_id": [row[0] for row in rows], "text_version": [row[1] for row in rows]})
    table = table.with_columns(pl.Series("engaged_queries", lists, dtype=QUERIES), pl.col("text_version").cast(pl.Int8))
    table.write_parquet(folder / "fields.parquet")
    return folder


# "settee" shares item b with "sofa", and nothing with the tables.
SERVED = [
    ("a", -1, {"red sofa": 4.0}),
    ("b", -1, {"red sofa": 3.0, "settee": 1.0}),
    ("c", -1, {"oak table": 2.0}),
    ("d", -1, {"oak table": 5.0}),
]


def test_terms_are_near_the_items_that_share_engagement(tmp_path: Path) -> None:
    graph = learn_graph([write(tmp_path, SERVED)], IDS, STATISTICS, 2, 2)
    found = graph.of("settee", np.arange(5), STATISTICS, -1)
    assert found[:, 0] == pytest.approx([1, 1, 0, 0, 0], abs=1e-5)  # a was never engaged with for "settee"
    assert found[:, 1].tolist() == [1, 1, 1, 1, 0]
    assert graph.of("unheard", np.arange(5), STATISTICS, -1)[:, 0].tolist() == [0] * 5


def test_cosines_with_all_dimensions_are_those_of_the_matrix_itself(tmp_path: Path) -> None:
    graph = learn_graph([write(tmp_path, SERVED)], IDS, STATISTICS, 2, 1)
    # Of rank 2 (the oracle): columns of length 1, NumPy's dense factorisation.
    cells = np.log1p(np.array([[4, 0, 0], [3, 1, 0], [0, 0, 2], [0, 0, 5], [0, 0, 0]], dtype=float))
    u, s, vt = np.linalg.svd(cells / np.linalg.norm(cells, axis=0), full_matrices=False)
    items, term = (u * s)[:, :2], vt[:2, 2]
    expected = items[:4] @ term / np.linalg.norm(items[:4], axis=1) / np.linalg.norm(term)
    assert graph.of("table", np.arange(4), STATISTICS, -1)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_a_fold_reads_its_own_version(tmp_path: Path) -> None:
    rows = [*SERVED, ("b", 0, {"red sofa": 3.0})]
    graph = learn_graph([write(tmp_path, rows)], IDS, STATISTICS, 1, 2)
    assert graph.of("settee", np.arange(5), STATISTICS, 0)[:, 0].tolist() == [0] * 5  # nobody outside the fold asked
    assert graph.rows[1][STATISTICS.terms["settee"]] >= 0


def test_an_empty_list_of_a_fold_is_no_served_one(tmp_path: Path) -> None:
    rows = [*SERVED, ("a", 0, {})]
    graph = learn_graph([write(tmp_path, rows)], IDS, STATISTICS, 2, 1)
    assert graph.of("sofa", np.arange(5), STATISTICS, 0)[:, 1].tolist() == [0, 1, 1, 1, 0]


def test_nothing_to_factorise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in version -1, found none"):
        learn_graph([write(tmp_path, [("a", -1, {})])], IDS, STATISTICS, 2, 2)
    with pytest.raises(ConfigError, match=r"at least 2 items and 2 queries or boards, found \(5, 1\)"):
        learn_graph([write(tmp_path, SERVED[:1])], IDS, STATISTICS, 2, 2)
    pl.DataFrame({"item_id": ["a"], "text_version": [-1]}).write_parquet(tmp_path / "fields.parquet")
    with pytest.raises(ConfigError, match=r"expected engaged_queries or boards in fields\.parquet, found neither"):
        learn_graph([tmp_path], IDS, STATISTICS, 2, 2)
