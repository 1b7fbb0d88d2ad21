"""The whole evaluation of a scores frame: its documents, its nulls and its errors."""

import json
import math

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn_metrics

from pertinent.errors import DataError
from pertinent.evaluation import compare, evaluate, training_prior, with_baselines, write_evaluation
from pertinent.evaluation.measures import stage_measures
from pertinent.types import Scale

SYSTEMS = ["random", "majority", "bm25", "teacher"]
N = 5


def scores_frame(n_queries: int = 60, seed: int = 0, n_grades: int = N) -> pl.DataFrame:
    """Judged pairs with `bm25`, a score that follows the grade a little, and `teacher`, probabilities that do so well."""
    generator = np.random.default_rng(seed)
    queries = np.repeat(np.arange(n_queries), generator.integers(5, 14, n_queries))
    grades = generator.integers(0, n_grades, queries.size)
    logits = generator.normal(size=(queries.size, n_grades)) + 2 * np.eye(n_grades)[grades]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pl.DataFrame(
        {
            "query_id": [f"q{q:03d}" for q in queries],
            "query": ["red shoe" if q % 2 else "lamp" for q in queries],
            "item_id": [f"i{i}" for i in range(queries.size)],
            "grade": grades.astype(np.int16),
            "language": ["en" if q % 6 else "de" for q in queries],
            "split": np.where(queries % 3 == 0, "dev", "test"),
            "bm25": np.round(grades + 3 * generator.normal(size=queries.size), 1),
            "teacher": probs @ (2.0 ** np.arange(n_grades) - 1),
            **{f"teacher.p_{k + 1}": probs[:, k].astype(np.float32) for k in range(n_grades)},
        }
    )
    return with_baselines(frame, training_prior(np.arange(n_grades).repeat(2), n_grades), Scale.of_size(n_grades))


def run(frame: pl.DataFrame, **changes):
    options = {"systems": SYSTEMS, "resamples": 100} | changes
    return evaluate(frame, options.pop("scale", Scale()), **options)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return scores_frame()


@pytest.fixture(scope="module")
def found(frame):
    return run(frame)


def assert_plain(document) -> None:
    """Only what JSON knows, and no NaN."""
    if isinstance(document, dict):
        for key, value in document.items():
            assert isinstance(key, str)
            assert_plain(value)
    elif isinstance(document, list | tuple):
        for value in document:
            assert_plain(value)
    else:
        assert document is None or type(document) in (str, bool, int, float)
        assert not isinstance(document, float) or math.isfinite(document)


def test_the_document_has_every_metric_of_every_system(found) -> None:
    names = set(stage_measures(N))
    assert len(names) == 27
    assert found.metrics["system_order"] == SYSTEMS
    for part in [found.metrics, *found.metrics["slices"]["language"].values()]:
        assert list(part["systems"]) == SYSTEMS
        for system in SYSTEMS:
            assert set(part["systems"][system]) == names | {"n_pairs", "n_queries"}
            assert set(part["intervals"][system]) == names
    assert_plain(found.metrics)
    assert_plain(found.reliability)
    assert_plain(found.confusion)


def test_overall_figures_match_scikit_learn(frame, found) -> None:
    test = frame.filter(pl.col("split") == "test")
    grades = test["grade"].to_numpy()
    probs = test.select(f"teacher.p_{k}" for k in range(1, 6)).to_numpy().astype(np.float64)
    teacher, bm25 = found.metrics["systems"]["teacher"], found.metrics["systems"]["bm25"]
    for k in range(1, 5):
        expected = sklearn_metrics.roc_auc_score(grades >= k, probs[:, k:].sum(axis=1))
        assert teacher[f"auroc_{k + 1}+"] == pytest.approx(expected, abs=1e-9)
        assert bm25[f"auroc_{k + 1}+"] == pytest.approx(sklearn_metrics.roc_auc_score(grades >= k, test["bm25"]))
    predicted = probs.argmax(axis=1)
    assert teacher["accuracy"] == pytest.approx((predicted == grades).mean())
    assert teacher["within_1"] == pytest.approx((abs(predicted - grades) <= 1).mean())
    assert teacher["qwk"] == pytest.approx(sklearn_metrics.cohen_kappa_score(predicted, grades, weights="quadratic"))
    assert found.reliability["teacher"]["log_loss"] == pytest.approx(
        sklearn_metrics.log_loss(grades, probs / probs.sum(axis=1, keepdims=True)), abs=1e-6
    )
    assert found.confusion["teacher"]["counts"] == sklearn_metrics.confusion_matrix(grades, predicted).tolist()
    assert teacher["n_pairs"] == test.height == found.metrics["counts"]["n_pairs"]


