from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import text_fields
from pertinent.errors import DataError
from pertinent.evaluation.classification import auroc
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.statistics import value_of
from text_fields import BUDGETS, MISSING, STEPS, Bench, Mean, targets


def test_every_step_adds_fields_and_a_missing_step_takes_its_own_away() -> None:
    assert sum(len(fields) for fields in STEPS.values()) == len(BUDGETS)
    for step, added in STEPS.items():
        assert set(MISSING[f"without_{step}"]) == set(BUDGETS) - set(added)
    assert set(MISSING["without_user_actions"]) == set(BUDGETS) - {"boards", "engaged_queries"}


def test_the_rows_are_named_by_set_kind_and_run() -> None:
    rows = Bench(quick=True).rows()
    assert {
        "msrd/engaged/2",
        "msrd/engaged-own/0",
        "msrd/field-dropout/0",
        "esci/all/4",
        "cxc/four/1",
        "cxc/differences",
    } <= set(rows)
    assert len(rows) == 3 * (5 + 3) + 1 + 2 * 5 + 1 + 2 * 2 + 1


def test_the_mean_of_two_aurocs_is_their_mean_under_every_weight() -> None:
    rng = np.random.default_rng(0)
    queries, positive = np.repeat(np.arange(6), 5), rng.random(30) < 0.4
    scores = [rng.normal(size=30) + positive for _ in range(2)]
    mean = Mean([PooledAuroc.of(queries, 6, positive, score) for score in scores])
    assert value_of(mean) == pytest.approx(np.mean([auroc(positive, score) for score in scores]))
    weights = rng.integers(0, 3, size=(4, 6)).astype(float)
    expected = [np.mean([auroc(positive, score, row[queries]) for score in scores]) for row in weights]
    assert mean.under(weights) == pytest.approx(expected)


def test_a_difference_is_of_means_over_runs_on_the_same_queries(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERTINENT_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"^cxc/differences: expected the scores of cxc/four-0, found none"):
        Bench(quick=False).rows()["cxc/differences"]()
    keys = {"query_id": ["a", "a", "b", "b"], "item_id": list("1234"), "positive": [True, False, True, False]}
    for name, score in (("four", [2.0, 1.0, 3.0, 1.0]), ("one", [1.0, 2.0, 3.0, 0.0])):
        for seed in (0, 1):
            file = text_fields._scores_file("cxc", f"{name}-{seed}", False)
            file.parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(keys).with_columns(score=pl.Series(score)).write_parquet(file)
    # four: all right; one: of the 4 pairs of a positive and a negative, (1, 2) is wrong.
    found = Bench(quick=False).rows()["cxc/differences"]()["four-one"]
    assert found["difference"] == pytest.approx(0.25)
    assert (found["each"], found["n_queries"]) == ([0.25, 0.25], 2)


def test_the_target_is_the_gain_of_both_user_action_fields() -> None:
    row = {"user_actions-links": {"difference": 0.031, "interval": (0.012, 0.05)}}
    assert [target.met for target in targets({"msrd/differences": row})] == [True, True]
    row = {"user_actions-links": {"difference": 0.021, "interval": (-0.001, 0.05)}}
    assert [target.met for target in targets({"msrd/differences": row})] == [True, False]
    assert [target.measured for target in targets({})] == [None, None]
