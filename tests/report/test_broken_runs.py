"""Run folders that are broken or poor: one clear line or a marked gap, never a wrong number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation import evaluate, write_evaluation
from pertinent.report import write_report
from pertinent.types import Scale

MakeRun = Callable[..., Path]
SYSTEMS = ("random", "majority", "bm25", "embedding", "teacher", "student")
SCALE = Scale.of_size(5)
PROBS = [f"student.p_{k}" for k in range(1, 6)]
FLAT = {"student": pl.lit(1.0), **dict.fromkeys(PROBS, pl.lit(0.2))}


@pytest.fixture
def broken(make_run: MakeRun) -> Path:
    return make_run(n_queries=30)


def scores_of(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "evaluation" / "scores.parquet")


def measured(run: Path, scores: pl.DataFrame, systems: tuple[str, ...] = SYSTEMS) -> dict[str, Any]:
    """``scores`` put into the run and measured anew; returns its metrics."""
    scores.write_parquet(run / "evaluation" / "scores.parquet")
    found = evaluate(scores, SCALE, systems=systems, resamples=20)
    write_evaluation(found, run / "evaluation")
    return found.metrics


def text_of(run: Path) -> str:
    """The page's words, tags and style left out."""
    page = re.sub(r"<style>.*?</style>", "", write_report(run).read_text(encoding="utf-8"), flags=re.DOTALL)
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text)
    return text


def spoilt(scores: pl.DataFrame, column: str, value: Any, item: str = "i001-0") -> pl.DataFrame:
    return scores.with_columns(pl.when(pl.col("item_id") == item).then(value).otherwise(column).alias(column))


def test_one_query_has_figures_without_an_interval_and_says_so(broken: Path) -> None:
    scores = scores_of(broken)
    metrics = measured(broken, scores.filter((pl.col("split") == "dev") | (pl.col("query_id") == "q001")))
    assert metrics["systems"]["student"]["n_queries"] == 1
    assert set(metrics["intervals"]["student"].values()) == {None}
    text = text_of(broken)
    assert "intervals: null, there is only one test query" in text
    assert 'title="too small: 1 query, 20 are needed for an interval">small' in write_report(broken).read_text("utf-8")
    assert not re.search(r"AUROC 4\+ [.\d]+ \[", text)


def test_one_pair_has_no_order_and_each_undefined_figure_is_told(broken: Path) -> None:
    scores = scores_of(broken)
    pair = scores.filter((pl.col("split") == "test") & (pl.col("grade") == 1)).head(1)
    metrics = measured(broken, pl.concat([scores.filter(pl.col("split") == "dev"), pair]))
    student = metrics["systems"]["student"]
    undefined = [
        "auroc_2+",
        "auroc_5+",
        "pair_accuracy",
        "qwk",
        "precision@8",
        "map",
        "mrr@10",
        "recall@20",
        "auprc_3+",
    ]
    assert {student[metric] for metric in undefined} == {None}
    text = text_of(broken)
    for said in (
        "This run has no AUROC 4+ for the student",
        "mrr@10, map and recall@20: null, no test pair is L4 or above",
        "auroc_3+: null, all test pairs are on one side of L3",
        "auprc_3+, auprc_4+, auprc_5+: null, no test pair is of such a grade",
        "precision@8: null, no test query has 8 judgments",
        "pair_accuracy: null, no test query has items of different grades",
    ):
        assert said in text


def test_equal_scores_are_chance_told_and_have_no_lead(broken: Path) -> None:
    scores = scores_of(broken).with_columns(bm25=pl.lit(3.0), **FLAT)
    metrics = measured(broken, scores)
    for system in ("bm25", "student"):
        assert {metrics["systems"][system][f"auroc_{k}+"] for k in range(2, 6)} == {0.5}
        assert metrics["systems"][system]["pair_accuracy"] == 0.5
    # A tie of all is the mean over all orders: the same for both, and what random order gets in the mean.
    assert metrics["systems"]["student"]["ndcg@20"] == pytest.approx(metrics["systems"]["bm25"]["ndcg@20"], abs=1e-12)
    text = text_of(broken)
    assert "student: all test scores are equal, so its ranking figures are those of chance" in text
    assert "0% of the teacher's gain over BM25" in text.replace("&#39;", "'")


