"""The systems `random` and `majority`."""

import hashlib

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation.baselines import stable_uniform, training_prior, with_baselines
from pertinent.types import Scale

PRIOR = [0.1, 0.2, 0.0, 0.4, 0.3]


def pairs(n: int) -> pl.DataFrame:
    return pl.DataFrame({"query_id": [f"q{i % 7}" for i in range(n)], "item_id": [f"i{i}" for i in range(n)]})


def test_the_prior_is_the_share_of_each_grade() -> None:
    assert training_prior([0, 1, 1, 4], 5).tolist() == [0.25, 0.5, 0, 0, 0.25]


def test_random_draws_grades_from_the_prior_and_says_so() -> None:
    frame = with_baselines(pairs(20_000), PRIOR, Scale())
    shares = np.bincount(frame["random.grade"], minlength=5) / 20_000
    assert shares == pytest.approx(PRIOR, abs=0.012)
    assert (frame["random"] == frame["random.grade"]).all()
    assert frame.select(pl.col("^random\\.p_.*$")).row(7) == pytest.approx(PRIOR)
    assert frame.schema["random"] == pl.Float64
    assert frame.schema["random.p_1"] == pl.Float32


def test_majority_predicts_the_commonest_grade_with_a_constant_score() -> None:
    frame = with_baselines(pairs(10), PRIOR, Scale())
    assert frame["majority"].n_unique() == 1
    assert frame["majority.grade"].unique().to_list() == [3]
    assert frame.select(pl.col("^majority\\.p_.*$")).row(0) == pytest.approx(PRIOR)


def test_a_draw_depends_on_the_pair_and_the_seed_alone() -> None:
    frame = with_baselines(pairs(500), PRIOR, Scale(), seed=3)
    part = with_baselines(pairs(500).sample(100, shuffle=True, seed=1), PRIOR, Scale(), seed=3)
    joined = part.join(frame, on=["query_id", "item_id"])
    assert joined.height == 100
    assert (joined["random"] == joined["random_right"]).all()
    assert (with_baselines(pairs(500), PRIOR, Scale(), seed=4)["random"] != frame["random"]).any()


def test_the_uniform_number_is_the_top_53_bits_of_the_hash() -> None:
    digest = hashlib.blake2b(b"q\x1fi", digest_size=8, key=b"pertinent 0").digest()
    expected = (int.from_bytes(digest, "little") >> 11) / 2**53
    assert stable_uniform(pl.DataFrame({"query_id": ["q"], "item_id": ["i"]}), 0).tolist() == [expected]


def test_wrong_priors_are_refused() -> None:
    with pytest.raises(DataError, match="at least one training judgment"):
        training_prior([], 5)
    with pytest.raises(DataError, match="grade must be 0-4, got 0 to 5"):
        training_prior([0, 5], 5)
    with pytest.raises(DataError, match=r"expected 5 shares, found shape \(2,\)"):
        with_baselines(pairs(2), [0.5, 0.5], Scale())
