"""How faithfully one system repeats another: the student's grade probabilities against the teacher's, and both against people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import rel_entr

from pertinent.evaluation.classification import expected_gain, most_likely, ratio_of
from pertinent.evaluation.intervals import intervals_of
from pertinent.evaluation.slices import QUERY_WORDS, slice_columns_of, slice_rows
from pertinent.evaluation.statistics import Summed
from pertinent.types import Scale

COLUMNS = ("language", QUERY_WORDS, "grade")
N_BINS = 10
_BOTH = ("teacher", "student")  # the reference and the system
_LEAST = 1e-12  # of a probability in a logarithm
Probs = NDArray[np.float64]


def with_fidelity(
    metrics: Mapping[str, Any], scores: pl.DataFrame, scale: Scale, *, columns: Sequence[str] = ()
) -> dict[str, Any]:
    """``metrics`` of ``evaluate`` with ``fidelity``, see `fidelity`, on its resamples.

    columns: to slice by beside COLUMNS; each is a column of scores, or query_words.
    """
    found = fidelity(scores, scale, columns=(*COLUMNS, *columns), resamples=metrics["resamples"], seed=metrics["seed"])
    return {**metrics, "fidelity": found}


def fidelity(
    scores: pl.DataFrame,
    scale: Scale,
    *,
    columns: Sequence[str] = COLUMNS,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Of the test pairs to which both gave probabilities (teacher.p_k, student.p_k in ``scores``), the teacher being the
    reference and the student the system:

    agreement: share whose likeliest grade is the same. within_1: share where it is at most one grade off. kl_nats: mean of
    sum_k p_k log(p_k / q_k), p the reference's. bias: mean of the system's less the reference's expected gain, in 0-1.
    reference_accuracy, system_accuracy: share of likeliest grades that are the human's. gain_correlation: Pearson's, of
    expected gains; null where one does not vary. intervals: of agreement and kl_nats, from resamples of queries; absent
    with resamples 0. bins: ten of equally many pairs by the system's expected gain, with the mean gain by each and by
    people; a gain is sum_k p_k (2^k - 1) over that of the top grade. slices: column -> value -> the same without intervals
    and bins. Empty where no pair has both.
    """
    names = [f"{who}.{name}" for who in _BOTH for name in scale.probability_columns]
    if not set(names) <= set(scores.columns):
        return {}
    finite = pl.all_horizontal(pl.col(names).is_not_null() & pl.col(names).is_finite())
    test = slice_columns_of(scores.filter((pl.col("split") == "test") & finite), columns)
    if not test.height:
        return {}
    p, q = (
        test.select(f"{who}.{name}" for name in scale.probability_columns).to_numpy().astype(np.float64)
        for who in _BOTH
    )
    grades = test["grade"].to_numpy().astype(np.int64)
    found = _numbers(p, q, grades)
    if resamples:
        found["intervals"] = _intervals(p, q, test["query_id"], resamples, seed)
    found["bins"] = _bins(p, q, grades)
    slices: dict[str, dict[str, Any]] = {}
    for column in dict.fromkeys(columns):
        rows_of, _ = slice_rows(test, column)
        slices[column] = {value: _numbers(p[rows], q[rows], grades[rows]) for value, rows in rows_of.items()}
    return {**found, "slices": slices}


def kl_nats(p: Probs, q: Probs) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of q from p, row by row: (N,) float64 in nats, 0 where they are the same."""
    return np.asarray(rel_entr(p, np.maximum(q, _LEAST)).sum(axis=1), dtype=np.float64)


def _numbers(p: Probs, q: Probs, grades: NDArray[np.int64]) -> dict[str, Any]:
    first, second = most_likely(p), most_likely(q)
    gain_p, gain_q = _gain(p), _gain(q)
    varies = gain_p.std() > 0 and gain_q.std() > 0
    return {
        "n_pairs": int(grades.size),
        "agreement": float((first == second).mean()),
        "within_1": float((np.abs(first - second) <= 1).mean()),
        "kl_nats": float(kl_nats(p, q).mean()),
        "bias": float((gain_q - gain_p).mean()),
        "gain_correlation": float(np.corrcoef(gain_p, gain_q)[0, 1]) if varies else None,
        "reference_accuracy": float((first == grades).mean()),
        "system_accuracy": float((second == grades).mean()),
    }


def _gain(probs: Probs) -> NDArray[np.float64]:
    top = float(2 ** (probs.shape[1] - 1) - 1)
    return expected_gain(probs) / top


def _intervals(p: Probs, q: Probs, query_ids: pl.Series, resamples: int, seed: int) -> dict[str, list[float] | None]:
    queries = query_ids.rank("dense").to_numpy().astype(np.int64) - 1
    terms = {"agreement": (most_likely(p) == most_likely(q)).astype(np.float64), "kl_nats": kl_nats(p, q)}
    statistics = {
        name: Summed.of_pairs(queries, int(queries.max()) + 1, np.stack([term, np.ones(term.size)], axis=1), ratio_of)
        for name, term in terms.items()
    }
    ends = intervals_of(statistics, resamples=resamples, seed=seed)
    return {name: None if found is None else list(found) for name, found in ends.items()}


def _bins(p: Probs, q: Probs, grades: NDArray[np.int64]) -> list[dict[str, Any]]:
    gain_p, gain_q = _gain(p), _gain(q)
    top = np.exp2(p.shape[1] - 1) - 1.0
    human = (np.exp2(grades) - 1.0) / top
    parts = [part for part in np.array_split(np.argsort(gain_q, kind="stable"), N_BINS) if part.size]
    return [
        {
            "n_pairs": int(part.size),
            "system": float(gain_q[part].mean()),
            "reference": float(gain_p[part].mean()),
            "human": float(human[part].mean()),
        }
        for part in parts
    ]
