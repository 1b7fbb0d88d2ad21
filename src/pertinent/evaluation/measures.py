"""Measures by name, as ir_measures writes them: ``nDCG(dcg='exp-log2')@20``, ``P(rel=3)@8``, and ours: ``AUROC@4``.

A name that ir_measures has means what it means there: gain ``2^grade - 1`` only with ``dcg='exp-log2'``, unjudged items
not relevant unless ``judged_only=True``, ``rel`` on stored grades. The number after ``@`` is a rank cutoff, or of AUROC,
AUPRC and F1 a shown grade: ``AUROC@4`` is "L4 and up", the same line as ``rel=3``.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pertinent.errors import DataError
from pertinent.evaluation import binary, classification, metrics
from pertinent.evaluation.metrics import Gain, PerQuery, Ranking, relevant_grade
from pertinent.evaluation.pooled import PooledAuprc, PooledAuroc
from pertinent.evaluation.statistics import Floats, Formula, Statistic, Summed
from pertinent.evaluation.systems import Scored

_GAINS: dict[str, Gain] = {"log2": "linear", "exp-log2": "exponential"}
_ALIASES = {"NDCG": "nDCG", "MAP": "AP", "MRR": "RR", "Recall": "R", "Precision": "P"}
_NAME = re.compile(r"(?P<kind>[A-Za-z]\w*)(?:\((?P<options>[^@]*)\))?(?:@(?P<at>\d+))?")


@dataclass(frozen=True)
class Measure:
    """One measure: its kind, the number after ``@``, and every option with its value. ``str`` gives the name."""

    kind: str
    at: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        defaults = KINDS[self.kind].options
        told = [f"{name}={value!r}" for name, value in sorted(self.options) if value != defaults[name]]
        return self.kind + (f"({','.join(told)})" if told else "") + ("" if self.at is None else f"@{self.at}")

    def option(self, name: str) -> Any:
        """The value of an option."""
        return dict(self.options)[name]

    @property
    def needs_grades(self) -> bool:
        """Whether it is of grade probabilities, or of the grades predicted from them."""
        return KINDS[self.kind].needs_grades

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller number is the better one."""
        return KINDS[self.kind].lower_is_better


@dataclass(frozen=True)
class _Kind:
    build: Callable[[Measure, Scored, bool], Statistic]
    at: Literal["none", "optional", "cutoff", "grade"]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_grades: bool = False
    lower_is_better: bool = False


def parse_measure(text: str) -> Measure:
    """The measure that ``text`` names.

    Raises DataError in one line, with the nearest name, for an unknown name or option or a value out of range.
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise DataError(f"measure {text}: expected a name such as nDCG@20, P(rel=3)@8 or AUROC@4")
    kind = _ALIASES.get(match["kind"], match["kind"])
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KINDS)}"
        raise DataError(f"measure {text}: unknown name {kind}; {hint}")
    at = int(match["at"]) if match["at"] else None
    _check_at(text, KINDS[kind].at, at)
    options = {**KINDS[kind].options, **_options(text, match["options"] or "", KINDS[kind].options)}
    return Measure(kind, at, tuple(options.items()))


def statistic_of(measure: Measure, scored: Scored, *, undefined_as_zero: bool = False) -> Statistic:
    """The measure of one system, as a statistic over queries.

    undefined_as_zero: whether a query without a relevant item counts as 0, as trec_eval has it; else it is left out.
    Raises DataError where the measure needs grades that the system does not give, or a grade that the scale lacks.
    """
    n_grades = scored.judgments.n_grades
    lowest = 1 if measure.kind == "F1" else 2
    if KINDS[measure.kind].at == "grade" and not lowest <= (measure.at or 0) <= n_grades:
        raise DataError(f"measure {measure}: expected a shown grade from {lowest} to {n_grades}, found {measure.at}")
    if "rel" in KINDS[measure.kind].options and not 1 <= measure.option("rel") < n_grades:
        raise DataError(f"measure {measure}: expected rel from 1 to {n_grades - 1}, found {measure.option('rel')}")
    if measure.needs_grades and scored.system.probs is None:
        raise DataError(f"measure {measure}: expected grade probabilities p_1..p_{n_grades} of {scored.system.name}")
    return KINDS[measure.kind].build(measure, scored, undefined_as_zero)


def stage_measures(n_grades: int) -> dict[str, Measure]:
    """The metrics of metrics.json by key, in the order of a table: the headline's first, then the others."""
    thresholds, rel = range(2, n_grades + 1), relevant_grade(n_grades)
    names = {
        "accuracy": "Accuracy",
        **{f"auroc_{k}+": f"AUROC@{k}" for k in thresholds},
        "pair_accuracy": "PairAccuracy",
        **{f"ndcg@{k}": f"nDCG(dcg='exp-log2', judged_only=True)@{k}" for k in (10, 20)},
        "sdcg@20": "sDCG(judged_only=True)@20",
        "precision@8": f"P(full_lists=True, judged_only=True, rel={rel})@8",
        "qwk": "QWK",
        "within_1": "Within1",
        "ece": "ECE",
        **{f"auprc_{k}+": f"AUPRC@{k}" for k in thresholds},
        **{f"f1_{k}": f"F1@{k}" for k in range(1, n_grades + 1)},
        "log_loss": "LogLoss",
        "brier": "Brier",
        "mrr@10": f"RR(judged_only=True, rel={rel})@10",
        "map": f"AP(judged_only=True, rel={rel})",
        "recall@20": f"R(judged_only=True, rel={rel})@20",
    }
    return {key: parse_measure(name) for key, name in names.items()}


