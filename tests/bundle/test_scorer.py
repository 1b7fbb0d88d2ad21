from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.scorer import with_scores
from pertinent.errors import DataError
from pertinent.types import Scale


@pytest.fixture(scope="module")
def scorer(whole_bundle: Path) -> Scorer:
    return open_bundle(whole_bundle)


def test_scores_are_probabilities_in_the_order_asked_for(scorer: Scorer) -> None:
    probs = scorer.score("red sofa", ["i3", "i0", "i5", "i0"])
    assert (probs.shape, probs.dtype) == ((4, 3), np.float32)
    assert probs.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert (probs[1] == probs[3]).all()
    assert not (probs[0] == probs[1]).all()


def test_a_score_does_not_depend_on_the_other_candidates(scorer: Scorer) -> None:
    ids = [f"i{k}" for k in range(6)]
    together = scorer.score("oak sofa", ids)
    alone = np.concatenate([scorer.score("oak sofa", [item]) for item in ids])
    assert np.abs(together - alone).max() <= 1e-6


def test_an_unknown_item_is_nan_and_leaves_the_others_be(scorer: Scorer) -> None:
    probs = scorer.score("red sofa", ["nobody", "i0"])
    assert np.isnan(probs[0]).all()
    assert np.abs(probs[1] - scorer.score("red sofa", ["i0"])[0]).max() <= 1e-6
    assert np.isnan(scorer.score("red sofa", ["nobody"])).all()
    assert scorer.score("red sofa", []).shape == (0, 3)


@pytest.mark.parametrize("query", ["", "  ", "!?", "ソファ", "\x00\ud7ff", "sofa " * 10_000])
def test_any_query_is_scored(scorer: Scorer, query: str) -> None:
    probs = scorer.score(query, ["i0", "i1"])
    assert np.isfinite(probs).all()


def test_pairs_get_probabilities_and_two_scores_worked_by_hand() -> None:
    probs = np.array([[0.2, 0.3, 0.5], [np.nan] * 3], dtype=np.float32)
    found = with_scores(pl.DataFrame({"item_id": ["a", "b"]}), probs, Scale(("x", "y", "z")))
    assert found.columns == ["item_id", "p_1", "p_2", "p_3", "expected_grade", "relevance"]
    # Grades 0, 1, 2: 0.3 + 2 * 0.5 = 1.3. Gains 0, 1, 3: (0.3 + 3 * 0.5) / 3 = 0.6.
    assert found.row(0)[1:] == pytest.approx((0.2, 0.3, 0.5, 1.3, 0.6), abs=1e-6)
    assert found.row(1)[1:] == (None,) * 5


def test_a_table_of_pairs_keeps_its_rows_and_columns(scorer: Scorer) -> None:
    pairs = pl.DataFrame(
        {"query": ["oak", "lamp", "oak", None], "item_id": ["i1", "nobody", "i0", "i4"], "row": [7, 8, 9, 10]}
    )
    scored = scorer.score_pairs(pairs)
    assert scored.select(pairs.columns).equals(pairs)
    oak = scorer.score("oak", ["i1", "i0"])
    assert scored.select("p_1", "p_2", "p_3").to_numpy()[[0, 2]] == pytest.approx(oak, abs=1e-6)
    assert scored.row(1)[3:] == (None,) * 5
    assert scored["p_1"][3] == pytest.approx(scorer.score("", ["i4"])[0, 0], abs=1e-6)
    assert scorer.score_pairs(pairs.head(0)).height == 0


def test_a_table_without_items_is_a_data_error(scorer: Scorer) -> None:
    with pytest.raises(DataError, match="pairs: expected the columns query and item_id, found query, item"):
        scorer.score_pairs(pl.DataFrame({"query": ["oak"], "item": ["i1"]}))


def test_one_scorer_serves_several_threads(scorer: Scorer) -> None:
    queries = ["red sofa", "oak table", "lamp", "rug"] * 10
    ids = [f"i{k}" for k in range(6)]
    expected = {query: scorer.score(query, ids) for query in set(queries)}
    with ThreadPoolExecutor(4) as pool:
        for query, probs in zip(queries, pool.map(lambda query: scorer.score(query, ids), queries), strict=True):
            assert (probs == expected[query]).all()


def test_opening_and_scoring_loads_no_training_stack(whole_bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pertinent.bundle import open_bundle; import pertinent.bundle.verify\n"
        "assert open_bundle(Path(sys.argv[1])).score('red sofa', ['i0']).shape == (1, 3)\n"
        "found = {'torch', 'transformers', 'safetensors', 'sklearn', 'pertinent.teacher', 'pertinent.student'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code, str(whole_bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
