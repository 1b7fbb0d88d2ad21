"""Measures by name: parsing, and ir_measures and pytrec_eval as oracles on random runs with unjudged items."""

import shutil

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pertinent.errors import DataError
from pertinent.evaluation.classification import most_likely
from pertinent.evaluation.measures import KINDS, default_measures, parse_measure, stage_measures, statistic_of
from pertinent.evaluation.metrics import Judgments
from pertinent.evaluation.statistics import value_of
from pertinent.evaluation.systems import Retrieved, Scored, SystemScores

ORACLE = [
    "nDCG@3",
    "nDCG@10",
    "nDCG",
    "nDCG(judged_only=True)@5",
    "P@5",
    "P(rel=3)@8",
    "P(judged_only=True, rel=2)@8",
    "R(rel=2)@7",
    "R(judged_only=True)@5",
    "AP",
    "AP(rel=3)",
    "AP(rel=2)@6",
    "AP(judged_only=True, rel=2)",
    "RR",
    "RR(rel=4)",
    "RR(judged_only=True, rel=3)",
    "Judged@5",
    "Judged@10",
]


def world(seed: int = 0, n_queries: int = 40):
    """qrels and a run of which a third is not judged, a third of the judged not retrieved, and no scores are tied.

    Every query has an item of the top grade, for ours leaves out a query without a relevant item and theirs counts 0.
    """
    generator = np.random.default_rng(seed)
    qrels, run = [], []
    for query in range(n_queries):
        n = int(generator.integers(4, 25))
        grades = generator.integers(0, 5, n)
        grades[0] = 4
        qrels += [(query, f"d{i}", int(grade)) for i, grade in enumerate(grades)]
        documents = [f"d{i}" for i in range(n) if generator.random() < 0.7] + [f"u{i}" for i in range(n // 2)]
        if query == 3:
            documents = []  # a judged query that the run lacks
        scores = generator.permutation(len(documents)) / 7
        run += [(query, document, float(score)) for document, score in zip(documents, scores, strict=True)]
    return qrels, run


def scored_of(qrels, run) -> Scored:
    row_of = {(query, document): row for row, (query, document, _) in enumerate(qrels)}
    judgments = Judgments.of([q for q, _, _ in qrels], [g for _, _, g in qrels], 5)
    retrieved = Retrieved(
        np.array([q for q, _, _ in run]),
        np.array([row_of.get((q, d), -1) for q, d, _ in run]),
        np.array([s for _, _, s in run]),
    )
    scores = np.full(len(qrels), -1.0)
    scores[retrieved.rows[retrieved.rows >= 0]] = retrieved.scores[retrieved.rows >= 0]
    return Scored(judgments, SystemScores("run", scores, None, None, False), retrieved)


def oracle(measure: str, qrels, run) -> float:
    import ir_measures

    theirs = ir_measures.parse_measure(measure)
    judged = [ir_measures.Qrel(str(q), d, g) for q, d, g in qrels]
    found = [ir_measures.ScoredDoc(str(q), d, s) for q, d, s in run]
    return float(ir_measures.calc_aggregate([theirs], judged, found)[theirs])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ORACLE)
def test_a_run_with_unjudged_items_measures_as_ir_measures_says(name, seed) -> None:
    qrels, run = world(seed)
    ours = value_of(statistic_of(parse_measure(name), scored_of(qrels, run)))
    assert ours == pytest.approx(oracle(name, qrels, run), abs=1e-9)


@pytest.mark.skipif(shutil.which("perl") is None, reason="ir_measures computes this gain with a perl script")
def test_exponential_gain_measures_as_ir_measures_says() -> None:
    qrels, run = world(2)
    name = "nDCG(dcg='exp-log2')@10"
    ours = value_of(statistic_of(parse_measure(name), scored_of(qrels, run)))
    assert ours == pytest.approx(oracle(name, qrels, run), abs=2e-5)  # five decimals a query are theirs


@pytest.mark.parametrize("name", ["nDCG@10", "AP(rel=2)", "RR(rel=2)", "R(rel=2)@5"])
def test_queries_without_a_relevant_item_can_count_0_as_in_trec_eval(name) -> None:
    qrels, run = world(4)
    qrels = [(q, d, 0 if q % 3 == 0 else g) for q, d, g in qrels]
    scored, measure = scored_of(qrels, run), parse_measure(name)
    assert value_of(statistic_of(measure, scored, undefined_as_zero=True)) == pytest.approx(oracle(name, qrels, run))
    kept = [row for row in qrels if row[0] % 3], [row for row in run if row[0] % 3]
    renumbered = [[(sorted({q for q, *_ in kept[0]}).index(q), d, x) for q, d, x in rows] for rows in kept]
    assert value_of(statistic_of(measure, scored)) == pytest.approx(oracle(name, *renumbered))


def graded(seed: int = 0, n: int = 400) -> Scored:
    generator = np.random.default_rng(seed)
    queries, grades = generator.integers(0, 30, n), generator.integers(0, 5, n)
    logits = generator.normal(size=(n, 5)) + 1.5 * np.eye(5)[grades]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    system = SystemScores("model", probs @ np.arange(5), probs, most_likely(probs), True)
    return Scored(Judgments.of(queries, grades, 5), system)


def test_measures_of_grades_match_scikit_learn() -> None:
    scored = graded()
    grades, probs, predicted = scored.judgments.grades, scored.probs, scored.predicted
    one_hot = sklearn_metrics.f1_score(grades, predicted, average=None)
    expected = {
        "Accuracy": sklearn_metrics.accuracy_score(grades, predicted),
        "QWK": sklearn_metrics.cohen_kappa_score(grades, predicted, weights="quadratic"),
        "LogLoss": sklearn_metrics.log_loss(grades, probs),
        "Brier": sklearn_metrics.brier_score_loss(grades, probs, scale_by_half=False),
        **{f"F1@{k}": one_hot[k - 1] for k in range(1, 6)},
        **{f"AUROC@{k}": sklearn_metrics.roc_auc_score(grades >= k - 1, probs[:, k - 1 :].sum(1)) for k in range(2, 6)},
        **{
            f"AUPRC@{k}": sklearn_metrics.average_precision_score(grades >= k - 1, probs[:, k - 1 :].sum(1))
            for k in range(2, 6)
        },
        "Within1": (np.abs(grades - predicted) <= 1).mean(),
    }
    for name, value in expected.items():
        assert value_of(statistic_of(parse_measure(name), scored)) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("n_scores", [1, 5, 1000])
def test_auprc_matches_scikit_learn_ties_included(n_scores) -> None:
    generator = np.random.default_rng(n_scores)
    judgments = Judgments.of(generator.integers(0, 9, 300), generator.integers(0, 5, 300), 5)
    scores = generator.integers(0, n_scores, 300).astype(float)
    scored = Scored(judgments, SystemScores("bm25", scores, None, None, False))
    for k in range(2, 6):
        theirs = sklearn_metrics.average_precision_score(judgments.grades >= k - 1, scores)
        assert value_of(statistic_of(parse_measure(f"AUPRC@{k}"), scored)) == pytest.approx(theirs, abs=1e-12)


def test_sdcg_of_a_run_has_a_constant_ideal() -> None:
    # One query; the run's first item is not judged, the second has grade 4 of 0-4: (15 / log2 3) / (15 (1 + 1/log2 3)).
    scored = scored_of([(0, "a", 4), (0, "b", 0)], [(0, "u", 2.0), (0, "a", 1.0)])
    expected = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    assert value_of(statistic_of(parse_measure("sDCG@2"), scored)) == pytest.approx(expected)
    assert value_of(statistic_of(parse_measure("sDCG(judged_only=True)@1"), scored)) == 1.0


def test_part_of_a_run_measures_as_that_part_alone() -> None:
    qrels, run = world(5)
    some = [row for row in qrels if row[0] % 2]
    rows = np.array([row for row, (q, _, _) in enumerate(qrels) if q % 2])
    code = {q: i for i, q in enumerate(sorted({q for q, _, _ in some}))}
    alone = scored_of([(code[q], d, g) for q, d, g in some], [(code[q], d, s) for q, d, s in run if q % 2])
    part = scored_of(qrels, run).take(rows)
    for name in ["nDCG@5", "P(rel=3)@8", "Judged@5", "AUROC@3", "PairAccuracy", "AP(judged_only=True)"]:
        measure = parse_measure(name)
        assert value_of(statistic_of(measure, part)) == value_of(statistic_of(measure, alone))


def test_part_of_the_items_drops_the_others_from_the_lists() -> None:
    scored = scored_of([(0, "a", 4), (0, "b", 0), (0, "c", 0)], [(0, "u", 9.0), (0, "b", 2.0), (0, "a", 1.0)])
    part = scored.take(np.array([0, 2]), whole_queries=False)
    assert value_of(statistic_of(parse_measure("RR(rel=4)"), part)) == 1.0
    assert value_of(statistic_of(parse_measure("RR(rel=4)"), scored)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nDCG@20", "nDCG@20"),
        ("nDCG(dcg='log2')@20", "nDCG@20"),
        ('nDCG(dcg="exp-log2")@20', "nDCG(dcg='exp-log2')@20"),
        ("P(rel=3)@8", "P(rel=3)@8"),
        ("P(judged_only=True, rel=3)@8", "P(judged_only=True,rel=3)@8"),
        ("MAP(rel=2)", "AP(rel=2)"),
        (" MRR@10 ", "RR@10"),
        ("AUROC@4", "AUROC@4"),
    ],
)
def test_a_name_is_written_as_ir_measures_writes_it(text, name) -> None:
    assert str(parse_measure(text)) == name
    assert parse_measure(name) == parse_measure(text)