def test_systems_come_out_in_the_order_of_what_they_know(found) -> None:
    systems = found.metrics["systems"]
    for metric in ("auroc_4+", "pair_accuracy", "ndcg@10", "sdcg@20", "precision@8", "accuracy", "qwk"):
        assert systems["teacher"][metric] > systems["bm25"][metric] > systems["random"][metric] - 0.03, metric


def test_baselines_without_knowledge_have_their_known_figures(frame, found) -> None:
    grades = frame.filter(pl.col("split") == "test")["grade"]
    majority, random = found.metrics["systems"]["majority"], found.metrics["systems"]["random"]
    assert majority["accuracy"] == pytest.approx((grades == 0).mean())  # of equal shares the lower grade
    assert majority["pair_accuracy"] == majority["auroc_4+"] == random["auroc_4+"] == 0.5
    assert majority["qwk"] == pytest.approx(0.0)
    assert majority["ece"] == pytest.approx(abs(0.2 - majority["accuracy"]), abs=1e-6)
    assert random["accuracy"] == pytest.approx(0.2, abs=0.06)  # not the majority's: its grade is the draw
    assert "majority: all test scores are equal, so its ranking figures are those of chance" in found.metrics["notes"]


def test_intervals_hold_the_value_and_a_seed_repeats_them(frame, found) -> None:
    for system in SYSTEMS:
        for metric, interval in found.metrics["intervals"][system].items():
            if metric != "ece":
                assert interval[0] <= found.metrics["systems"][system][metric] <= interval[1]
    low, high = found.metrics["intervals"]["teacher"]["ndcg@10"]
    assert 0 < high - low < 0.2
    assert run(frame).metrics == found.metrics
    assert run(frame, seed=1).metrics["intervals"] != found.metrics["intervals"]


def test_the_order_of_rows_does_not_count(frame, found) -> None:
    shuffled = run(frame.sample(fraction=1.0, shuffle=True, seed=4))
    assert shuffled.metrics == found.metrics
    assert shuffled.reliability == found.reliability


def test_slices_are_the_evaluation_of_their_rows(frame, found) -> None:
    slices = found.metrics["slices"]
    assert set(slices) == {"language", "query_words"}
    assert set(slices["query_words"]) == {"1", "2"}
    alone = run(frame.filter((pl.col("split") == "dev") | (pl.col("query") == "lamp")), slice_columns=())
    assert alone.metrics["systems"] == slices["query_words"]["1"]["systems"]
    assert alone.metrics["intervals"] == slices["query_words"]["1"]["intervals"]
    assert sum(part["n_pairs"] for part in slices["language"].values()) == found.metrics["counts"]["n_pairs"]


def test_a_slice_of_few_queries_is_marked_small_and_has_no_interval(frame) -> None:
    queries = frame.with_columns(
        language=pl.when(pl.col("query_id") < "q020").then(pl.lit("de")).otherwise(pl.lit("en"))
    )
    slices = run(queries).metrics["slices"]["language"]
    assert slices["de"]["n_queries"] == 13
    assert slices["de"]["small"]
    assert set(slices["de"]["intervals"]["teacher"].values()) == {None}
    assert slices["de"]["systems"]["teacher"]["ndcg@10"] > 0.5
    assert not slices["en"]["small"]
    assert slices["en"]["intervals"]["teacher"]["ndcg@10"] is not None


