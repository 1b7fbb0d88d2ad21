"""Judgments and runs of any kind that `pertinent evaluate` takes, as tables: TREC, WANDS, CSV, JSONL, Parquet, run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pertinent.data.build import load_dataset
from pertinent.data.tables import is_table
from pertinent.data.trec import read_qrels, read_trec_run
from pertinent.data.wands import GRADES as WANDS_GRADES
from pertinent.data.wands import is_wands, read_labels
from pertinent.errors import DataError
from pertinent.evaluation.classification import expected_gain
from pertinent.files import read_json, read_parquet
from pertinent.pipeline.pairs import read_pairs
from pertinent.types import Scale

RUN_SCORES = Path("evaluation") / "scores.parquet"


@dataclass(frozen=True)
class JudgedPairs:
    """Judgments: query_id, item_id, grade (i64, stored) and any other columns, ``query`` among them where it is known.

    shown: the file or folder, for messages. notes: what reading it did.
    """

    shown: str
    frame: pl.DataFrame
    n_grades: int
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> Scale:
        """A scale of as many grades."""
        return Scale.of_size(self.n_grades)


@dataclass(frozen=True)
class RunScores:
    """Scores of one system: item_id, score (f64), query_id or query or both, and p_1..p_n where it gives them."""

    shown: str
    name: str
    frame: pl.DataFrame = field(repr=False)


def probability_columns(frame: pl.DataFrame) -> list[str]:
    """The columns p_1, p_2, ... of ``frame``, in the order of the grades."""
    found = (column for column in frame.columns if column.startswith("p_") and column[2:].isdecimal())
    return sorted(found, key=lambda column: int(column[2:]))


def is_run_folder(path: Path) -> bool:
    """Whether ``path`` is a run folder with an evaluation."""
    return (path / RUN_SCORES).is_file()


def read_judged(path: Path, n_grades: int | None = None) -> JudgedPairs:
    """Judgments from qrels, a table (query or query_id, item_id, grade), WANDS' folder or label.csv, a run's or data folder.

    n_grades: of the scale; by default of the data set, else one more than the highest grade. Grades below 0, as TREC marks
    spam, are the lowest grade. Of a run folder the test split is taken. Raises DataError in one line.
    """
    if path.is_dir():
        found = _judged_folder(path)
    elif not path.exists():
        raise DataError(f"{path}: no such file")
    elif path.name.removesuffix(".gz") == "label.csv" and is_wands(path.parent):
        found = _wands(path.parent)
    elif is_table(path):
        found = _judged_table(path)
    else:
        found = _judged(str(path), read_qrels(path))
    return _with_scale(found, n_grades)


def read_run_scores(path: Path, system: str = "student") -> RunScores:
    """Scores from a TREC run, a table (query or query_id, item_id, and score or p_1..p_n), or a run folder.

    system: of a run folder, by the column of its evaluation/scores.parquet; the test rows are taken. Where there is no
    score, pairs rank by the expected gain of p_1..p_n. Raises DataError in one line, naming the systems that there are.
    """
    if path.is_dir():
        return _run_folder(path, system)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    name = path.name.removesuffix(".gz")
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix else name
    if not is_table(path):
        return RunScores(str(path), stem, read_trec_run(path))
    rows = read_pairs(path, ("score", "p_[0-9]*"), by_id=True)
    probabilities = probability_columns(rows)
    if "score" not in rows.columns and not probabilities:
        raise DataError(f"{path}: expected a column score, or p_1..p_n, found {', '.join(rows.columns)}")
    if "score" not in rows.columns:
        rows = rows.with_columns(_expected_gain(rows, probabilities))
    keys = [c for c in ("query_id", "query", "item_id") if c in rows.columns]
    return RunScores(str(path), stem, rows.select(*keys, "score", *probabilities))


def systems_of(folder: Path) -> list[str]:
    """The systems of a run folder's evaluation."""
    frame = read_parquet(folder / RUN_SCORES)
    known = {"query_id", "query", "item_id", "grade", "split"}
    metrics = folder / "evaluation" / "metrics.json"
    if metrics.is_file():
        return [name for name in read_json(metrics).get("systems", {}) if name in frame.columns]
    return [c for c, dtype in frame.schema.items() if dtype.is_float() and "." not in c and c not in known]


def _judged_folder(path: Path) -> JudgedPairs:
    for folder in (path, path / "data"):
        if (folder / "dataset.json").is_file():
            dataset = load_dataset(folder)
            test = dataset.judgments.filter(pl.col("split") == "test")
            kept = [c for c in test.columns if c not in ("split", "grade_mean", "n_ratings", "grade_counts")]
            return JudgedPairs(str(folder), test.select(kept).cast({"grade": pl.Int64}), dataset.scale.n_grades)
    if is_run_folder(path):
        return _scored_judgments(path)
    if is_wands(path):
        return _wands(path)
    raise DataError(
        f"{path}: expected a run folder, a data folder or WANDS, found no dataset.json, scores.parquet or label.csv"
    )