def test_names_shared_with_ir_measures_are_written_the_same() -> None:
    import ir_measures

    for name in ORACLE:
        assert str(ir_measures.parse_measure(str(parse_measure(name)))) == str(parse_measure(name))


def test_every_shipped_list_of_measures_parses_and_measures() -> None:
    for n_grades in (2, 5):
        assert len(stage_measures(n_grades)) == 14 + 2 * (n_grades - 1) + n_grades  # AUROC, AUPRC; F1
        assert default_measures(n_grades, with_grades=True)
    scored = graded()
    assert all(value_of(statistic_of(measure, scored)) is not None for measure in stage_measures(5).values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nDGC@20", "measure nDGC@20: unknown name nDGC; did you mean nDCG?"),
        ("xyz", "measure xyz: unknown name xyz; known: nDCG, sDCG, P, R,"),
        ("@20", "measure @20: expected a name such as nDCG@20"),
        ("P", "measure P: expected a rank cutoff after @"),
        ("AUROC", "measure AUROC: expected a shown grade after @"),
        ("QWK@3", "measure QWK@3: expected nothing after the name, found @3"),
        ("nDCG@0", "measure nDCG@0: expected a number of at least 1 after @, found 0"),
        ("P(relevant=3)@8", "unknown option relevant; known: rel, judged_only, full_lists"),
        ("P(rel='3')@8", "rel must be int, got '3'"),
        ("P(3)@8", r"expected options such as \(rel=3\), found \(3\)"),
        ("P(rel=)@8", r"expected options such as \(rel=3\), found \(rel=\)"),
        ("P(rel=f())@8", r"expected options such as \(rel=3\), found \(rel=f"),
        ("nDCG(dcg='ln')@8", "dcg must be one of log2, exp-log2, got 'ln'"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(text, message) -> None:
    with pytest.raises(DataError, match=message) as error:
        parse_measure(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AUROC@6", "measure AUROC@6: expected a shown grade from 2 to 5, found 6"),
        ("AUROC@1", "expected a shown grade from 2 to 5, found 1"),
        ("P(rel=5)@8", r"expected rel from 1 to 4, found 5"),
        ("QWK", r"measure QWK: expected grade probabilities p_1..p_5 of run"),
    ],
)
def test_a_measure_that_the_scale_or_the_system_lacks_is_refused(text, message) -> None:
    with pytest.raises(DataError, match=message):
        statistic_of(parse_measure(text), scored_of(*world()))


def test_only_losses_are_better_when_lower() -> None:
    assert {kind for kind, found in KINDS.items() if found.lower_is_better} == {"LogLoss", "Brier", "ECE"}
