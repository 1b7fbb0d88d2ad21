"""Judgments and scores -> metrics with intervals, per slice. Knows no model, and may be used by every stage."""

from pertinent.evaluation.baselines import training_prior, with_baselines
from pertinent.evaluation.calibration import MonotoneMap, TemperatureScaling
from pertinent.evaluation.evaluate import Evaluation, compare, evaluate, write_evaluation
from pertinent.evaluation.intervals import PairedDifference, paired_difference
from pertinent.evaluation.metrics import Judgments, ndcg, pair_accuracy, precision, rank, sdcg

__all__ = [
    "Evaluation",
    "Judgments",
    "MonotoneMap",
    "PairedDifference",
    "TemperatureScaling",
    "compare",
    "evaluate",
    "ndcg",
    "pair_accuracy",
    "paired_difference",
    "precision",
    "rank",
    "sdcg",
    "training_prior",
    "with_baselines",
    "write_evaluation",
]