def run_judgments(folder: Path, n_grades: int | None = None) -> JudgedPairs:
    """The test judgments in a run folder's evaluation, with its columns to slice by. n_grades: see ``read_judged``."""
    return _with_scale(_scored_judgments(folder), n_grades)


def _scored_judgments(folder: Path) -> JudgedPairs:
    file, metrics = folder / RUN_SCORES, folder / "evaluation" / "metrics.json"
    frame = read_parquet(file)
    absent = [c for c in ("query_id", "query", "item_id", "grade", "split") if c not in frame.columns]
    if absent:
        raise DataError(f"{file}: expected the columns {', '.join(absent)}, found {', '.join(frame.columns)}")
    systems = set(systems_of(folder))
    kept = [c for c in frame.columns if c.split(".")[0] not in systems and c != "split"]
    test = frame.filter(pl.col("split") == "test").select(kept).cast({"grade": pl.Int64})
    told = read_json(metrics).get("n_grades") if metrics.is_file() else None
    return JudgedPairs(str(file), test, told if isinstance(told, int) else 0)


def _run_folder(path: Path, system: str) -> RunScores:
    file = path / RUN_SCORES
    if not file.is_file():
        raise DataError(f"{path}: expected a run folder with {RUN_SCORES}, found none")
    frame = read_parquet(file)
    known = systems_of(path)
    if system not in known:
        raise DataError(f"{file}: no system {system}; found {', '.join(known) or 'none'}")
    columns = [c for c in frame.columns if c.startswith(f"{system}.p_")]
    test = frame.filter(pl.col("split") == "test").select(
        "query_id",
        "query",
        "item_id",
        pl.col(system).cast(pl.Float64).alias("score"),
        *(pl.col(c).cast(pl.Float64).alias(c.removeprefix(f"{system}.")) for c in columns),
    )
    return RunScores(str(file), f"{path.resolve().name}/{system}", test)


def _wands(folder: Path) -> JudgedPairs:
    labels = read_labels(folder).frame()
    grade = pl.col("grade").replace_strict(list(WANDS_GRADES), [0, 1, 2], default=None, return_dtype=pl.Int64)
    frame = labels.with_columns(grade.alias("stored"))
    wrong = frame.filter(pl.col("stored").is_null() | pl.col("query").is_null())
    notes = []
    if wrong.height:
        notes.append(f"{folder}: {wrong.height} labels left out: not {', '.join(WANDS_GRADES)}, or of an unknown query")
    kept = frame.filter(pl.col("stored").is_not_null() & pl.col("query").is_not_null())
    kept = kept.select("query_id", "query", "item_id", pl.col("stored").alias("grade"))
    return JudgedPairs(str(folder), kept, len(WANDS_GRADES), tuple(notes))


def _judged_table(path: Path) -> JudgedPairs:
    rows = read_pairs(path, ("grade",), by_id=True)
    if "grade" not in rows.columns:
        raise DataError(f"{path}: expected a column grade, found {', '.join(rows.columns)}")
    wrong = rows.filter(pl.col("grade").is_null() | (pl.col("grade") != pl.col("grade").floor()))
    if wrong.height:
        raise DataError(f"{path}: grade must be a whole number, got {wrong['grade'][0]} ({wrong.height} such rows)")
    return _judged(str(path), rows.cast({"grade": pl.Int64}))


def _judged(shown: str, frame: pl.DataFrame) -> JudgedPairs:
    if "query_id" not in frame.columns:
        frame = frame.with_columns(pl.col("query").alias("query_id"))
    n_negative = frame.filter(pl.col("grade") < 0).height
    notes = (f"{shown}: {n_negative} grades below 0 taken as the lowest grade",) if n_negative else ()
    return JudgedPairs(shown, frame.with_columns(pl.col("grade").clip(lower_bound=0)), 0, notes)


def _with_scale(found: JudgedPairs, n_grades: int | None) -> JudgedPairs:
    if found.frame.is_empty():
        raise DataError(f"{found.shown}: expected judgments, of a run those of the test split, found none")
    highest = int(found.frame.select(pl.col("grade").max()).item())
    wanted = n_grades or found.n_grades or max(highest + 1, 2)
    if highest >= wanted:
        raise DataError(f"{found.shown}: grade must be 0-{wanted - 1}, got {highest}")
    repeated = found.frame.filter(pl.struct("query_id", "item_id").is_duplicated())
    if repeated.height:
        query, item = repeated.select("query_id", "item_id").row(0)
        raise DataError(f"{found.shown}: item {item} of query {query}: the pair is judged more than once")
    return JudgedPairs(found.shown, found.frame, wanted, found.notes)


def _expected_gain(rows: pl.DataFrame, probabilities: Sequence[str]) -> pl.Series:
    probs = rows.select(pl.col(probabilities).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return pl.Series("score", expected_gain(probs))
