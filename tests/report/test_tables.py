from __future__ import annotations

from typing import Any

import pytest

from pertinent.report.definitions import auroc, main_threshold
from pertinent.report.tables import Results, gain, headline, slice_tables, standing, system_table

METRIC = auroc(4)


def results(**values: float | None) -> Results:
    systems: dict[str, Any] = {name: {METRIC.key: value, "n_queries": 1480} for name, value in values.items()}
    return Results(systems, {})


def test_the_share_kept_is_the_hand_computation() -> None:
    # (.719 - .612) / (.737 - .612) = .107 / .125 = .856, the sketch of the design.
    found = gain(results(bm25=0.612, teacher=0.737, student=0.719), METRIC)
    assert found.kept == pytest.approx(0.856)
    assert (found.kept_text, found.student_gain.text, found.teacher_gain.text, found.note) == (
        "86%",
        "+.107",
        "+.125",
        "",
    )


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"bm25": 0.7, "teacher": 0.7, "student": 0.8}, "no gain to keep"),
        ({"bm25": 0.7, "teacher": 0.6, "student": 0.65}, "no gain to keep"),
        ({"bm25": 0.7, "teacher": 0.704, "student": 0.703}, "noise"),
        ({"bm25": 0.7, "teacher": None, "student": 0.7}, "no number for the teacher"),
        ({"student": 0.7}, "no number for BM25 and the teacher"),
    ],
)
def test_a_gain_that_cannot_be_divided_by_is_a_gap_with_its_reason(values: dict[str, float | None], note: str) -> None:
    found = gain(results(**values), METRIC)
    assert found.kept is None
    assert found.kept_text == ""
    assert note in found.note


def test_overlapping_intervals_make_the_share_uncertain() -> None:
    plain = results(bm25=0.6, teacher=0.7, student=0.68)
    unsure = Results(plain.systems, {"bm25": {METRIC.key: [0.55, 0.66]}, "teacher": {METRIC.key: [0.65, 0.75]}})
    found = gain(unsure, METRIC)
    assert found.kept == pytest.approx(0.8)
    assert "uncertain" in found.note


def test_the_headline_says_value_interval_share_and_size() -> None:
    plain = results(bm25=0.612, teacher=0.737, student=0.719)
    found = Results(plain.systems, {"student": {METRIC.key: [0.702, 0.733]}})
    expected = "The student reaches AUROC 4+ .719 [.702, .733], 86% of the teacher's gain over BM25, on 1,480 held-out queries."
    assert headline(found, 5) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bm25": 0.6, "teacher": 0.7, "student": 0.71}, "all of the teacher's gain over BM25 (110%)"),
        ({"bm25": 0.6, "teacher": 0.7, "student": 0.5}, "which is below BM25 (.600)"),
        ({"bm25": 0.7, "teacher": 0.6, "student": 0.65}, "where the teacher reaches .600 and BM25 .700"),
        ({"student": 0.65}, "The student reaches AUROC 4+ .650, on 1,480 held-out queries."),
        ({"bm25": 0.65}, "no AUROC 4+ for the student: Student was not scored here"),
        ({"student": None}, "no AUROC 4+ for the student: AUROC 4+ is not defined"),
        ({}, "no evaluation yet"),
    ],
)
def test_the_headline_claims_no_more_than_the_numbers(values: dict[str, float | None], said: str) -> None:
    assert said in headline(results(**values), 5)


def test_the_headline_threshold_is_the_lowest_relevant_grade() -> None:
    assert [main_threshold(n) for n in (2, 3, 4, 5)] == [2, 2, 3, 4]


def test_best_is_the_highest_but_the_lowest_ece_and_never_a_floor() -> None:
    systems = {
        "majority": {"qwk": 0.7, "ece": 0.0},
        "bm25": {"qwk": 0.5, "ece": 0.1},
        "student": {"qwk": 0.7, "ece": 0.2},
    }
    table = system_table(Results(systems, {}), 5)
    best = {
        (row.system, metric.key)
        for row in table.rows
        for metric, cell in zip(table.metrics, row.cells, strict=True)
        if cell.best
    }
    assert best == {("student", "qwk"), ("bm25", "ece")}


