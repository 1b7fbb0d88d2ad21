"""Judgments and scores -> metrics with intervals, per slice. Knows no model, and may be used by every stage."""

from pertinent.evaluation.baselines import training_prior, with_baselines
from pertinent.evaluation.binary import average_precision, precision, recall, reciprocal_rank
from pertinent.evaluation.calibration import MonotoneMap, TemperatureScaling
from pertinent.evaluation.evaluate import Evaluation, compare, evaluate, write_evaluation
from pertinent.evaluation.measures import Measure, parse_measure
from pertinent.evaluation.metrics import Judgments, ndcg, pair_accuracy, rank, sdcg
from pertinent.evaluation.significance import PairedDifference, paired_difference

__all__ = [
    "Evaluation",
    "Judgments",
    "Measure",
    "MonotoneMap",
    "PairedDifference",
    "TemperatureScaling",
    "average_precision",
    "compare",
    "evaluate",
    "ndcg",
    "pair_accuracy",
    "paired_difference",
    "parse_measure",
    "precision",
    "rank",
    "recall",
    "reciprocal_rank",
    "sdcg",
    "training_prior",
    "with_baselines",
    "write_evaluation",
]
