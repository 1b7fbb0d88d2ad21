"""Live fidelity: the teacher scores again what the student was served on, and the two are compared."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from pertinent.bundle import bundle_folder
from pertinent.errors import DataError, ModelError
from pertinent.evaluation.classification import expected_gain, most_likely, ratio_of
from pertinent.evaluation.fidelity import kl_nats
from pertinent.evaluation.intervals import intervals_of
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.statistics import Statistic, Summed, value_of
from pertinent.pipeline.audit import files_of, own_rows
from pertinent.progress import progress
from pertinent.serving.bundles import hash_of
from pertinent.teacher.engines import EngineName
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts

PER_REQUEST = 20  # candidates of one request in the sample: enough for a rank correlation, and many requests fit
_COLUMNS = ("bundle", "request_id", "query", "item_id", "relevance")


@dataclass(frozen=True)
class Probs:
    """What the two say of N pairs of Q queries.

    student, teacher: (N, n). queries: (N,) int64, which query a pair is of. requests: (N,) int64, which request.
    """

    student: NDArray[np.float64]
    teacher: NDArray[np.float64]
    queries: NDArray[np.int64]
    requests: NDArray[np.int64]


def live_fidelity(
    log: Path, bundle: Path, teacher: Path, text: Path, *, sample: int, seed: int = 0, engine: EngineName = "torch"
) -> dict[str, Any]:
    """The student's served scores against the teacher's on about ``sample`` pairs of the feature log.

    Requests are drawn at random and of each at most 20 candidates, stored items with a text alone. text: the text stage's
    folder. Returns {"teacher", "pairs", "requests", "queries", "without_text": rows of the log left out, "fidelity": {name: value or
    None}, "intervals": {name: [low, high] or None}}: see `fidelity`. Raises DataError where nothing can be sampled,
    ModelError where the teacher has another number of grades.
    """
    texts = ItemTexts.read(text)
    served = hash_of(bundle_folder(bundle))
    rows = pl.concat([own_rows(file, served, _COLUMNS) for file in files_of(log)])
    stored = rows.filter(pl.col("relevance").is_not_null() & pl.col("item_id").is_not_null())
    usable = stored.filter(pl.col("item_id").is_in(texts.served["item_id"].to_list()))
    if not usable.height:
        raise DataError(f"{log}: expected served items of {texts.source}, found none")
    drawn = sampled(usable, sample, seed)
    model = load_teacher(teacher, engine=engine)
    names = [name for name in drawn.columns if name.startswith("p_")]
    if model.n_grades != len(names):
        raise ModelError(f"{teacher}: expected a teacher of {len(names)} grades, found {model.n_grades}")
    with progress("audit: teacher", drawn.height, "pairs") as bar:
        said = model.score(drawn["query"].to_list(), texts.of_items(drawn["item_id"]), bar)
    codes = [drawn[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ("query", "request_id")]
    probs = Probs(drawn.select(names).to_numpy().astype(np.float64), said.astype(np.float64), *codes)
    found = fidelity(probs)
    intervals = intervals_of(found, seed=seed)
    return {
        "teacher": model.teacher_id,
        "pairs": drawn.height,
        "requests": int(probs.requests.max()) + 1,
        "queries": int(probs.queries.max()) + 1,
        "without_text": rows.filter(pl.col("relevance").is_not_null()).height - usable.height,
        "fidelity": {name: value_of(statistic) for name, statistic in found.items()},
        "intervals": intervals,
    }


def sampled(rows: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """At least ``n`` of the rows where there are as many: whole draws of at most 20 a request, requests at random."""
    chance = random.Random(seed)
    sizes = dict(rows["request_id"].value_counts().iter_rows())
    requests = sorted(sizes)
    chance.shuffle(requests)
    chosen, left = [], n
    for request in requests:
        if left <= 0:
            break
        chosen.append(request)
        left -= min(sizes[request], PER_REQUEST)
    # The order of files is that of their names, so a shuffle by the seed draws the same rows again.
    held = rows.filter(pl.col("request_id").is_in(chosen)).sample(fraction=1.0, shuffle=True, seed=seed)
    return held.group_by("request_id", maintain_order=True).head(PER_REQUEST)


def fidelity(probs: Probs) -> Mapping[str, Statistic]:
    """Statistics over queries.

    agreement and kl_nats: as `evaluation.fidelity` has them, the teacher being the reference.
    auroc_k+: of the student's P(grade >= k), k shown, where the teacher's likeliest grade decides. rank_correlation: mean
    over requests of Spearman's between the expected gains; a request where either gives one value for all has none.
    """
    n_queries = int(probs.queries.max()) + 1
    ones = np.ones(len(probs.queries))
    top = most_likely(probs.teacher)
    agrees = (most_likely(probs.student) == top).astype(np.float64)
    found: dict[str, Statistic] = {
        name: Summed.of_pairs(probs.queries, n_queries, np.stack([terms, ones], axis=1), ratio_of)
        for name, terms in (("agreement", agrees), ("kl_nats", kl_nats(probs.teacher, probs.student)))
    }
    for k in range(1, probs.teacher.shape[1]):
        at_least = probs.student[:, k:].sum(axis=1)
        found[f"auroc_{k + 1}+"] = PooledAuroc.of(probs.queries, n_queries, top >= k, at_least)
    found["rank_correlation"] = _rank_correlation(probs, n_queries)
    return found


def _rank_correlation(probs: Probs, n_queries: int) -> Statistic:
    student, teacher = expected_gain(probs.student), expected_gain(probs.teacher)
    queries, terms = [], []
    for request in range(int(probs.requests.max()) + 1):
        rows = np.flatnonzero(probs.requests == request)
        if len(np.unique(student[rows])) > 1 and len(np.unique(teacher[rows])) > 1:
            queries.append(probs.queries[rows[0]])
            terms.append((float(stats.spearmanr(student[rows], teacher[rows]).statistic), 1.0))
    table = np.array(terms, dtype=np.float64).reshape(-1, 2)
    return Summed.of_pairs(np.array(queries, dtype=np.int64), n_queries, table, ratio_of)