def test_grades_of_a_system_without_probabilities_come_from_dev(frame, found) -> None:
    # With test grades known, the map would do better: so it must not see them. Changing test changes no map.
    changed = frame.with_columns(grade=pl.when(pl.col("split") == "test").then(4 - pl.col("grade")).otherwise("grade"))
    again = run(changed.cast({"grade": pl.Int16}))
    assert again.reliability["bm25"]["map"] == found.reliability["bm25"]["map"]
    assert found.reliability["teacher"]["map"] is None
    assert not found.reliability["bm25"]["own_probabilities"]


def test_without_dev_rows_a_score_has_no_grades_and_a_note(frame) -> None:
    only_test = run(frame.filter(pl.col("split") == "test"), slice_columns=())
    bm25 = only_test.metrics["systems"]["bm25"]
    assert [bm25[name] for name in ("accuracy", "qwk", "within_1", "ece")] == [None] * 4
    assert only_test.metrics["intervals"]["bm25"]["qwk"] is None
    assert bm25["auroc_4+"] is not None
    assert any(note.startswith("bm25: no dev rows") for note in only_test.metrics["notes"])
    assert "bm25" not in only_test.reliability
    assert only_test.metrics["systems"]["teacher"]["qwk"] is not None


def test_all_equal_dev_scores_predict_the_commonest_dev_grade(frame) -> None:
    flat = run(frame.with_columns(bm25=pl.lit(1.0)), slice_columns=())
    dev = frame.filter(pl.col("split") == "dev")["grade"]
    commonest = int(np.bincount(dev).argmax())
    counts = np.array(flat.confusion["bm25"]["counts"])
    assert counts[:, commonest].sum() == counts.sum()
    assert flat.metrics["systems"]["bm25"]["pair_accuracy"] == 0.5
    assert any(note.startswith("bm25: all dev scores are equal") for note in flat.metrics["notes"])


def test_one_query_has_figures_but_no_intervals(frame) -> None:
    one = run(frame.filter((pl.col("split") == "dev") | (pl.col("query_id") == "q001")))
    assert one.metrics["systems"]["teacher"]["ndcg@10"] is not None
    assert set(one.metrics["intervals"]["teacher"].values()) == {None}
    assert "intervals: null, there is only one test query" in one.metrics["notes"]
    assert_plain(one.metrics)


def test_one_grade_alone_leaves_order_undefined_and_says_so(frame) -> None:
    lowest = run(frame.filter((pl.col("split") == "dev") | (pl.col("grade") == 0)), slice_columns=())
    teacher = lowest.metrics["systems"]["teacher"]
    undefined = ["auroc_2+", "auroc_5+", "pair_accuracy", "ndcg@10", "ndcg@20"]
    assert [teacher[name] for name in undefined] == [None] * 5
    assert teacher["sdcg@20"] == 0
    notes = " ".join(lowest.metrics["notes"])
    assert all(name in notes for name in ("auroc_2+: null", "pair_accuracy: null", "ndcg: null"))
    assert_plain(lowest.metrics)


@pytest.mark.parametrize("n_grades", [2, 3, 7])
def test_every_figure_follows_the_scale(n_grades) -> None:
    result = run(scores_frame(n_queries=30, n_grades=n_grades), scale=Scale.of_size(n_grades), resamples=20)
    teacher = result.metrics["systems"]["teacher"]
    assert [name for name in teacher if name.startswith("auroc")] == [f"auroc_{k}+" for k in range(2, n_grades + 1)]
    assert teacher["qwk"] > 0
    assert result.confusion["teacher"]["labels"][-1] == f"L{n_grades}"
    assert_plain(result.metrics)


def test_no_resamples_leave_the_intervals_null(frame) -> None:
    quick = run(frame, resamples=0)
    assert quick.metrics["systems"]["teacher"]["ndcg@10"] is not None
    assert set(quick.metrics["intervals"]["teacher"].values()) == {None}


