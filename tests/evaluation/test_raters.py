"""Agreement of raters against the packages krippendorff and statsmodels, on simulated raters of known skill."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import krippendorff
import numpy as np
import orjson
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from pertinent.errors import DataError
from pertinent.evaluation.intervals import analytic_interval
from pertinent.evaluation.raters import (
    LEVELS,
    Ratings,
    against_ratings,
    agreement,
    between_ratings,
    counts_of,
    krippendorff_alpha,
    rater_kappas,
    rating_kappa,
)
from pertinent.evaluation.statistics import value_of
from pertinent.evaluation.systems import SystemScores


def rated(seed: int = 0, n: int = 300, n_grades: int = 5, noise: float = 0.8):
    """(true grades, counts) of 1-4 ratings a pair, each the truth and noise."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, n_grades, n)
    units = np.repeat(np.arange(n), generator.integers(1, 5, n))
    ratings = np.clip(np.rint(truth[units] + noise * generator.normal(size=units.size)), 0, n_grades - 1)
    return truth, counts_of(units, ratings, n, n_grades)


def test_alpha_matches_the_hand_computation() -> None:
    # Pairs (0,0), (0,1), (1,1): coincidences 2, 1+1, 2 of 6; observed 1/3; expected 2*3*3/(6*5) = 3/5.
    ratings = Ratings.of([[2, 0], [1, 1], [0, 2]], [0, 1, 2])
    for level in LEVELS:  # of two grades there is but one kind of disagreement
        assert value_of(krippendorff_alpha(ratings, level)) == pytest.approx(1 - (1 / 3) / (3 / 5))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_grades", [2, 3, 5])
def test_alpha_matches_the_package_krippendorff(level, n_grades) -> None:
    _, counts = rated(n_grades, n_grades=n_grades)
    ours = value_of(krippendorff_alpha(Ratings.of(counts, np.arange(len(counts))), level))
    theirs = krippendorff.alpha(value_counts=counts, value_domain=list(range(n_grades)), level_of_measurement=level)
    assert ours == pytest.approx(theirs, abs=1e-10)


def test_alpha_of_unused_grades_and_lone_ratings_matches_too() -> None:
    counts = np.array([[0, 2, 0, 1, 0], [0, 0, 0, 1, 0], [0, 3, 0, 0, 0], [0, 0, 0, 2, 1], [0, 0, 0, 0, 0]])
    for level in LEVELS:
        theirs = krippendorff.alpha(value_counts=counts, value_domain=list(range(5)), level_of_measurement=level)
        ours = value_of(krippendorff_alpha(Ratings.of(counts, np.arange(5)), level))
        assert ours == pytest.approx(theirs, abs=1e-10)


def test_agreement_rises_with_skill_and_is_0_for_raters_who_guess() -> None:
    values = []
    for noise in (0.2, 0.8, 2.0):
        _, counts = rated(1, n=3000, noise=noise)
        values.append(value_of(krippendorff_alpha(Ratings.of(counts, np.arange(3000)))))
    assert values[0] > 0.95 > values[1] > values[2] > 0.2
    generator = np.random.default_rng(2)
    guesses = counts_of(np.repeat(np.arange(5000), 3), generator.integers(0, 5, 15_000), 5000, 5)
    assert value_of(krippendorff_alpha(Ratings.of(guesses, np.arange(5000)))) == pytest.approx(0, abs=0.03)
    assert value_of(rating_kappa(Ratings.of(guesses, np.arange(5000)))) == pytest.approx(0, abs=0.03)


def test_all_ratings_of_one_grade_have_no_alpha() -> None:
    assert value_of(krippendorff_alpha(Ratings.of([[3, 0], [2, 0]], [0, 1]))) is None
    assert value_of(krippendorff_alpha(Ratings.of(np.zeros((0, 5)), []))) is None


def expanded(counts) -> list[list[int]]:
    return [list(np.repeat(np.arange(counts.shape[1]), row)) for row in counts if row.sum() >= 2]


def test_one_rating_against_another_is_the_mean_over_all_ways_to_draw_the_two() -> None:
    _, counts = rated(3, n=60)
    ratings = Ratings.of(counts, np.arange(60))
    found = {name: value_of(each) for name, each in between_ratings(ratings).items()}
    pairs = [
        (a, b, 1 / (len(r) * (len(r) - 1)))
        for r in expanded(counts)
        for i, a in enumerate(r)
        for j, b in enumerate(r)
        if i != j
    ]
    one, other, weight = map(np.array, zip(*pairs, strict=True))
    assert found["accuracy"] == pytest.approx(np.average(one == other, weights=weight))
    assert found["within_1"] == pytest.approx(np.average(np.abs(one - other) <= 1, weights=weight))
    theirs = cohen_kappa_score(one, other, weights="quadratic", sample_weight=weight)
    assert found["qwk"] == pytest.approx(theirs)


def test_a_model_against_one_rating_is_the_mean_over_the_draw() -> None:
    truth, counts = rated(4, n=80)
    ratings = Ratings.of(counts, np.arange(80))
    predicted = np.clip(truth + 1, 0, 4)[ratings.rows]
    found = {name: value_of(each) for name, each in against_ratings(ratings, predicted).items()}
    drawn = [(a, p, 1 / len(r)) for r, p in zip(expanded(counts), predicted, strict=True) for a in r]
    judged, given, weight = map(np.array, zip(*drawn, strict=True))
    assert found["accuracy"] == pytest.approx(np.average(judged == given, weights=weight))
    assert found["within_1"] == pytest.approx(np.average(np.abs(judged - given) <= 1, weights=weight))
    assert found["qwk"] == pytest.approx(cohen_kappa_score(judged, given, weights="quadratic", sample_weight=weight))