def default_measures(n_grades: int, *, with_grades: bool) -> list[Measure]:
    """What is measured when no measure is named. with_grades: whether every system gives grade probabilities."""
    thresholds = [f"AUROC@{k}" for k in range(2, n_grades + 1)]
    graded = ["Accuracy", "QWK", "ECE"] if with_grades else []
    ranking = ["nDCG@10", "nDCG(dcg='exp-log2')@20", f"P(rel={relevant_grade(n_grades)})@8", "PairAccuracy"]
    return [parse_measure(name) for name in [*ranking, *thresholds, *graded]]


def _check_at(text: str, kind: str, at: int | None) -> None:
    if at is None and kind in ("cutoff", "grade"):
        raise DataError(f"measure {text}: expected a {'rank cutoff' if kind == 'cutoff' else 'shown grade'} after @")
    if at is not None and kind == "none":
        raise DataError(f"measure {text}: expected nothing after the name, found @{at}")
    if at is not None and at < 1:
        raise DataError(f"measure {text}: expected a number of at least 1 after @, found {at}")


def _options(text: str, written: str, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({written})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args:
            raise ValueError
        found = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise DataError(f"measure {text}: expected options such as (rel=3), found ({written})") from None
    for name, value in found.items():
        if name not in known:
            raise DataError(f"measure {text}: unknown option {name}; known: {', '.join(known) or 'none'}")
        due = f"one of {', '.join(_GAINS)}" if name == "dcg" else type(known[name]).__name__
        if type(value) is not type(known[name]) or (name == "dcg" and value not in _GAINS):
            raise DataError(f"measure {text}: {name} must be {due}, got {value!r}")
    return found


def _per_query(found: PerQuery, as_zero: bool) -> Summed:
    if as_zero:
        found = PerQuery(np.nan_to_num(found.values), np.ones(found.weights.size))
    return Summed.mean_of(found)


def _ranking(measure: Measure, scored: Scored) -> Ranking:
    return scored.ranking(measure.option("judged_only"))


def _depth(measure: Measure, ranking: Ranking) -> int:
    """The cutoff, or without one the length of the longest list or ideal."""
    longest = int(ranking.judgments.grade_counts.sum(axis=1).max(initial=1))
    return measure.at or max(longest, int(ranking.positions.max(initial=0)) + 1)


def _ndcg(measure: Measure, scored: Scored, as_zero: bool) -> Statistic:
    ranking = _ranking(measure, scored)
    return _per_query(metrics.ndcg(ranking, _depth(measure, ranking), _GAINS[measure.option("dcg")]), as_zero)


def _sdcg(measure: Measure, scored: Scored, _: bool) -> Statistic:
    ranking = _ranking(measure, scored)
    return _per_query(metrics.sdcg(ranking, _depth(measure, ranking), _GAINS[measure.option("dcg")]), False)


def _precision(measure: Measure, scored: Scored, _: bool) -> Statistic:
    short_lists = not measure.option("full_lists")
    ranking = _ranking(measure, scored)
    found = binary.precision(ranking, _depth(measure, ranking), measure.option("rel"), short_lists=short_lists)
    return _per_query(found, False)


def _recall(measure: Measure, scored: Scored, as_zero: bool) -> Statistic:
    ranking = _ranking(measure, scored)
    return _per_query(binary.recall(ranking, _depth(measure, ranking), measure.option("rel")), as_zero)


def _average_precision(measure: Measure, scored: Scored, as_zero: bool) -> Statistic:
    found = binary.average_precision(_ranking(measure, scored), measure.option("rel"), measure.at)
    return _per_query(found, as_zero)


def _reciprocal_rank(measure: Measure, scored: Scored, as_zero: bool) -> Statistic:
    found = binary.reciprocal_rank(_ranking(measure, scored), measure.option("rel"), measure.at)
    return _per_query(found, as_zero)


def _judged(measure: Measure, scored: Scored, _: bool) -> Statistic:
    """Share of the top k that is judged, of as many as were retrieved; queries with none retrieved count 0."""
    judgments, k = scored.judgments, measure.at or 1
    if scored.retrieved is None:
        return Summed.mean_of(PerQuery(np.ones(judgments.n_queries), np.ones(judgments.n_queries)))
    found = scored.retrieved
    flags = Ranking.of(judgments, found.queries, (found.rows >= 0).astype(np.int64), found.scores)
    n_ranked = np.minimum(np.bincount(found.queries, minlength=judgments.n_queries), k)
    n_judged = metrics.sum_of_top(flags, flags.grades.astype(np.float64), np.ones(k))
    shares = n_judged / np.maximum(n_ranked, 1)
    return Summed.mean_of(PerQuery(shares, np.ones(judgments.n_queries)))


def _pair_accuracy(_: Measure, scored: Scored, __: bool) -> Statistic:
    return Summed.mean_of(metrics.pair_accuracy(scored.judged))


def _auroc(measure: Measure, scored: Scored, _: bool) -> Statistic:
    threshold = (measure.at or 0) - 1
    return PooledAuroc.by(scored.sorted_by(threshold), scored.judgments.grades >= threshold)


def _auprc(measure: Measure, scored: Scored, _: bool) -> Statistic:
    threshold = (measure.at or 0) - 1
    return PooledAuprc.by(scored.sorted_by(threshold), scored.judgments.grades >= threshold)


def _of_pairs(scored: Scored, terms: Floats, formula: Formula) -> Statistic:
    return Summed.of_pairs(scored.judgments.queries, scored.judgments.n_queries, terms, formula)


def _accuracy(_: Measure, scored: Scored, __: bool) -> Statistic:
    terms = classification.accuracy_terms(scored.judgments.grades, scored.predicted)
    return _of_pairs(scored, terms, classification.ratio_of)


def _within_1(_: Measure, scored: Scored, __: bool) -> Statistic:
    terms = classification.accuracy_terms(scored.judgments.grades, scored.predicted, tolerance=1)
    return _of_pairs(scored, terms, classification.ratio_of)


def _qwk(_: Measure, scored: Scored, __: bool) -> Statistic:
    terms = classification.kappa_terms(scored.judgments.grades, scored.predicted)
    return _of_pairs(scored, terms, classification.kappa_of)


def _f1(measure: Measure, scored: Scored, _: bool) -> Statistic:
    terms = classification.f1_terms(scored.judgments.grades, scored.predicted, (measure.at or 0) - 1)
    return _of_pairs(scored, terms, classification.ratio_of)


def _log_loss(_: Measure, scored: Scored, __: bool) -> Statistic:
    terms = classification.log_loss_terms(scored.judgments.grades, scored.probs)
    return _of_pairs(scored, terms, classification.ratio_of)


def _brier(_: Measure, scored: Scored, __: bool) -> Statistic:
    terms = classification.brier_terms(scored.judgments.grades, scored.probs)
    return _of_pairs(scored, terms, classification.ratio_of)


def _ece(_: Measure, scored: Scored, __: bool) -> Statistic:
    """ECE by query. The bins are those of all pairs, kept under every resample.

    A resample adds noise to the gap of every bin, and ECE takes the gap's size, so the interval lies too high: for a
    well calibrated system it may not reach down to the value itself.
    """
    judgments, n_bins = scored.judgments, classification.N_BINS
    confidence, correct = scored.system.confidence, scored.predicted == judgments.grades
    cells = judgments.queries * n_bins + classification.equal_mass_bins(confidence)
    gaps = np.bincount(cells, weights=confidence - correct, minlength=judgments.n_queries * n_bins)
    counts = judgments.grade_counts.sum(axis=1, dtype=np.float64)
    return Summed(np.column_stack([gaps.reshape(-1, n_bins), counts]), classification.ece_of)


_BINARY = {"rel": 1, "judged_only": False}
KINDS: dict[str, _Kind] = {
    "nDCG": _Kind(_ndcg, "optional", {"dcg": "log2", "judged_only": False}),
    "sDCG": _Kind(_sdcg, "cutoff", {"dcg": "exp-log2", "judged_only": False}),
    "P": _Kind(_precision, "cutoff", {**_BINARY, "full_lists": False}),
    "R": _Kind(_recall, "cutoff", _BINARY),
    "AP": _Kind(_average_precision, "optional", _BINARY),
    "RR": _Kind(_reciprocal_rank, "optional", _BINARY),
    "Judged": _Kind(_judged, "cutoff"),
    "PairAccuracy": _Kind(_pair_accuracy, "none"),
    "AUROC": _Kind(_auroc, "grade"),
    "AUPRC": _Kind(_auprc, "grade"),
    "Accuracy": _Kind(_accuracy, "none", needs_grades=True),
    "Within1": _Kind(_within_1, "none", needs_grades=True),
    "QWK": _Kind(_qwk, "none", needs_grades=True),
    "F1": _Kind(_f1, "grade", needs_grades=True),
    "LogLoss": _Kind(_log_loss, "none", needs_grades=True, lower_is_better=True),
    "Brier": _Kind(_brier, "none", needs_grades=True, lower_is_better=True),
    "ECE": _Kind(_ece, "none", needs_grades=True, lower_is_better=True),
}
