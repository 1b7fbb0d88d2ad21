from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import entropy

from pertinent.evaluation.fidelity import fidelity, kl_nats
from pertinent.types import Scale

SCALE = Scale(("bad", "fair", "good"))
TEACHER = [(0.8, 0.1, 0.1), (0.1, 0.6, 0.3), (0.0, 0.0, 1.0), (0.2, 0.5, 0.3)]
STUDENT = [(0.5, 0.3, 0.2), (0.2, 0.2, 0.6), (0.0, 0.5, 0.5), (0.2, 0.5, 0.3)]


def table(
    teacher: list[tuple[float, ...]] = TEACHER, student: list[tuple[float, ...]] = STUDENT, split: str = "test"
) -> pl.DataFrame:
    n = len(teacher)
    columns = {
        f"{who}.p_{k + 1}": [row[k] for row in rows]
        for who, rows in (("teacher", teacher), ("student", student))
        for k in range(3)
    }
    about = {"query_id": [f"q{i // 2}" for i in range(n)], "query": [f"a {'b ' * (i // 2)}" for i in range(n)]}
    return pl.DataFrame(
        {**about, "grade": [0, 2, 2, 1][:n], "language": ["en", "en", "de", "de"][:n], "split": split, **columns}
    )


def test_the_numbers_match_the_hand_computation() -> None:
    # Likeliest grades: teacher 0 1 2 1, student 0 2 1 1 (a tie goes to the lower). Gains of the grades 0, 1/3, 1.
    found = fidelity(table(), SCALE, resamples=0)
    assert (found["n_pairs"], found["agreement"], found["within_1"]) == (4, 0.5, 1.0)
    assert (found["reference_accuracy"], found["system_accuracy"]) == (0.75, 0.75)
    first = 0.8 * math.log(0.8 / 0.5) + 0.1 * math.log(0.1 / 0.3) + 0.1 * math.log(0.1 / 0.2)
    second = 0.1 * math.log(0.1 / 0.2) + 0.6 * math.log(0.6 / 0.2) + 0.3 * math.log(0.3 / 0.6)
    assert found["kl_nats"] == pytest.approx((first + second + math.log(2) + 0) / 4)
    gains = [[0.1 / 3 + 0.1, 0.2 + 0.3, 1.0, 0.5 / 3 + 0.3], [0.1 + 0.2, 0.2 / 3 + 0.6, 0.5 / 3 + 0.5, 0.5 / 3 + 0.3]]
    assert found["bias"] == pytest.approx(np.mean(gains[1]) - np.mean(gains[0]))
    assert found["gain_correlation"] == pytest.approx(np.corrcoef(*gains)[0, 1])
    assert [b["n_pairs"] for b in found["bins"]] == [1] * 4
    assert [b["system"] for b in found["bins"]] == pytest.approx(sorted(gains[1]))
    assert [b["human"] for b in found["bins"]] == pytest.approx([0, 1 / 3, 1, 1])


def test_slices_are_by_language_length_and_human_grade() -> None:
    slices = fidelity(table(), SCALE, resamples=0)["slices"]
    assert {column: list(values) for column, values in slices.items()} == {
        "language": ["de", "en"],
        "query_words": ["1", "2"],
        "grade": ["L1", "L2", "L3"],
    }
    assert slices["language"]["en"]["agreement"] == slices["language"]["de"]["agreement"] == 0.5
    assert slices["grade"]["L3"] == pytest.approx(
        {**slices["grade"]["L3"], "n_pairs": 2, "agreement": 0.0, "reference_accuracy": 0.5, "system_accuracy": 0.5}
    )
    assert slices["grade"]["L1"]["gain_correlation"] is None  # of one pair


def test_a_system_is_faithful_to_itself_and_only_test_pairs_with_both_count() -> None:
    same = fidelity(table(TEACHER, TEACHER), SCALE, resamples=50)
    assert (same["agreement"], same["kl_nats"], same["bias"]) == (1.0, 0.0, 0.0)
    assert same["intervals"] == {"agreement": [1.0, 1.0], "kl_nats": [0.0, 0.0]}
    more = pl.concat([table(), table(split="dev"), table().with_columns(pl.lit(None, pl.Float64).alias("student.p_2"))])
    assert fidelity(more, SCALE, resamples=0) == fidelity(table(), SCALE, resamples=0)
    assert fidelity(table(split="dev"), SCALE) == {}
    assert fidelity(table().drop("teacher.p_1"), SCALE) == {}


def test_intervals_hold_the_numbers_and_shrink_with_more_queries() -> None:
    rng = np.random.default_rng(0)

    def widths(n: int) -> float:
        probs = [[tuple(row) for row in rng.dirichlet(np.ones(3), 4 * n).tolist()] for _ in range(2)]
        frame = pl.DataFrame(
            {
                "query_id": [f"q{i // 4}" for i in range(4 * n)],
                "query": "a",
                "grade": 0,
                "language": "en",
                "split": "test",
            }
        ).with_columns(
            pl.Series(f"{who}.p_{k + 1}", [row[k] for row in rows])
            for who, rows in zip(("teacher", "student"), probs, strict=True)
            for k in range(3)
        )
        found = fidelity(frame, SCALE, resamples=300)
        low, high = found["intervals"]["agreement"]
        assert low < found["agreement"] < high
        return float(high - low)

    assert widths(400) < 0.6 * widths(40)


def test_the_divergence_is_scipys() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    assert kl_nats(p, q) == pytest.approx(entropy(p, q, axis=1))
