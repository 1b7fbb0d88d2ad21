"""How far human raters agree, and how a model's agreement with one of them compares.

Everything is computed from how many ratings of each grade a pair has, (N, n) counts: raters need no names, and the same
pair may be rated by any number of people. Figures are formulas over sums of per-pair terms, so they have intervals by
query, as all others. Pairs with fewer than two ratings say nothing of agreement and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError
from pertinent.evaluation.classification import accuracy_terms, kappa_of, kappa_terms, ratio_of
from pertinent.evaluation.intervals import RESAMPLES, Interval, Method, intervals_of
from pertinent.evaluation.statistics import Floats, Ints, Statistic, Summed, value_of
from pertinent.evaluation.systems import SystemScores

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
HUMAN = "another rating"


@dataclass(frozen=True)
class Ratings:
    """Pairs with two ratings or more; make one with ``Ratings.of``.

    counts: (N, n) int64, ratings of each stored grade. queries: (N,) int64, 0..n_queries-1. rows: (N,) int64, the rows
    that were kept.
    """

    counts: Ints
    queries: Ints
    rows: Ints
    n_queries: int

    @classmethod
    def of(cls, counts: ArrayLike, queries: ArrayLike) -> Ratings:
        """counts: (M, n) whole, >= 0; a row with fewer than two ratings is left out. queries: (M,) any keys.

        Raises DataError if the shapes do not fit or a count is not a whole number >= 0.
        """
        found, keys = np.asarray(counts), np.asarray(queries)
        if found.ndim != 2 or found.shape[:1] != keys.shape:
            raise DataError(f"ratings: need counts (M, n) and M queries, got {found.shape} and {keys.shape}")
        if found.size and ((found < 0) | (found != np.floor(found))).any():
            raise DataError("ratings: counts must be whole numbers of at least 0, found others")
        rows = np.flatnonzero(found.sum(axis=1) >= 2)
        unique, codes = np.unique(keys[rows], return_inverse=True)
        return cls(found[rows].astype(np.int64), codes.astype(np.int64), rows, unique.size)

    @property
    def n_grades(self) -> int:
        """Grades of the scale."""
        return int(self.counts.shape[1])

    @property
    def sizes(self) -> Floats:
        """(N,) float64: ratings of each pair."""
        sizes: Floats = self.counts.sum(axis=1, dtype=np.float64)
        return sizes

    @property
    def shares(self) -> Floats:
        """(N, n) float64: the chance that a rating drawn from the pair is of each grade."""
        return self.counts / self.sizes[:, None]


def counts_of(units: ArrayLike, grades: ArrayLike, n_units: int, n_grades: int) -> Ints:
    """(n_units, n) int64 from one row a rating. units: (R,) in 0..n_units-1. grades: (R,) stored."""
    of_unit, judged = np.asarray(units, dtype=np.int64), np.asarray(grades, dtype=np.int64)
    cells = np.bincount(of_unit * n_grades + judged, minlength=n_units * n_grades)
    return cells.reshape(n_units, n_grades)


def krippendorff_alpha(ratings: Ratings, level: Level = "ordinal") -> Statistic:
    """Krippendorff's alpha: 1 - observed over expected disagreement; 1 is perfect, 0 chance, None where all agree on one.

    level: what a disagreement of two grades weighs: "nominal" 1, "interval" the squared difference, "ordinal" the
    squared number of ratings that lie between them. Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    Oracle: the package krippendorff (tests/).
    """
    # The coincidences of a pair: each ordered pair of its ratings, weighing 1 / (ratings - 1).
    counts, n = ratings.counts.astype(np.float64), ratings.n_grades
    couples = counts[:, :, None] * counts[:, None, :]
    couples[:, np.arange(n), np.arange(n)] -= counts
    terms = (couples / (ratings.sizes - 1)[:, None, None]).reshape(len(counts), n * n)
    return Summed.of_pairs(ratings.queries, ratings.n_queries, terms, _ALPHAS[level])


def rating_kappa(ratings: Ratings) -> Statistic:
    """Quadratic-weighted kappa of two ratings drawn from one pair, without replacement; each pair weighs the same.

    The agreement by chance is that of two ratings drawn from all. It is what ``against_ratings`` gives for a model in the
    place of the second rating.
    """
    shares, sizes = ratings.shares, ratings.sizes
    grades = np.arange(ratings.n_grades, dtype=np.float64)
    mean, square = shares @ grades, shares @ grades**2
    # Over ordered pairs of different ratings: twice the variance among the ratings of the pair, with n - 1.
    apart = 2 * (square - mean**2) * sizes / (sizes - 1)
    terms = np.stack([apart, mean, mean, 2 * square, np.ones(mean.size)], axis=1)
    return Summed.of_pairs(ratings.queries, ratings.n_queries, terms, kappa_of)


def between_ratings(ratings: Ratings) -> dict[str, Statistic]:
    """accuracy, within_1 and qwk of one rating of a pair against another one of it: what a person reaches."""
    shares, sizes = ratings.shares, ratings.sizes
    near = np.abs(np.subtract.outer(np.arange(ratings.n_grades), np.arange(ratings.n_grades)))
    found: dict[str, Statistic] = {}
    for name, tolerance in (("accuracy", 0), ("within_1", 1)):
        agreeing = np.einsum("ng,gh,nh->n", shares, (near <= tolerance).astype(float), shares)
        # Without replacement: a rating is not set against itself.
        agreeing = (agreeing * sizes - 1) / (sizes - 1)
        terms = np.stack([agreeing, np.ones(agreeing.size)], axis=1)
        found[name] = Summed.of_pairs(ratings.queries, ratings.n_queries, terms, ratio_of)
    return {**found, "qwk": rating_kappa(ratings)}


def against_ratings(ratings: Ratings, predicted: ArrayLike) -> dict[str, Statistic]:
    """accuracy, within_1 and qwk of a model's grade against one rating of the pair drawn at random.

    predicted: (N,) stored grade, of the pairs of ``ratings``. The expectation over the draw is taken, so nothing is drawn.
    """
    given, shares = np.asarray(predicted, dtype=np.int64), ratings.shares
    found: dict[str, Statistic] = {}
    grades = [np.full(given.shape, grade) for grade in range(ratings.n_grades)]
    kinds: dict[str, tuple[Callable[[Ints, Ints], Floats], Any]] = {
        "accuracy": (accuracy_terms, ratio_of),
        "within_1": (lambda judged, model: accuracy_terms(judged, model, 1), ratio_of),
        "qwk": (kappa_terms, kappa_of),
    }
    for name, (terms_of, formula) in kinds.items():
        terms = sum(shares[:, [k]] * terms_of(judged, given) for k, judged in enumerate(grades))
        found[name] = Summed.of_pairs(ratings.queries, ratings.n_queries, np.asarray(terms), formula)
    return found


def rater_kappas(ratings: pl.DataFrame, n_grades: int) -> dict[tuple[str, str], tuple[Statistic, int]]:
    """Cohen's quadratic-weighted kappa of each two named raters on the pairs that both rated, and how many those are.

    ratings: one row a rating: query_id, item_id, rater_id, grade (stored); a rater's last rating of a pair counts.
    Oracle: statsmodels cohens_kappa (tests/).
    """
    if ratings["grade"].is_null().any() or not ratings["grade"].is_between(0, n_grades - 1).all():
        raise DataError(f"ratings: grade must be 0-{n_grades - 1}, found others")
    last = ratings.unique(["query_id", "item_id", "rater_id"], keep="last", maintain_order=True)
    names = sorted(last["rater_id"].unique())
    found: dict[tuple[str, str], tuple[Statistic, int]] = {}
    for place, one in enumerate(names):
        mine = last.filter(pl.col("rater_id") == one)
        for other in names[place + 1 :]:
            theirs = last.filter(pl.col("rater_id") == other)
            both = mine.join(theirs, on=["query_id", "item_id"], suffix="_other", maintain_order="left")
            if both.height:
                queries = np.unique(both["query_id"].to_numpy(), return_inverse=True)[1].astype(np.int64)
                terms = kappa_terms(both["grade"].to_numpy().astype(int), both["grade_other"].to_numpy().astype(int))
                statistic = Summed.of_pairs(queries, int(queries.max()) + 1, terms, kappa_of)
                found[one, other] = (statistic, both.height)
    return found


def agreement(
    ratings: Ratings,
    systems: Sequence[SystemScores] = (),
    *,
    method: Method = "bootstrap",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """A JSON document: what raters agree on, and how near each system comes to one of them.

    systems: on the rows that ``ratings`` was made from. Returns {"n_pairs", "n_queries", "n_ratings", "alpha": {level:
    {"value", "interval"}}, "against_one_rating": {"another rating" | NAME: {metric: {"value", "interval"}}}}; the figures
    of "another rating" are the human ceiling, on the same pairs as those of the systems. Null where undefined.
    """
    statistics: dict[str, Statistic] = {f"alpha {level}": krippendorff_alpha(ratings, level) for level in LEVELS}
    statistics |= {f"{HUMAN}|{name}": each for name, each in between_ratings(ratings).items()}
    for system in systems:
        if system.predicted is not None:
            found = against_ratings(ratings, system.predicted[ratings.rows])
            statistics |= {f"{system.name}|{name}": each for name, each in found.items()}
    intervals: Mapping[str, Interval | None] = {}
    if ratings.n_queries > 1 and (resamples or method == "analytic"):
        intervals = intervals_of(statistics, method=method, resamples=resamples, seed=seed)
    told = {
        name: {"value": value, "interval": None if value is None else intervals.get(name)}
        for name, value in ((name, value_of(each)) for name, each in statistics.items())
    }
    against: dict[str, dict[str, Any]] = {}
    for name, document in told.items():
        if "|" in name:
            system_name, _, metric = name.rpartition("|")
            against.setdefault(system_name, {})[metric] = document
    return {
        "n_pairs": len(ratings.counts),
        "n_queries": ratings.n_queries,
        "n_ratings": int(ratings.counts.sum()),
        "alpha": {level: told[f"alpha {level}"] for level in LEVELS},
        "against_one_rating": against,
    }


def _nominal(coincidences: Floats) -> Floats:
    n = coincidences.shape[-1]
    return _alpha(coincidences, np.broadcast_to(1 - np.eye(n), coincidences.shape))


def _interval(coincidences: Floats) -> Floats:
    grades = np.arange(coincidences.shape[-1])
    weights = np.subtract.outer(grades, grades).astype(np.float64) ** 2
    return _alpha(coincidences, np.broadcast_to(weights, coincidences.shape))


def _ordinal(coincidences: Floats) -> Floats:
    totals = coincidences.sum(axis=2)
    # Ratings from the lowest grade up to the middle of each: the distance of two middles is what lies between.
    middle = np.cumsum(totals, axis=1) - totals / 2
    return _alpha(coincidences, (middle[:, :, None] - middle[:, None, :]) ** 2)


def _alpha(coincidences: Floats, weights: NDArray[np.float64]) -> Floats:
    """(B,): 1 - observed / expected; coincidences, weights: (B, n, n)."""
    totals = coincidences.sum(axis=2)
    n = totals.sum(axis=1)
    observed = (coincidences * weights).sum(axis=(1, 2)) / np.where(n > 0, n, np.nan)
    by_chance = totals[:, :, None] * totals[:, None, :] * weights
    expected = by_chance.sum(axis=(1, 2)) / np.where(n > 1, n * (n - 1), np.nan)
    quotient = np.full(n.shape, np.nan)
    np.divide(observed, expected, out=quotient, where=expected > 0)
    return 1 - quotient


def _of_sums(formula: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    def apply(sums: Floats) -> Floats:
        n = round(np.sqrt(sums.shape[1]))
        return formula(sums.reshape(-1, n, n))

    return apply


# One function a level, so that two statistics of a level share it.
_ALPHAS = {"nominal": _of_sums(_nominal), "ordinal": _of_sums(_ordinal), "interval": _of_sums(_interval)}