def test_a_language_that_nobody_gave_is_a_marked_slice(broken: Path) -> None:
    blank = pl.when(pl.col("language") == "ja").then(pl.lit(" ")).otherwise("language").alias("language")
    metrics = measured(broken, scores_of(broken).with_columns(blank))
    assert set(metrics["slices"]["language"]) == {"en", "ar", "(missing)"}
    assert "(missing)" in text_of(broken)


@pytest.mark.parametrize("empty", [{}, {"n_pairs": 0, "n_queries": 0, "small": True, "systems": {}, "intervals": {}}])
def test_an_empty_slice_is_a_row_of_gaps(broken: Path, empty: dict[str, Any]) -> None:
    file = broken / "evaluation" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["slices"]["language"]["tlh"] = empty
    file.write_text(json.dumps(metrics))
    page = write_report(broken).read_text(encoding="utf-8")
    row = re.search(r'<tr[^>]*>\s*<th scope="row"[^>]*>(?:(?!</tr>).)*?tlh.*?</tr>', page, re.DOTALL)
    assert row
    cells = re.findall(r"<td.*?</td>", row.group(0), re.DOTALL)[2:]
    assert len(cells) >= 4
    assert all("no number" in cell or "not known" in cell for cell in cells)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_without_a_system_has_gaps_in_its_place(broken: Path, system: str) -> None:
    left = tuple(name for name in SYSTEMS if name != system)
    metrics = measured(broken, scores_of(broken).drop(system), left)
    assert set(metrics["systems"]) == set(left)
    text = text_of(broken)
    if system == "student":
        assert "This run has no AUROC 4+ for the student: Student was not scored here." in text
        assert "evaluation/scores.parquet has no scores of the student" in text
    else:
        assert f"{system if system != 'bm25' else 'BM25'} was not scored here".lower() in text.lower()
        assert system not in ("teacher", "bm25") or "of the teacher&#39;s gain" not in text


@pytest.mark.parametrize("value", [float("nan"), None, float("inf")])
def test_a_score_that_is_no_number_is_not_measured_and_on_the_page_a_gap(broken: Path, value: float | None) -> None:
    holed = spoilt(scores_of(broken), "student", value)
    with pytest.raises(DataError, match="system student: scores must be finite, found"):
        measured(broken, holed)
    for name in ("reliability.json", "confusion.json"):
        (broken / "evaluation" / name).unlink()
    text = text_of(broken)  # scores.parquet is the holed one, metrics.json that of before
    assert "student: 1 of 172 pairs in scores.parquet have a score or probability that is missing" in text
    assert "A score of the student is missing or not finite, so its queries have no order" in text


def test_probabilities_with_a_hole_are_drawn_nowhere(broken: Path) -> None:
    holed = spoilt(spoilt(scores_of(broken), "student.p_2", float("nan")), "teacher.p_1", None)
    with pytest.raises(DataError, match="system teacher: query q001, item i001-0: probabilities must be at least 0"):
        measured(broken, holed)
    for name in ("reliability.json", "confusion.json"):
        (broken / "evaluation" / name).unlink()
    text = text_of(broken)
    assert "There are no grade probabilities to check" in text
    assert "There are no given grades to compare" in text


def test_scores_of_another_evaluation_are_told(broken: Path) -> None:
    file = broken / "evaluation" / "scores.parquet"
    scores_of(broken).filter((pl.col("split") == "dev") | (pl.col("query_id") != "q001")).write_parquet(file)
    assert "metrics.json is of 172 pairs and scores.parquet has 162: one of them is of another evaluation" in text_of(
        broken
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: spoilt(s, "grade", 9), r"scores\.parquet: query q001, item i001-0: grade must be 0-4, got 9"),
        (lambda s: spoilt(s, "grade", None), "item i001-0: grade must be 0-4, got None"),
        (lambda s: s.with_columns(grade=pl.lit("L3")), "column grade: expected whole numbers, found String"),
        (lambda s: s.with_columns(student=pl.lit("good")), "column student: expected numbers, found String"),
        (
            lambda s: s.with_columns(pl.lit("x").alias("teacher.p_3")),
            "column teacher.p_3: expected numbers, found String",
        ),
    ],
)
def test_what_cannot_be_read_as_scores_is_one_line(
    broken: Path, change: Callable[[pl.DataFrame], pl.DataFrame], said: str
) -> None:
    change(scores_of(broken)).write_parquet(broken / "evaluation" / "scores.parquet")
    with pytest.raises(DataError, match=said):
        write_report(broken)
