"""The two systems that know nothing of the item: a draw from the training grades, and the commonest one."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from pertinent.errors import DataError
from pertinent.types import Scale


def training_prior(grades: ArrayLike, n_grades: int) -> NDArray[np.float64]:
    """(n,) float64: share of each grade among the training judgments.

    grades: (N,) stored. Raises DataError if N is 0 or a grade is off the scale.
    """
    found = np.asarray(grades)
    if found.size == 0:
        raise DataError("training prior: expected at least one training judgment, found none")
    if found.min() < 0 or found.max() >= n_grades:
        raise DataError(f"training prior: grade must be 0-{n_grades - 1}, got {found.min()} to {found.max()}")
    return np.bincount(found.astype(np.int64), minlength=n_grades) / found.size


def with_baselines(scores: pl.DataFrame, prior: ArrayLike, scale: Scale, *, seed: int = 0) -> pl.DataFrame:
    """Add the systems ``random`` and ``majority`` to a scores frame.

    prior: (n,), from ``training_prior``. ``random`` draws a grade for each pair from the prior: its score and its
    predicted grade (column ``random.grade``) are the draw, its probabilities the prior. ``majority`` predicts the
    commonest training grade with a constant score; its probabilities are the prior too. A draw depends on the seed
    and on ``query_id`` and ``item_id`` only, not on the other rows or on their order.
    """
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != (scale.n_grades,):
        raise DataError(f"training prior: expected {scale.n_grades} shares, found shape {shares.shape}")
    draws = np.searchsorted(np.cumsum(shares)[:-1], stable_uniform(scores, seed), side="right")
    probs = [pl.lit(float(share), pl.Float32) for share in shares]
    constant = float(shares @ np.arange(scale.n_grades))
    return scores.with_columns(
        pl.Series("random", draws.astype(np.float64)),
        *(p.alias(f"random.{name}") for p, name in zip(probs, scale.probability_columns, strict=True)),
        pl.Series("random.grade", draws.astype(np.int16)),
        pl.lit(constant, pl.Float64).alias("majority"),
        *(p.alias(f"majority.{name}") for p, name in zip(probs, scale.probability_columns, strict=True)),
        pl.lit(int(shares.argmax()), pl.Int16).alias("majority.grade"),
    )


def stable_uniform(pairs: pl.DataFrame, seed: int) -> NDArray[np.float64]:
    """(N,) float64 in [0, 1): a hash of the seed, ``query_id`` and ``item_id`` of each pair; 1 microsecond a pair."""
    names = pairs.select(pl.concat_str("query_id", "item_id", separator="\x1f"))["query_id"]
    key = f"pertinent {seed}".encode()[:64]
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    return (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)) / np.float64(2**53)
