from __future__ import annotations

import polars as pl
import pytest

from label_scaling import Bench, _key_of, mean_of, targets


def row(value: float) -> dict[str, float]:
    return {"auroc_4+": value}


def test_the_target_is_the_smallest_rise_of_the_means_over_seeds() -> None:
    rows = {
        f"{times}x/{seed}": row(0.6 + 0.01 * k + 0.001 * seed)
        for k, times in enumerate((0, 1, 3, 10, 25))
        for seed in range(3)
    }
    assert mean_of(rows, "0x") == pytest.approx(0.601)
    [target] = targets(rows)
    assert (target.measured, target.met) == (0.01, True)
    rows |= {f"10x/{seed}": row(0.62) for seed in range(3)}  # 3x is 0.621
    assert targets(rows)[0].measured == pytest.approx(-0.001)
    assert not targets(rows)[0].met
    del rows["25x/2"]
    assert targets(rows)[0].measured is None


def test_rows_are_named_by_labels_judgments_and_seed() -> None:
    names = set(Bench(quick=True).rows())
    assert {"teacher", "people/2", "0x/0", "25x/2", "teacher/all", "student/1k/1"} <= names
    assert len(names) == 1 + 3 * 6 + 5 + 15


def test_a_tables_key_follows_its_rows_and_their_order() -> None:
    table = pl.DataFrame({"query": ["a", "b"], "p_1": [0.5, 0.25]})
    assert _key_of(table) == _key_of(table.clone())
    assert _key_of(table) != _key_of(table.reverse())
    assert _key_of(table) != _key_of(table.with_columns(p_1=pl.lit(0.5)))
