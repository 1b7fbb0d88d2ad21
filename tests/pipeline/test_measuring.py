"""`pertinent evaluate RUN QRELS MEASURE ...`: formats, comparison, slices, the gate, and what is not as it should be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from scipy import stats

from pertinent.cli import main
from pertinent.data.trec import write_qrels, write_trec_run
from pertinent.errors import DataError
from pertinent.evaluation import evaluate, write_evaluation
from pertinent.evaluation.comparison import Settings
from pertinent.pipeline.measuring import Request, measure_runs, write_trec
from pertinent.types import Scale

QUICK = Settings(resamples=60, permutations=400)
PROBABILITIES = [f"p_{k}" for k in range(1, 6)]


def judged(n_queries: int = 60, seed: int = 0) -> pl.DataFrame:
    """Judgments with two systems: ``good`` follows the grade, ``bad`` hardly does, and p_1..p_5 of ``good``."""
    generator = np.random.default_rng(seed)
    queries = np.repeat(np.arange(n_queries), generator.integers(5, 14, n_queries))
    grades = generator.integers(0, 5, queries.size)
    good, bad = (grades + noise * generator.normal(size=queries.size) for noise in (0.8, 3.0))
    logits = -((np.arange(5) - good[:, None]) ** 2) / 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return pl.DataFrame(
        {
            "query_id": [f"q{q:02d}" for q in queries],
            "query": [f"query {q}" for q in queries],
            "item_id": [f"i{i}" for i in range(queries.size)],
            "grade": grades,
            "language": ["en" if q % 3 else "de" for q in queries],
            "good": good,
            "bad": bad,
            **{name: probs[:, k] for k, name in enumerate(PROBABILITIES)},
        }
    )


@pytest.fixture
def pairs() -> pl.DataFrame:
    return judged()


@pytest.fixture
def files(tmp_path: Path, pairs: pl.DataFrame) -> Path:
    """qrels.txt, good.run, bad.run (TREC), judgments.parquet, good.parquet with probabilities."""
    write_qrels(pairs, tmp_path / "qrels.txt")
    for name in ("good", "bad"):
        write_trec_run(pairs.select("query_id", "item_id", pl.col(name).alias("score")), tmp_path / f"{name}.run", name)
    pairs.select("query_id", "query", "item_id", "grade", "language").write_parquet(tmp_path / "judgments.parquet")
    pairs.select("query", "item_id", *PROBABILITIES).write_parquet(tmp_path / "good.parquet")
    return tmp_path


def run_folder(folder: Path, pairs: pl.DataFrame, **systems: Any) -> Path:
    """A run folder whose evaluation was made from these scores; half of the queries are dev."""
    frame = pairs.select("query_id", "query", "item_id", pl.col("grade").cast(pl.Int16), "language").with_columns(
        pl.Series("split", np.where(pairs["query_id"].rle_id() % 2, "dev", "test")),
        *(pl.Series(name, scores) for name, scores in systems.items()),
    )
    found = evaluate(frame, Scale(), systems=list(systems), resamples=0)
    write_evaluation(found, folder / "evaluation")
    frame.write_parquet(folder / "evaluation" / "scores.parquet")
    return folder


def request(run: Path, judgments: Path | None = None, *measures: str, **more: Any) -> Request:
    return Request(run, judgments, measures, settings=more.pop("settings", QUICK), **more)


def test_a_run_measures_as_ir_measures_says(files: Path) -> None:
    import ir_measures

    names = ["nDCG@10", "P(rel=3)@8", "AP(rel=3)", "RR(rel=2)"]
    theirs = ir_measures.calc_aggregate(
        [ir_measures.parse_measure(name) for name in names],
        ir_measures.read_trec_qrels(str(files / "qrels.txt")),
        ir_measures.read_trec_run(str(files / "good.run")),
    )
    found = measure_runs(
        request(files / "good.run", files / "qrels.txt", *names, settings=Settings(resamples=0, undefined_as_zero=True))
    )
    for measure, value in theirs.items():
        assert found["systems"]["good"][str(measure)] == pytest.approx(value, abs=1e-9)


def test_every_form_of_the_same_judgments_and_scores_measures_the_same(files: Path, pairs: pl.DataFrame) -> None:
    table = pairs.select("query", "item_id", pl.col("good").alias("score"))
    table.write_csv(files / "good.csv")
    table.write_ndjson(files / "good.jsonl")
    table.join(pairs.select("query", "query_id").unique(), on="query").drop("query").write_parquet(
        files / "byid.parquet"
    )
    pairs.select("query", "item_id", "grade").write_csv(files / "judgments.csv")
    expected = measure_runs(request(files / "good.run", files / "qrels.txt", "nDCG@5", "AUROC@4"))["systems"]["good"]
    for run, judgments in (
        ("good.csv", "judgments.parquet"),
        ("good.jsonl", "judgments.csv"),
        ("byid.parquet", "qrels.txt"),
        ("good.run", "judgments.parquet"),
    ):
        found = measure_runs(request(files / run, files / judgments, "nDCG@5", "AUROC@4"))
        (values,) = found["systems"].values()
        assert values == pytest.approx(expected)


def test_probabilities_give_the_measures_of_grades(files: Path) -> None:
    found = measure_runs(request(files / "good.parquet", files / "judgments.parquet"))
    assert found["measures"][-3:] == ["Accuracy", "QWK", "ECE"]
    assert found["systems"]["good"]["QWK"] > 0.5
    assert found["lower_is_better"] == ["ECE"]


def test_wands_labels_are_judgments(tmp_path: Path) -> None:
    (tmp_path / "query.csv").write_text("query_id\tquery\tquery_class\n0\tbed\tBeds\n")
    (tmp_path / "label.csv").write_text(
        "id\tquery_id\tproduct_id\tlabel\n0\t0\t7\tPartial\n1\t0\t8\tExact\n2\t0\t9\tIrrelevant\n3\t0\t5\tHm\n"
    )
    (tmp_path / "x.run").write_text("0 Q0 8 1 2 t\n0 Q0 9 2 1 t\n0 Q0 7 3 .5 t\n")
    for where in (tmp_path, tmp_path / "label.csv"):
        found = measure_runs(request(tmp_path / "x.run", where, "nDCG@3", "P(rel=2)@1"))
        assert found["judgments"]["n_grades"] == 3
        assert found["systems"]["x"]["P(rel=2)@1"] == 1
        assert found["systems"]["x"]["nDCG@3"] == pytest.approx((2 + 1 / 2) / (2 + 1 / np.log2(3)))
        assert any("1 labels left out" in note for note in found["notes"])


def test_a_better_run_is_told_with_its_p_value_and_what_could_be_found(files: Path, pairs: pl.DataFrame) -> None:
    found = measure_runs(
        request(files / "good.run", files / "qrels.txt", "P(rel=3)@3", against=(str(files / "bad.run"),))
    )
    paired = found["differences"]["bad"]["P(rel=3)@3"]
    by_query = []
    for name in ("good", "bad"):
        top = pairs.sort("query_id", name, descending=[False, True]).group_by("query_id", maintain_order=True).head(3)
        by_query.append(
            top.group_by("query_id", maintain_order=True).agg((pl.col("grade") >= 3).sum() / 3)["grade"].to_numpy()
        )
    assert paired["t_p_value"] == pytest.approx(stats.ttest_rel(*by_query).pvalue, rel=1e-6)
    assert paired["difference"] == pytest.approx((by_query[0] - by_query[1]).mean())
    assert 0 < paired["p_value"] < 0.01
    assert paired["interval"][0] > 0
    assert 0 < paired["detectable"] < 0.3
    assert "bad" in found["systems"]


def test_p_values_are_corrected_over_runs_and_slices(files: Path) -> None:
    asked = request(
        files / "good.run",
        files / "judgments.parquet",
        "nDCG@5",
        against=(str(files / "bad.run"),),
        slices=("language",),
    )
    plain = measure_runs(replace(asked, correction="none"))
    holm = measure_runs(asked)
    raw = [plain["differences"]["bad"]["nDCG@5"]] + [
        part["differences"]["bad"]["nDCG@5"] for part in plain["slices"]["language"].values()
    ]
    assert len(raw) == 3
    assert all(each["p_adjusted"] == each["p_value"] for each in raw)
    smallest = min(each["p_value"] for each in raw)
    assert holm["differences"]["bad"]["nDCG@5"]["p_adjusted"] >= 3 * smallest - 1e-12


def test_slices_measure_their_own_queries(files: Path, pairs: pl.DataFrame) -> None:
    found = measure_runs(
        request(files / "good.run", files / "judgments.parquet", "nDCG@5", "AUROC@4", slices=("language",))
    )
    german = pairs.filter(pl.col("language") == "de")
    write_qrels(german, files / "german.txt")
    alone = measure_runs(request(files / "good.run", files / "german.txt", "nDCG@5", "AUROC@4", grades=5))
    part = found["slices"]["language"]["de"]
    assert part["systems"] == alone["systems"]
    assert part["n_pairs"] == german.height
    only = measure_runs(request(files / "good.run", files / "judgments.parquet", "nDCG@5", slices=("language=de",)))
    assert list(only["slices"]["language"]) == ["de"]


def test_a_slice_by_grade_has_what_one_grade_can_tell(files: Path) -> None:
    found = measure_runs(
        request(files / "good.parquet", files / "judgments.parquet", "Accuracy", "AUROC@4", slices=("grade",))
    )
    part = found["slices"]["grade"]["L5"]
    assert part["systems"]["good"]["Accuracy"] > 0.3
    assert part["systems"]["good"]["AUROC@4"] is None


def test_a_small_slice_says_so_and_has_no_interval_or_test(files: Path, pairs: pl.DataFrame) -> None:
    rare = pairs.with_columns(language=pl.when(pl.col("query_id") < "q05").then(pl.lit("ja")).otherwise("language"))
    rare.select("query_id", "query", "item_id", "grade", "language").write_parquet(files / "judgments.parquet")
    found = measure_runs(
        request(
            files / "good.run",
            files / "judgments.parquet",
            "nDCG@5",
            against=(str(files / "bad.run"),),
            slices=("language",),
        )
    )
    part = found["slices"]["language"]["ja"]
    assert part["small"]
    assert part["note"] == "too small: 5 queries, 20 are needed for an interval"
    assert part["intervals"]["good"]["nDCG@5"] is None
    assert part["differences"]["bad"]["nDCG@5"]["p_value"] is None
    assert part["systems"]["good"]["nDCG@5"] is not None


def test_analytic_intervals_lie_near_the_bootstraps(files: Path) -> None:
    both = [
        measure_runs(request(files / "good.run", files / "qrels.txt", "AUROC@4", settings=Settings(method, 600)))
        for method in ("bootstrap", "analytic")
    ]
    one, other = (found["intervals"]["good"]["AUROC@4"] for found in both)
    assert one == pytest.approx(other, abs=0.012)


# The gate.


def gate(files: Path, run: str, baseline: str, *checks: str, **more: Any) -> dict[str, Any]:
    asked = request(
        files / run, files / "judgments.parquet", against=(str(files / baseline),), fail_below=checks, **more
    )
    found = measure_runs(asked)["gate"]
    assert isinstance(found, dict)
    return found


def test_the_gate_fails_a_worse_run_and_passes_a_better_one(files: Path) -> None:
    assert gate(files, "good.run", "bad.run", "nDCG@10", "AUROC@4")["passed"]
    failed = gate(files, "bad.run", "good.run", "nDCG@10", "AUROC@4")
    assert not failed["passed"]
    assert [each["worse"] for each in failed["checks"]] == [True, True]
    assert failed["checks"][0]["difference"] < 0
    assert gate(files, "good.run", "good.run", "nDCG@10")["passed"]


def test_a_margin_is_allowed(files: Path) -> None:
    drop = gate(files, "bad.run", "good.run", "nDCG@10")["checks"][0]["difference"]
    assert not gate(files, "bad.run", "good.run", f"nDCG@10={-drop / 2:.4f}")["passed"]
    assert gate(files, "bad.run", "good.run", f"nDCG@10={-drop * 1.01:.4f}")["passed"]


def test_a_loss_that_rises_is_worse(files: Path, pairs: pl.DataFrame) -> None:
    flat = pairs.with_columns([pl.lit(0.2).alias(name) for name in PROBABILITIES])
    flat.select("query", "item_id", *PROBABILITIES).write_parquet(files / "flat.parquet")
    assert not gate(files, "flat.parquet", "good.parquet", "LogLoss")["passed"]
    assert gate(files, "good.parquet", "flat.parquet", "LogLoss")["passed"]


def test_a_run_that_is_worse_in_one_slice_fails_there_alone(files: Path, pairs: pl.DataFrame) -> None:
    broken = pl.when(pl.col("language") == "de").then(-pl.col("good")).otherwise(pl.col("good") + 0.5 * pl.col("grade"))
    write_trec_run(pairs.select("query_id", "item_id", broken.alias("score")), files / "broken.run", "x")
    # A model much worse for one language in three, a little better elsewhere.
    assert not gate(files, "broken.run", "good.run", "PairAccuracy", slices=("language",))["passed"]
    found = gate(files, "broken.run", "good.run", "PairAccuracy=0.3", slices=("language",))
    assert {each["part"]: each["worse"] for each in found["checks"]} == {
        "overall": False, "language=de": True, "language=en": False,
    }  # fmt: skip


def test_a_small_or_undefined_part_is_a_marked_gap_and_no_failure(files: Path, pairs: pl.DataFrame) -> None:
    rare = pairs.with_columns(language=pl.when(pl.col("query_id") < "q05").then(pl.lit("ja")).otherwise("language"))
    rare.select("query_id", "query", "item_id", "grade", "language").write_parquet(files / "judgments.parquet")
    found = gate(files, "good.run", "bad.run", "nDCG@5", slices=("language",))
    part = next(each for each in found["checks"] if each["part"] == "language=ja")
    assert part["gap"].startswith("too small: 5 queries")
    assert (part["p_value"], part["worse"]) == (None, False)


def test_a_gate_that_cannot_be_judged_does_not_pass(files: Path, pairs: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="slice language=xx: no judged pair is in it; language is one of de, en"):
        gate(files, "good.run", "bad.run", "nDCG@5", slices=("language=xx",))
    with pytest.raises(DataError, match="gate: expected a baseline"):
        measure_runs(request(files / "good.run", files / "qrels.txt", fail_below=("nDCG@5",)))
    lowest = pairs.filter(pl.col("grade") == 0)
    write_qrels(lowest, files / "lowest.txt")
    asked = request(files / "good.run", files / "lowest.txt", against=(str(files / "bad.run"),), fail_below=("nDCG@5",))
    with pytest.raises(
        DataError, match=r"gate: nDCG@5 against bad cannot be judged: nDCG@5 is undefined on these pairs"
    ):
        measure_runs(replace(asked, grades=5))
    for text, message in (("nDCG@5=much", "a number, found 'much'"), ("nDCG@5=-1", "margin must be at least 0")):
        with pytest.raises(DataError, match=message):
            gate(files, "good.run", "bad.run", text)


# Run folders, and what may be wrong with them.


def test_run_folders_are_compared_on_the_test_pairs_of_the_first(tmp_path: Path, pairs: pl.DataFrame) -> None:
    new = run_folder(tmp_path / "new", pairs, student=pairs["good"], bm25=pairs["bad"])
    old = run_folder(tmp_path / "old", pairs, student=pairs["bad"])
    found = measure_runs(request(new, None, "AUROC@4", against=(str(old), "bm25")))
    assert list(found["systems"]) == ["new/student", "old/student", "new/bm25"]
    assert found["systems"]["old/student"] == found["systems"]["new/bm25"]
    assert found["judgments"]["n_queries"] == 30
    own = orjson.loads((new / "evaluation" / "metrics.json").read_bytes())["systems"]
    assert found["systems"]["new/student"]["AUROC@4"] == own["student"]["auroc_4+"]
    other = measure_runs(request(new, None, "AUROC@4", system="bm25"))
    assert list(other["systems"]) == ["new/bm25"]


def test_a_missing_system_is_one_clear_line(tmp_path: Path, pairs: pl.DataFrame) -> None:
    folder = run_folder(tmp_path / "run", pairs, bm25=pairs["bad"])
    with pytest.raises(DataError, match=r"scores.parquet: no system student; found bm25"):
        measure_runs(request(folder, None, "AUROC@4"))
    with pytest.raises(DataError, match="teacher: no such file"):
        measure_runs(request(folder, None, "AUROC@4", system="bm25", against=("teacher",)))


def test_a_run_folder_without_test_pairs_or_with_a_pair_twice_is_one_clear_line(
    tmp_path: Path, pairs: pl.DataFrame
) -> None:
    folder = run_folder(tmp_path / "run", pairs, student=pairs["good"])
    file = folder / "evaluation" / "scores.parquet"
    frame = pl.read_parquet(file)
    frame.filter(pl.col("split") == "dev").write_parquet(file)
    with pytest.raises(DataError, match="expected judgments, of a run those of the test split, found none"):
        measure_runs(request(folder, None, "AUROC@4"))
    test = frame.filter(pl.col("split") == "test")
    pl.concat([test, test.head(1)]).write_parquet(file)
    with pytest.raises(DataError, match="item i0 of query q00: the pair is judged more than once"):
        measure_runs(request(folder, None, "AUROC@4"))


def test_the_scale_of_a_run_folder_is_that_of_its_evaluation(tmp_path: Path, pairs: pl.DataFrame) -> None:
    low = pairs.filter(pl.col("grade") < 3)
    folder = run_folder(tmp_path / "run", low, student=low["good"])
    found = measure_runs(request(folder, None, "AUROC@3", "AUROC@5"))
    assert found["judgments"]["n_grades"] == 5
    assert found["systems"]["run/student"]["AUROC@5"] is None


def test_nan_scores_are_one_clear_line_that_names_the_first(tmp_path: Path, pairs: pl.DataFrame) -> None:
    folder = run_folder(tmp_path / "run", pairs, student=pairs["good"])
    file = folder / "evaluation" / "scores.parquet"
    frame = pl.read_parquet(file)
    item = frame.filter(pl.col("split") == "test")["item_id"][3]
    holed = frame.with_columns(student=pl.when(pl.col("item_id") == item).then(float("nan")).otherwise("student"))
    holed.write_parquet(file)
    with pytest.raises(
        DataError, match=rf"query q00, item {item}: score must be a finite number, got nan \(1 such rows\)"
    ):
        measure_runs(request(folder, None, "AUROC@4"))
    holed.with_columns(pl.col("student").fill_nan(None)).write_parquet(file)
    with pytest.raises(DataError, match="score must be a finite number, got missing"):
        measure_runs(request(folder, None, "AUROC@4"))
    (tmp_path / "nan.run").write_text("q00 Q0 i0 1 nan t\n")
    write_qrels(pairs, tmp_path / "qrels.txt")
    with pytest.raises(DataError, match=r"nan\.run: query q00, item i0: score must be a finite number, got nan"):
        measure_runs(request(tmp_path / "nan.run", tmp_path / "qrels.txt", "nDCG@5"))


def test_all_equal_scores_are_chance_and_told(files: Path, pairs: pl.DataFrame) -> None:
    write_trec_run(pairs.select("query_id", "item_id", pl.lit(1.0).alias("score")), files / "flat.run", "x")
    found = measure_runs(request(files / "flat.run", files / "qrels.txt", "AUROC@4", "PairAccuracy"))
    assert found["systems"]["flat"] == {"AUROC@4": 0.5, "PairAccuracy": 0.5}
    assert any("flat: all scores are equal" in note for note in found["notes"])


def test_one_query_has_figures_but_no_interval_or_test(files: Path, pairs: pl.DataFrame) -> None:
    write_qrels(pairs.filter(pl.col("query_id") == "q01"), files / "one.txt")
    found = measure_runs(
        request(files / "good.run", files / "one.txt", "nDCG@5", against=(str(files / "bad.run"),), grades=5)
    )
    assert found["systems"]["good"]["nDCG@5"] is not None
    assert found["intervals"]["good"]["nDCG@5"] is None
    assert found["differences"]["bad"]["nDCG@5"]["p_value"] is None
    assert any("only 1 query" in note for note in found["notes"])


def test_an_undefined_figure_is_null_and_told(files: Path, pairs: pl.DataFrame) -> None:
    write_qrels(pairs.filter(pl.col("grade") < 2), files / "low.txt")
    found = measure_runs(request(files / "good.run", files / "low.txt", "AUROC@4", "AUROC@2", grades=5))
    assert found["systems"]["good"]["AUROC@4"] is None
    assert found["intervals"]["good"]["AUROC@4"] is None
    assert "good: AUROC@4 undefined on these pairs" in found["notes"]


def test_what_a_run_lacks_is_counted_and_ranks_below_what_it_has(files: Path, pairs: pl.DataFrame) -> None:
    kept = pairs.filter((pl.col("grade") > 0) & (pl.col("query_id") != "q07"))
    write_trec_run(kept.select("query_id", "item_id", pl.col("good").alias("score")), files / "part.run", "x")
    found = measure_runs(request(files / "part.run", files / "qrels.txt", "nDCG@5", "AUROC@2", "R(rel=1)@99"))
    missing = pairs.height - kept.height
    assert any(
        note.startswith(f"part: {missing} of {pairs.height} judged pairs are not in it, 1 queries")
        for note in found["notes"]
    )
    lost = pairs.filter((pl.col("query_id") == "q07") & (pl.col("grade") > 0)).height
    n_above, n_low = (pairs["grade"] > 0).sum(), (pairs["grade"] == 0).sum()
    # Every grade above 0 outranks the missing, but for those of the missing query, which tie with them.
    assert found["systems"]["part"]["AUROC@2"] == pytest.approx(1 - 0.5 * lost * n_low / (n_above * n_low))
    assert found["systems"]["part"]["R@99"] == pytest.approx(59 / 60)


def test_what_is_not_judged_is_counted_and_can_be_left_out(files: Path, pairs: pl.DataFrame) -> None:
    extra = pairs.select(
        "query_id", pl.concat_str(pl.lit("u"), "item_id").alias("item_id"), (pl.col("good") + 9).alias("score")
    )
    run = pl.concat([pairs.select("query_id", "item_id", pl.col("good").alias("score")), extra])
    write_trec_run(run, files / "long.run", "x")
    asked = request(files / "long.run", files / "qrels.txt", "P(rel=3)@3", "Judged@3")
    found = measure_runs(asked)
    assert found["systems"]["long"] == {"P(rel=3)@3": 0.0, "Judged@3": 0.0}
    assert any(f"{extra.height} of its {run.height} items" in note for note in found["notes"])
    condensed = measure_runs(replace(asked, judged_only=True))
    alone = measure_runs(request(files / "good.run", files / "qrels.txt", "P(rel=3)@3"))
    assert condensed["systems"]["long"]["P(judged_only=True,rel=3)@3"] == alone["systems"]["good"]["P(rel=3)@3"]


def test_grades_below_0_are_the_lowest_and_told(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a -2\nq 0 b 1\n")
    (tmp_path / "x.run").write_text("q Q0 a 1 2 t\nq Q0 b 2 1 t\n")
    found = measure_runs(request(tmp_path / "x.run", tmp_path / "qrels", "nDCG@5"))
    assert found["systems"]["x"]["nDCG@5"] == pytest.approx(1 / np.log2(3))
    assert any("1 grades below 0" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("run", "judgments", "message"),
    [
        ("good.run", "nowhere.txt", "nowhere.txt: no such file"),
        ("nowhere.run", "qrels.txt", "nowhere.run: no such file"),
        ("good.run", None, "good.run: expected judgments after it, for it is not a run folder"),
        ("other.run", "qrels.txt", "other.run: no query of .*qrels.txt is in it"),
        ("nothing.csv", "qrels.txt", "nothing.csv: expected a column score, or p_1..p_n, found query, item_id"),
        ("words.csv", "qrels.txt", "words.csv:2: score must be a number, got 'high'"),
        (
            "bytext.csv",
            "qrels.txt",
            "bytext.csv: expected a column query_id to find the judgments of .*qrels.txt, found none",
        ),
        ("three.csv", "judgments.parquet", "three.csv: expected p_1..p_5 for 5 grades, found p_1, p_2, p_3"),
        ("good.run", "half.csv", r"half.csv: grade must be a whole number, got 0.5 \(1 such rows\)"),
        ("good.run", "nograde.csv", "nograde.csv: expected a column grade, found query, item_id"),
        ("good.run", "twice.csv", "twice.csv: item a of query x: the pair is judged more than once"),
        ("good.run", "empty", "expected a run folder, a data folder or WANDS, found no dataset.json"),
    ],
)
def test_wrong_input_is_one_clear_line(files: Path, run: str, judgments: str | None, message: str) -> None:
    (files / "other.run").write_text("x Q0 a 1 1 t\n")
    (files / "empty").mkdir()
    for name, text in (
        ("nothing.csv", "query,item_id\nx,a\n"),
        ("words.csv", "query,item_id,score\nx,a,high\n"),
        ("bytext.csv", "query,item_id,score\nx,a,1\n"),
        ("three.csv", "query,item_id,p_1,p_2,p_3\nquery 1,i9,.2,.3,.5\n"),
        ("half.csv", "query,item_id,grade\nx,a,0.5\n"),
        ("nograde.csv", "query,item_id\nx,a\n"),
        ("twice.csv", "query,item_id,grade\nx,a,1\nx,a,2\n"),
    ):
        (files / name).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        measure_runs(request(files / run, None if judgments is None else files / judgments))
    assert "\n" not in str(error.value)


def test_a_run_folder_is_written_as_trec_files_that_measure_the_same(tmp_path: Path, pairs: pl.DataFrame) -> None:
    folder = run_folder(tmp_path / "run", pairs, student=pairs["good"], bm25=pairs["bad"])
    asked = request(folder, None, "nDCG@5", "AUROC@4", against=("bm25",))
    written = write_trec(asked, tmp_path / "trec")
    assert list(written) == ["qrels.txt", "run-student.run", "run-bm25.run"]
    again = measure_runs(
        request(tmp_path / "trec" / "run-student.run", tmp_path / "trec" / "qrels.txt", "nDCG@5", "AUROC@4")
    )
    assert again["systems"]["run-student"] == pytest.approx(measure_runs(asked)["systems"]["run/student"])


# The command.

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs `pertinent evaluate ...`; returns its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pertinent", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, error = capfdbinary.readouterr()
        assert b"Traceback" not in error
        return int(exit_.value.code or 0), out.decode(), error.decode()

    return call


def test_the_command_of_the_docs_prints_one_table_with_marks_and_json(files: Path, command: Command) -> None:
    code, out, error = command(
        files / "good.run", files / "qrels.txt", "nDCG@20", 'nDCG(dcg="exp-log2")@20', "P(rel=3)@8", "AUROC@4",
        "--against", files / "bad.run", "--resamples", 100, "--json",
    )  # fmt: skip
    assert code == 0
    found = orjson.loads(out)
    assert found["measures"] == ["nDCG@20", "nDCG(dcg='exp-log2')@20", "P(rel=3)@8", "AUROC@4"]
    lines = {line.split("│")[1].strip(): line for line in error.splitlines() if "│" in line}
    assert lines["AUROC@4"].count("▼") == 1
    assert "better, ▼ worse than good" in error


def test_the_gate_is_the_exit_code(files: Path, command: Command) -> None:
    gated = ("--against", files / "good.run", "--fail-below", "nDCG@10=0.01", "--resamples", 0)
    code, out, error = command(files / "bad.run", files / "qrels.txt", *gated)
    assert code == 1
    assert "gate: WORSE: nDCG@10 against good, overall" in error
    assert "gate: FAILED, 1 checks" in error
    assert orjson.loads(out)["gate"]["passed"] is False
    code, _, error = command(files / "good.run", files / "qrels.txt", *gated)
    assert (code, "gate: passed, 1 checks" in error) == (0, True)
    code, _, error = command(files / "bad.run", files / "qrels.txt", *gated, "--slice", "language")
    assert (code, error.strip().splitlines()[-1]) == (
        2,
        "pertinent: slice column language: no such column; found query_id, item_id, grade",
    )


def test_measures_alone_are_of_a_run_folder(tmp_path: Path, pairs: pl.DataFrame, command: Command) -> None:
    folder = run_folder(tmp_path / "run", pairs, student=pairs["good"])
    code, out, _ = command(folder, "AUROC@4", "PairAccuracy", "--resamples", 0)
    assert code == 0
    assert list(orjson.loads(out)["systems"]["run/student"]) == ["AUROC@4", "PairAccuracy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nDGC@20"], "nDGC@20: no such file, and measure nDGC@20: unknown name nDGC; did you mean nDCG?"),
        (["qrel.txt", "nDCG@20"], "qrel.txt: no such file"),
    ],
)
def test_a_word_that_is_neither_a_file_nor_a_measure_is_named(
    files: Path, command: Command, words: list[str], message: str
) -> None:
    code, _, error = command(files / "good.run", *words)
    assert (code, error.strip()) == (2, f"pertinent: {message}")