def test_a_model_that_is_one_more_rater_is_at_the_human_ceiling_and_the_truth_above_it() -> None:
    generator = np.random.default_rng(5)
    truth, counts = rated(5, n=6000)
    ratings = Ratings.of(counts, np.arange(6000))
    rater = np.clip(np.rint(truth + 0.8 * generator.normal(size=6000)), 0, 4).astype(int)[ratings.rows]
    human = {name: value_of(each) for name, each in between_ratings(ratings).items()}
    for name, each in against_ratings(ratings, rater).items():
        assert value_of(each) == pytest.approx(human[name], abs=0.02)
    for name, each in against_ratings(ratings, truth[ratings.rows]).items():
        assert value_of(each) > human[name] + 0.02


def test_kappas_of_named_raters_match_statsmodels_values_and_errors() -> None:
    generator = np.random.default_rng(6)
    truth = generator.integers(0, 5, 400)
    rows = [
        {
            "query_id": f"q{i}",
            "item_id": "i",
            "rater_id": rater,
            "grade": int(np.clip(truth[i] + generator.integers(-1, 2), 0, 4)),
        }
        for i in range(400)
        for rater in ("ann", "bob", "cat")
        if rater != "cat" or i < 50
    ]
    repeated = {**rows[0], "grade": 4 - rows[0]["grade"]}
    found = rater_kappas(pl.DataFrame([repeated, *rows]), 5)
    assert {pair: n for pair, (_, n) in found.items()} == {("ann", "bob"): 400, ("ann", "cat"): 50, ("bob", "cat"): 50}
    grades = [[row["grade"] for row in rows if row["rater_id"] == rater] for rater in ("ann", "bob")]
    table = np.zeros((5, 5))
    np.add.at(table, tuple(grades), 1)
    theirs = cohens_kappa(table, wt="quadratic")
    statistic = found["ann", "bob"][0]
    assert value_of(statistic) == pytest.approx(theirs.kappa)
    low, high = analytic_interval(statistic)
    # Their large-sample error of kappa, with the normal's quantile; ours adds a correction for skewness.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(theirs.var_kappa), rel=0.03)


def test_intervals_follow_queries_not_pairs() -> None:
    _, counts = rated(7, n=200)
    alone = agreement(Ratings.of(counts, np.arange(200)), method="analytic")
    # The same 200 pairs ten times over under one query each: no new evidence, so the same interval.
    many = agreement(Ratings.of(np.tile(counts, (10, 1)), np.tile(np.arange(200), 10)), method="analytic")
    one, ten = (found["alpha"]["nominal"] for found in (alone, many))
    assert ten["value"] == pytest.approx(one["value"], abs=2e-3)
    assert ten["interval"] == pytest.approx(one["interval"], abs=4e-3)


def test_the_document_has_the_ceiling_beside_every_system_with_grades() -> None:
    truth, counts = rated(8, n=120)
    probs = np.eye(5)[truth]
    systems = [
        SystemScores("model", truth.astype(float), probs, truth, True),
        SystemScores("bm25", truth * 1.0, None, None, False),
    ]
    found = agreement(Ratings.of(counts, np.arange(120) // 3), systems, resamples=50)
    assert list(found["against_one_rating"]) == ["another rating", "model"]
    assert found["n_pairs"] == (counts.sum(1) >= 2).sum()
    assert found["n_ratings"] == counts[counts.sum(1) >= 2].sum()
    for figures in found["against_one_rating"].values():
        for each in figures.values():
            assert each["interval"][0] < each["value"] < each["interval"][1]
    assert agreement(Ratings.of(counts, np.zeros(120)), systems)["alpha"]["ordinal"]["interval"] is None


@pytest.mark.parametrize(
    ("counts", "queries", "message"),
    [
        ([[1, 2]], [0, 1], r"need counts \(M, n\) and M queries, got \(1, 2\) and \(2,\)"),
        ([[1, -2]], [0], "counts must be whole numbers of at least 0"),
        ([[1, 0.5]], [0], "counts must be whole numbers of at least 0"),
    ],
)
def test_wrong_counts_are_refused(counts, queries, message) -> None:
    with pytest.raises(DataError, match=message):
        Ratings.of(counts, queries)


def test_a_grade_off_the_scale_is_refused() -> None:
    frame = pl.DataFrame({"query_id": ["q"], "item_id": ["i"], "rater_id": ["a"], "grade": [5]})
    with pytest.raises(DataError, match="ratings: grade must be 0-4"):
        rater_kappas(frame, 5)


@pytest.mark.skipif(not os.environ.get("PERTINENT_DATA"), reason="PERTINENT_DATA is unset: no real judged data here")
def test_the_expert_ratings_of_flickr8k_agree_as_the_package_krippendorff_says() -> None:
    file = Path(os.environ["PERTINENT_DATA"]) / "flickr8k" / "judgments.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"{file}: no such file")
    rows = [orjson.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    experts = [row for row in rows if row["src"] == "expert"]
    grades = np.array([row["ratings"] for row in experts]) - 1
    counts = counts_of(np.repeat(np.arange(len(experts)), 3), grades.ravel(), len(experts), 4)
    found = agreement(Ratings.of(counts, [row["query_id"] for row in experts]), method="analytic")
    assert found["n_ratings"] == 3 * len(experts) == 17_466
    for level in LEVELS:
        theirs = krippendorff.alpha(value_counts=counts, value_domain=[0, 1, 2, 3], level_of_measurement=level)
        assert found["alpha"][level]["value"] == pytest.approx(theirs, abs=1e-9)
    assert 0.7 < found["alpha"]["interval"]["value"] < 1
