"""Score a table of pairs with a teacher: Parquet in, Parquet out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pertinent.errors import DataError
from pertinent.files import read_parquet, write_parquet
from pertinent.progress import progress
from pertinent.teacher.engines import EngineName
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts
from pertinent.types import Scale


def score_table(
    teacher: Path, pairs: Path, out: Path, *, text: Path | None = None, engine: EngineName = "torch"
) -> dict[str, Any]:
    """Write ``pairs`` with p_1..p_n (float32) and expected_gain to ``out``; returns counts for a report.

    pairs: Parquet with query and text, or query and item_id; with item_id, ``text`` is the text stage's folder (or the
    run folder), and a training pair (column split, where there is one) reads what is fair to it. expected_gain is the sum of p_k (2^k - 1), k the stored grade: what to rank by. Raises DataError where
    a column is missing or an item has no text.
    """
    frame = read_parquet(pairs)
    queries, texts = _texts_of(frame, pairs, text)
    if not queries:
        raise DataError(f"{pairs}: expected pairs to score, found none")
    model = load_teacher(teacher, engine=engine)
    with progress("teacher: score", len(queries), "pairs") as bar:
        probs = model.score(queries, texts, bar)
    gains = np.exp2(np.arange(model.n_grades)) - 1.0
    names = Scale.of_size(model.n_grades).probability_columns
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(names)]
    scored = frame.with_columns(*columns, pl.Series("expected_gain", probs.astype(np.float64) @ gains))
    try:
        write_parquet(out, scored)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None
    distinct = len(set(zip(queries, texts, strict=True)))
    return {"scores": str(out), "pairs": len(queries), "distinct_pairs": distinct, "teacher": model.teacher_id}


def _texts_of(frame: pl.DataFrame, pairs: Path, text: Path | None) -> tuple[list[str], list[str]]:
    wanted = "text" if text is None else "item_id"
    absent = [column for column in ("query", wanted) if column not in frame.columns]
    if absent:
        raise DataError(
            f"{pairs}: expected the columns query and text, or query and item_id with --text; found "
            f"{', '.join(frame.columns)}"
        )
    queries = frame["query"].cast(pl.String).fill_null("").to_list()
    if text is None:
        return queries, frame["text"].cast(pl.String).fill_null("").to_list()
    folder = text if (text / "items.parquet").is_file() else text / "text"
    texts = ItemTexts.read(folder)
    known = set(texts.served["item_id"])
    items = frame["item_id"].cast(pl.String)
    unknown = next((item for item in items if item not in known), None)
    if unknown is not None:
        raise DataError(f"{pairs}: expected items of {texts.source}, found {unknown}")
    if "split" not in frame.columns:
        return queries, texts.of_items(items)
    return queries, texts.of_pairs(frame.select("split", item_id=items, query=pl.Series(queries, dtype=pl.String)))
