"""What each metric and system is called in the report, and what each metric is, in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pertinent.evaluation.metrics import relevant_grade

# The order in which a table shows them; any other system of a run follows under its own name.
SYSTEMS = {
    "random": "Random",
    "majority": "Majority",
    "bm25": "BM25",
    "embedding": "Embedding",
    "teacher": "Teacher",
    "student": "Student",
}
# Floors to read the others against: never marked as the best of a column.
FLOORS = frozenset({"random", "majority"})

SLICES = {
    "query_words": "query length in words",
    "query_popularity": "popularity of the query",
    "item_popularity": "popularity of the item",
    "item_fields": "fields that the item has",
    "grade": "human grade",
}


@dataclass(frozen=True)
class Metric:
    """One metric: its key in metrics.json, its name, its definition, and which end of it is better."""

    key: str
    name: str
    definition: str
    lower_is_better: bool = False
    is_count: bool = False


def auroc(threshold: int) -> Metric:
    """AUROC at shown grade ``threshold`` and up."""
    return Metric(
        f"auroc_{threshold}+",
        f"AUROC {threshold}+",
        f"Chance that a pair graded L{threshold} or higher is scored above one graded lower, pooled over all pairs; "
        f"by P(grade ≥ L{threshold}) where a system gives it, else by its score.",
    )


def metrics_of(n_grades: int) -> tuple[Metric, ...]:
    """Every metric of a scale with ``n_grades`` grades, in the order of a table."""
    return (
        Metric("accuracy", "Accuracy", "Share of pairs given exactly the human grade."),
        *(auroc(threshold) for threshold in range(2, n_grades + 1)),
        Metric(
            "pair_accuracy",
            "Pair accuracy",
            "Within a query, share of item pairs with different grades that are put in the right order; ties count half. "
            "Pooled AUROC is unfair to BM25, whose scores do not compare across queries; this is not.",
        ),
        *(_ndcg(k) for k in (10, 20)),
        Metric(
            "sdcg@20",
            "sDCG@20",
            "As nDCG@20, but the ideal is a list of 20 items of the top grade, so a query with little to find cannot reach 1.",
        ),
        Metric(
            "precision@8",
            "Precision@8",
            f"Share of L{main_threshold(n_grades)} and up in the top 8, over the queries with at least 8 judgments.",
        ),
        Metric(
            "qwk",
            "QWK",
            "Quadratic-weighted kappa: agreement with the human grade beyond chance, far misses weighing more.",
        ),
        Metric("within_1", "Within one", "Share of pairs given the human grade or a neighbouring one."),
        Metric(
            "ece",
            "ECE",
            "Expected calibration error of the top label over 15 bins of equal mass: how far stated and true accuracy differ. "
            "Lower is better.",
            lower_is_better=True,
        ),
        Metric("n_queries", "Queries", "Held-out queries that were scored.", is_count=True),
        Metric("n_pairs", "Pairs", "Held-out judged pairs that were scored.", is_count=True),
    )


def more_metrics_of(n_grades: int) -> tuple[Metric, ...]:
    """The other metrics of metrics.json, which the report shows in a table of their own."""
    shown = f"L{main_threshold(n_grades)} and up"
    return (
        *(
            Metric(
                f"auprc_{k}+",
                f"AUPRC {k}+",
                f"Average precision of finding the pairs graded L{k} or higher, pooled over all pairs, ordered as for AUROC; "
                "by chance it is their share.",
            )
            for k in range(2, n_grades + 1)
        ),
        *(
            Metric(f"f1_{k}", f"F1 L{k}", f"Harmonic mean of precision and recall of the predicted grade L{k}.")
            for k in range(1, n_grades + 1)
        ),
        Metric(
            "log_loss",
            "Log loss",
            "Mean negative logarithm, in nats, of the probability given to the human grade. Lower is better.",
            lower_is_better=True,
        ),
        Metric(
            "brier",
            "Brier",
            "Squared difference of the grade probabilities from certainty of the human grade, summed over grades (0 to 2). "
            "Lower is better.",
            lower_is_better=True,
        ),
        Metric("mrr@10", "MRR@10", f"Mean of 1 / rank of the first item of {shown}, 0 where it is not in the top 10."),
        Metric("map", "MAP", f"Mean over queries of average precision, relevant being {shown}."),
        Metric("recall@20", "Recall@20", f"Share of a query's items of {shown} that are in its top 20."),
    )


def _ndcg(k: int) -> Metric:
    return Metric(
        f"ndcg@{k}",
        f"nDCG@{k}",
        f"Discounted gain of the top {k} over the best order of the same judged items; gain 2^grade - 1 on stored grades "
        "(L1 = 0), ties share the mean gain, unjudged items and queries without an item above L1 are left out.",
    )


def main_threshold(n_grades: int) -> int:
    """The shown grade of the headline's AUROC: the lowest that counts as relevant (L4 of five)."""
    return relevant_grade(n_grades) + 1


def system_definitions(bm25_fields: str) -> dict[str, str]:
    """What each system is, by its name as shown. bm25_fields: ``title``, ``body`` or ``title+body``, empty if not told."""
    fields = f"{' and '.join(bm25_fields.split('+'))}, chosen on dev among" if bm25_fields else "best on dev of"
    return {
        "Random": "A grade drawn from the training prior.",
        "Majority": "The commonest training grade, for every pair.",
        "BM25": f"The classical lexical score of the query on the item's text: {fields} title, body and their sum.",
        "Embedding": "Cosine of the query's and the item's embedding.",
        "Teacher": "The cross-encoder trained on human grades; reads all the item's text, too slow to serve.",
        "Student": "The small network that is served; trained on the teacher's soft labels.",
    }


def system_name(system: str) -> str:
    """A system's name as shown."""
    return SYSTEMS.get(system, system)


def slice_name(column: str) -> str:
    """A slice column's name as shown, in the middle of a sentence."""
    return SLICES.get(column, column.replace("_", " "))


def in_order(systems: set[str]) -> list[str]:
    """The systems of SYSTEMS, present or not, then the others by name."""
    return [*SYSTEMS, *sorted(systems - SYSTEMS.keys())]


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``2`` before ``10`` and numbers before words."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