def test_counts_match_the_frame(frame, found) -> None:
    test = frame.filter(pl.col("split") == "test")
    sizes = test.group_by("query_id").len()["len"]
    counts = found.metrics["counts"]
    assert counts["n_queries_of_8_judgments"] == (sizes >= 8).sum()
    assert counts["n_pairs_L5"] == (test["grade"] == 4).sum()
    assert counts["n_dev_queries"] == 20
    no_gain = test.group_by("query_id").agg(pl.col("grade").max() == 0)["grade"].sum()
    assert counts["n_queries_without_gain"] == no_gain


def test_compare_is_the_difference_on_the_same_resamples(frame, found) -> None:
    gap = compare(frame, Scale(), "teacher", "bm25", "ndcg@10", resamples=100)
    systems = found.metrics["systems"]
    assert gap.difference == pytest.approx(systems["teacher"]["ndcg@10"] - systems["bm25"]["ndcg@10"])
    assert gap.interval[0] < gap.difference < gap.interval[1]
    assert gap.share_not_better == 0
    with pytest.raises(DataError, match=r"expected a metric both have, of accuracy, .* found mrr"):
        compare(frame, Scale(), "teacher", "bm25", "mrr")


def test_written_documents_are_the_evaluation(found, tmp_path) -> None:
    write_evaluation(found, tmp_path / "evaluation")
    for name in ("metrics", "reliability", "confusion"):
        text = (tmp_path / "evaluation" / f"{name}.json").read_text()
        assert "NaN" not in text
        assert json.loads(text) == json.loads(json.dumps(getattr(found, name)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("grade", "split"), "scores: expected the columns grade, split; found query_id"),
        (lambda f: f.drop("bm25"), "system bm25: expected a column of numbers, found no such column"),
        (lambda f: f.cast({"bm25": pl.String}), "system bm25: expected a column of numbers, found String"),
        (
            lambda f: f.with_columns(bm25=pl.when(pl.col("query_id") == "q001").then(float("nan")).otherwise("bm25")),
            r"system bm25: scores must be finite, found \d+ NaN and 0 infinite",
        ),
        (
            lambda f: f.with_columns(bm25=pl.when(pl.col("query_id") == "q000").then(None).otherwise("bm25")),
            r"system bm25: scores must be finite, found \d+ NaN",  # a null, in dev
        ),
        (lambda f: f.drop("teacher.p_2"), "system teacher: expected 5 columns of probabilities, absent teacher.p_2"),
        (
            lambda f: f.with_columns(pl.col("teacher.p_2") + 0.5),
            r"system teacher: query q001, item i\d+: probabilities must be at least 0 and sum to 1, found \[",
        ),
        (
            lambda f: f.with_columns(pl.lit(9, pl.Int16).alias("random.grade")),
            r"system random: column random.grade must hold whole numbers 0-4",
        ),
        (lambda f: f.with_columns(pl.col("grade") + 1), "scores: grade must be a whole number 0-4, found others"),
        (lambda f: f.cast({"grade": pl.Float64}), "scores: grade must be a whole number 0-4, found others"),
        (lambda f: f.with_columns(grade=pl.lit(None, pl.Int16)), "must not be null"),
        (lambda f: pl.concat([f, f.head(1)]), "scores: query q000, item i0: the pair is repeated"),
        (lambda f: f.filter(pl.col("split") == "dev"), "scores: expected rows of the split test, found none"),
    ],
)
def test_a_wrong_frame_is_refused_in_one_line(frame, change, message) -> None:
    with pytest.raises(DataError, match=message) as error:
        run(change(frame))
    assert "\n" not in str(error.value)


def test_system_names_must_be_distinct(frame) -> None:
    with pytest.raises(DataError, match="expected distinct names, at least one, found"):
        run(frame, systems=["bm25", "bm25"])
    with pytest.raises(DataError, match="expected distinct names, at least one, found"):
        run(frame, systems=[])