def test_systems_that_print_alike_are_both_best() -> None:
    table = system_table(Results({"bm25": {"qwk": 0.70001}, "student": {"qwk": 0.7}}, {}), 5)
    assert sum(cell.best for row in table.rows for cell in row.cells) == 2


def test_a_missing_system_is_a_row_of_gaps_and_an_unknown_one_has_its_row() -> None:
    table = system_table(Results({"student": {"qwk": 0.7}, "ours": {"qwk": 0.1, "mine": 3.0}}, {}), 4)
    rows = {row.system: row for row in table.rows}
    assert list(rows) == ["random", "majority", "bm25", "embedding", "teacher", "student", "ours"]
    assert all(cell.gap == "Teacher was not scored here" and not cell.text for cell in rows["teacher"].cells)
    assert rows["ours"].cells[-1].text == "3.000"
    assert [m.key for m in table.metrics if m.key.startswith("auroc")] == ["auroc_2+", "auroc_3+", "auroc_4+"]


def test_sizes_that_differ_are_columns_and_equal_ones_are_not() -> None:
    equal = system_table(results(bm25=0.6, student=0.7), 5)
    systems = {"bm25": {"n_queries": 3, "n_pairs": 9}, "student": {"n_queries": 3, "n_pairs": 9}}
    assert "n_queries" in [m.key for m in equal.metrics]  # no system says its number of pairs
    assert "n_queries" not in [m.key for m in system_table(Results(systems, {}), 5).metrics]
    systems["bm25"]["n_queries"] = 2
    assert "n_queries" in [m.key for m in system_table(Results(systems, {}), 5).metrics]


@pytest.mark.parametrize(
    ("student", "interval", "words", "sentence"),
    [
        (0.8, [0.05, 0.35], "above", "above BM25"),
        (0.65, [0.0, 0.1], "higher, interval includes 0", "higher than BM25, interval includes 0"),
        (0.65, None, "higher, no interval", "higher than BM25, no interval"),
        (0.6, [-0.1, 0.1], "equal, interval includes 0", "equal to BM25, interval includes 0"),
        (0.59, [-0.1, 0.1], "lower, interval includes 0", "lower than BM25, interval includes 0"),
        (0.5, [-0.2, -0.01], "below", "below BM25"),
        (None, [0.05, 0.35], "not known", "not known against BM25"),
    ],
)
def test_the_student_is_above_a_baseline_only_where_the_paired_interval_leaves_out_0(
    student: float | None, interval: list[float] | None, words: str, sentence: str
) -> None:
    plain = results(bm25=0.6, student=student)
    paired = {"student": {"bm25": {METRIC.key: {"difference": 0.1, "interval": interval}}}}
    found = standing(Results(plain.systems, {}, paired), METRIC, "bm25")
    assert (found.words, found.sentence) == (words, sentence)
    assert bool(found.cell.text) is (student is not None)


def test_a_standing_is_the_difference_of_the_shown_numbers_and_its_interval() -> None:
    plain = results(bm25=0.612, student=0.719)
    paired = {"student": {"bm25": {METRIC.key: {"difference": 0.107, "interval": [0.081, 0.1334]}}}}
    cell = standing(Results(plain.systems, {}, paired), METRIC, "bm25").cell
    assert (cell.text, cell.interval) == ("+.107", "[.081, .133]")


def test_slices_are_in_a_readable_order_and_small_ones_are_marked() -> None:
    def part(n_queries: int | None, small: bool = False) -> dict[str, Any]:
        return {"n_queries": n_queries, "n_pairs": n_queries, "small": small, "systems": {"student": {METRIC.key: 0.7}}}

    document = {
        "systems": {"student": {}},
        "slices": {
            "query_words": {"10": part(30), "2": part(30, small=True), "5+": part(19)},
            "language": {"ja": part(40), "en": part(300), "xx": part(None)},
            "empty": {},
        },
    }
    found = slice_tables(document, 5)
    assert list(found) == ["language", "query_words"]
    assert [row.value for row in found["language"][0].rows] == ["en", "ja", "xx"]
    assert [(row.value, row.is_small) for row in found["query_words"][0].rows] == [
        ("2", True),
        ("5+", True),
        ("10", False),
    ]
    assert found["language"][0].rows[2].n_pairs.gap == "not counted"
    assert [table.metric.key for table in found["language"]] == ["auroc_4+", "pair_accuracy", "ndcg@20"]
