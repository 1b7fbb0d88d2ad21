"""What a search team would pick instead, on Home Depot's split: LightGBM on lexical features, sentence-transformers.

    python benchmarks/alternatives.py --rows 'lightgbm*'

Rows: lightgbm (regression of the mean rating) and lightgbm-lambdarank (ranking of the grades by query), both with the
library's own defaults on all human rows and the lexical features of a pair; cross-encoder-16k and cross-encoder-4k, a
CrossEncoder of multilingual-e5-small fine-tuned by sentence-transformers with its own defaults (one output, binary
cross-entropy, batches of 8, learning rate 5e-5): 16,000 human rows for one epoch, and 4,000 rows for the default three,
which are the rows of e5/0 and e5-4k in teacher_models; of 4k the first 2,000 test pairs are measured, as there.
BM25 and the cosines of USE and e5 on the same pairs are rows of teacher_models.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from common import (
    Target,
    measure_rows,
    run_main,
)
from homedepot import HomeDepot
from pertinent.features.lexical import FEATURE_NAMES
from pertinent.teacher.rows import training_judgments
from teacher_speed import e5_folder

SEED = 0
MAX_TOKENS = 96  # of a pair, as the teacher of configs/homedepot.yaml reads at most
SMALL_TEST_PAIRS = 2_000
COLUMNS = ("train_rows", "train_seconds", "accuracy", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy", "ndcg@20")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows("alternatives", __doc__, lambda quick: rows_of(quick=quick), targets, columns=COLUMNS, seeds=[SEED])


def rows_of(*, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> what measures it."""
    small = 300 if quick else None
    return {
        "lightgbm": lambda: lightgbm_figures("regression", small, quick=quick),
        "lightgbm-lambdarank": lambda: lightgbm_figures("lambdarank", small, quick=quick),
        "cross-encoder-16k": lambda: cross_encoder_figures(64 if quick else 16_000, small, {"num_train_epochs": 1}),
        "cross-encoder-4k": lambda: cross_encoder_figures(64 if quick else 4_000, small or SMALL_TEST_PAIRS, {}),
    }


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """None: what the other rows are read against."""
    return []


def lightgbm_figures(objective: str, max_test_pairs: int | None, *, quick: bool) -> dict[str, Any]:
    """LightGBM with its own defaults on the lexical features. objective: regression or lambdarank."""
    import lightgbm

    homedepot = HomeDepot.prepared(max_test_pairs)
    train = training_judgments(homedepot.dataset.judgments, 200 if quick else None, SEED).sort("query_id", "item_id")
    features = [homedepot.features(pairs) for pairs in (train, homedepot.held_out)]
    started = time.monotonic()
    options: dict[str, Any] = {"random_state": SEED, "n_jobs": 2, "verbose": -1}
    if objective == "lambdarank":
        sizes = train.group_by("query_id", maintain_order=True).len()["len"].to_numpy()
        model: Any = lightgbm.LGBMRanker(**options).fit(features[0], train["grade"].to_numpy(), group=sizes)
    else:
        model = lightgbm.LGBMRegressor(**options).fit(features[0], train["grade_mean"].to_numpy())
    seconds = time.monotonic() - started
    scores = np.asarray(model.predict(features[1]), dtype=np.float64)
    return {**homedepot.figures(scores=scores), **_made(train, seconds), "features": len(FEATURE_NAMES)}


def cross_encoder_figures(n_rows: int, max_test_pairs: int | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A CrossEncoder as sentence-transformers trains one where nothing is set but ``changes``."""
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments

    homedepot = HomeDepot.prepared(max_test_pairs)
    train = training_judgments(homedepot.dataset.judgments, n_rows, SEED)
    # One output between 0 and 1, as its documentation trains graded relevance; the mean rating is the finest label.
    labels = (train["grade_mean"] / (homedepot.dataset.scale.n_grades - 1)).to_list()
    texts = [homedepot.texts[item] for item in train["item_id"]]
    torch.manual_seed(SEED)  # of its new head
    model = CrossEncoder(str(e5_folder()), num_labels=1, max_length=MAX_TOKENS)
    rows = Dataset.from_dict({"query": train["query"].to_list(), "text": texts, "label": labels})
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            seed=SEED,
            disable_tqdm=True,
            **changes,
        )
        started = time.monotonic()
        CrossEncoderTrainer(model=model, args=arguments, train_dataset=rows).train()
        seconds = time.monotonic() - started
    pairs = list(zip(*homedepot.queries_and_texts(), strict=True))
    scores = np.asarray(model.predict(pairs, show_progress_bar=False), dtype=np.float64)
    return {**homedepot.figures(scores=scores), **_made(train, seconds), "epochs": arguments.num_train_epochs}


def _made(train: pl.DataFrame, seconds: float) -> dict[str, Any]:
    return {"train_rows": train.height, "train_seconds": round(seconds, 1)}


if __name__ == "__main__":
    run_main(main)
