"""TREC files, read and written: qrels ``QUERY 0 ITEM GRADE`` and runs ``QUERY Q0 ITEM RANK SCORE TAG``, one row a line."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pertinent.data.tables import read_text
from pertinent.errors import DataError
from pertinent.files import atomic_path, reason_of

_QRELS = r"^\s*(?P<query_id>\S+)\s+\S+\s+(?P<item_id>\S+)\s+(?P<grade>[+-]?\d+)\s*$"
_RUN = (
    r"^\s*(?P<query_id>\S+)\s+\S+\s+(?P<item_id>\S+)\s+[+-]?\d+(?:\.\d+)?\s+"
    r"(?P<score>[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[nN][aA][nN]|[iI][nN][fF]\w*))\s+\S.*$"
)


def read_qrels(file: Path) -> pl.DataFrame:
    """query_id (str), item_id (str) and grade (i64, as written: below 0 where a collection marks spam so).

    Raises DataError naming the line if one is not of four fields with a whole grade, or a pair is judged twice.
    """
    rows = _read(file, _QRELS, "QUERY 0 ITEM GRADE, the grade a whole number")
    frame = rows.with_columns(pl.col("grade").cast(pl.Int64))
    _check_repeats(file, frame, "is judged twice")
    return frame.drop("line")


def read_trec_run(file: Path) -> pl.DataFrame:
    """query_id (str), item_id (str) and score (f64), in the order of the file; ranks are not read, as in trec_eval.

    Raises DataError naming the line if one is not of six fields with a number as score, or an item is retrieved twice.
    """
    rows = _read(file, _RUN, "QUERY Q0 ITEM RANK SCORE TAG, rank and score numbers")
    frame = rows.with_columns(pl.col("score").str.to_lowercase().cast(pl.Float64))
    _check_repeats(file, frame, "is retrieved twice")
    return frame.drop("line")


def write_qrels(judgments: pl.DataFrame, file: Path) -> None:
    """Write judgments (query_id, item_id, grade) as qrels. Raises DataError for an id that is empty or holds a space."""
    _check_ids(judgments)
    lines = judgments.select(pl.concat_str("query_id", pl.lit("0"), "item_id", pl.col("grade"), separator=" "))
    _write(file, lines.to_series())


def write_trec_run(run: pl.DataFrame, file: Path, tag: str) -> None:
    """Write a run (query_id, item_id, score), each query's items by score, equal ones by item_id; ranks from 1.

    Scores are written with as many digits as give them back. Raises DataError for an id or tag that is empty or holds a
    space, or a score that is not finite.
    """
    _check_ids(run)
    if not tag or any(character.isspace() for character in tag):
        raise DataError(f"TREC run: expected a tag without spaces, found {tag!r}")
    if not run["score"].is_finite().all():
        raise DataError("TREC run: scores must be finite, found others")
    ranked = run.sort(["query_id", "score", "item_id"], descending=[False, True, False])
    rank = pl.int_range(1, pl.len() + 1).over("query_id")
    score = pl.Series("score", [repr(value) for value in ranked["score"].cast(pl.Float64).to_list()])
    lines = ranked.select(
        pl.concat_str("query_id", pl.lit("Q0"), "item_id", rank.cast(pl.String), score, pl.lit(tag), separator=" ")
    )
    _write(file, lines.to_series())


def _read(file: Path, pattern: str, due: str) -> pl.DataFrame:
    text = read_text(file, "utf-8")
    lines = pl.Series("text", text.splitlines(), dtype=pl.String)
    frame = pl.DataFrame({"text": lines}).with_row_index("line", offset=1)
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    if frame.is_empty():
        raise DataError(f"{file}: empty file")
    found = frame.select("line", pl.col("text").str.extract_groups(pattern).alias("fields")).unnest("fields")
    broken = found.filter(pl.col("query_id").is_null())
    if broken.height:
        line = broken["line"][0]
        text_there = frame.filter(pl.col("line") == line)["text"][0][:80]
        raise DataError(f"{file}:{line}: expected {due}, got {text_there!r}")
    return found


def _check_repeats(file: Path, frame: pl.DataFrame, what: str) -> None:
    repeated = frame.filter(pl.struct("query_id", "item_id").is_duplicated())
    if repeated.height:
        query, item = repeated.select("query_id", "item_id").row(0)
        again = repeated.filter((pl.col("query_id") == query) & (pl.col("item_id") == item))
        raise DataError(
            f"{file}:{again['line'][1]}: item {item} of query {query} {what}, first on line {again['line'][0]}"
        )


def _check_ids(frame: pl.DataFrame) -> None:
    for name in ("query_id", "item_id"):
        wrong = frame.filter(pl.col(name).is_null() | ~pl.col(name).str.contains(r"^\S+$"))
        if wrong.height:
            raise DataError(f"TREC file: {name} must not be empty or hold a space, found {wrong[name][0]!r}")


def _write(file: Path, lines: pl.Series) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            temporary.write_text("\n".join(lines.to_list()) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {reason_of(error)}") from None
