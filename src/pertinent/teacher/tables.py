"""Score a table of pairs with a teacher: Parquet in, Parquet out, continued after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import DataError
from pertinent.evaluation.classification import expected_gain
from pertinent.files import atomic_path, read_json, read_parquet, reason_of, sha256_of_json, write_json, write_parquet
from pertinent.progress import progress, say
from pertinent.teacher.engines import EngineName
from pertinent.teacher.model import Teacher, distinct_pairs
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts
from pertinent.types import Scale

_BLOCK_PAIRS = 65_536  # distinct pairs scored between two writes: minutes of a CPU


def score_table(
    teacher: Path, pairs: Path, out: Path, *, text: Path | None = None, engine: EngineName = "torch"
) -> dict[str, Any]:
    """Write ``pairs`` with p_1..p_n (float32) and expected_gain to ``out``; returns counts for a report.

    A run that was killed is continued from its last block, which is kept in a hidden folder beside ``out``.

    pairs: Parquet with query and text, or query and item_id; with item_id, ``text`` is the text stage's folder (or the
    run folder), and a training pair (column split, where there is one) reads what is fair to it. expected_gain is the sum
    of p_k (2^k - 1), k the stored grade: what to rank by. Raises DataError where a column is missing, a value is null, an
    item has no text or ``out`` cannot be written.
    """
    frame = read_parquet(pairs)
    queries, texts = _texts_of(frame, pairs, text)
    if not queries:
        raise DataError(f"{pairs}: expected pairs to score, found none")
    model = load_teacher(teacher, engine=engine)
    distinct, index = distinct_pairs(queries, texts)
    work = out.with_name(f".{out.name}.partial")
    try:
        found, n_cut = _score_blocks(model, distinct, work, {"teacher": model.teacher_id, "engine": engine})
        write_parquet(out, _with_scores(frame, found[index]))
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {reason_of(error)}") from None
    shutil.rmtree(work, ignore_errors=True)
    counts = {"pairs": len(queries), "distinct_pairs": len(distinct), "pairs_cut": n_cut}
    return {"scores": str(out), **counts, "teacher": model.teacher_id}


def _with_scores(frame: pl.DataFrame, probs: NDArray[np.float32]) -> pl.DataFrame:
    names = Scale.of_size(probs.shape[1]).probability_columns
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(names)]
    return frame.with_columns(*columns, pl.Series("expected_gain", expected_gain(probs)))


def _score_blocks(
    model: Teacher, pairs: list[tuple[str, str]], work: Path, job: dict[str, str]
) -> tuple[NDArray[np.float32], int]:
    """Probabilities of distinct pairs, and how many were cut; finished blocks are kept in ``work``."""
    job = {**job, "pairs": sha256_of_json(pairs)}
    if (work / "job.json").is_file() and read_json(work / "job.json") != job:
        shutil.rmtree(work)  # of other pairs, another teacher or engine
    work.mkdir(exist_ok=True)
    write_json(work / "job.json", job)
    files = [work / f"block-{start}.npz" for start in range(0, len(pairs), _BLOCK_PAIRS)]
    done = min(sum(file.is_file() for file in files) * _BLOCK_PAIRS, len(pairs))
    if done:
        say(f"teacher: score: continuing after {done:,} of {len(pairs):,} distinct pairs")
    with progress("teacher: score", len(pairs), "pairs", done) as bar:
        for number, file in enumerate(files):
            if file.is_file():
                continue
            queries, texts = zip(*pairs[number * _BLOCK_PAIRS :][:_BLOCK_PAIRS], strict=True)
            probs, n_cut = model.score_counted(queries, texts, bar)
            with atomic_path(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, probs=probs, n_cut=n_cut)
    blocks = [np.load(file) for file in files]
    return np.concatenate([block["probs"] for block in blocks]), sum(int(block["n_cut"]) for block in blocks)


def _texts_of(frame: pl.DataFrame, pairs: Path, text: Path | None) -> tuple[list[str], list[str]]:
    wanted = "text" if text is None else "item_id"
    absent = [column for column in ("query", wanted) if column not in frame.columns]
    if absent:
        raise DataError(
            f"{pairs}: expected the columns query and text, or query and item_id with --text; found "
            f"{', '.join(frame.columns)}"
        )
    for column in ("query", wanted):
        empty = frame[column].is_null().arg_true()
        if empty.len():
            raise DataError(f"{pairs}: expected a {column} in every row, found none in row {empty[0] + 1}")
    queries = frame["query"].cast(pl.String).to_list()
    if text is None:
        return queries, frame["text"].cast(pl.String).to_list()
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
