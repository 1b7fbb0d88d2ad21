"""Label scaling of a run: its student trained on nested shares of its own soft labels, measured on the same held-out pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pertinent.bundle.scorer import open_bundle
from pertinent.errors import ConfigError
from pertinent.evaluation import evaluate
from pertinent.evaluation.metrics import relevant_grade
from pertinent.files import read_json, read_parquet, write_json, write_parquet
from pertinent.pipeline.evaluate import with_system
from pertinent.progress import say
from pertinent.types import Scale

FILE = "label_scaling.json"
_SHARDS = "shard-*.parquet"


def write_label_scaling(
    shares: Sequence[float],
    labels: Path,
    evaluation: Path,
    *,
    train: Callable[[Path, Path], object],
) -> None:
    """Train a student on each share of the label shards, and write evaluation/label_scaling.json.

    shares: in (0, 1); the whole is the run's own student. A pair of a smaller share is in every larger one. labels: the
    labelling stage's folder. evaluation: holds scores.parquet, and metrics.json, which says how to measure and has the
    whole and the teacher. train: (labels, out) -> a bundle in ``out``.
    The file: {"metric": the AUROC of the relevant grades, "points": [{"n_labels", "share", "metrics", "intervals"}] in
    order of n_labels, "ceiling": the teacher's "metrics" and "intervals"}. A share that was measured before a kill is not
    measured again. Raises ConfigError for a share that has no label.
    """
    scores = read_parquet(evaluation / "scores.parquet")
    whole = read_json(evaluation / "metrics.json")
    scale = Scale.of_size(whole["n_grades"])
    method, resamples, seed = (whole[key] for key in ("interval_method", "resamples", "seed"))
    work = evaluation / ".label_scaling"

    points = []
    for share in sorted(set(shares)):
        folder = work / f"{share:g}"
        point = folder / "point.json"
        if not point.is_file():
            n_labels = _take_share(labels, folder / "labels", share, seed)
            say(f"label scaling: a student on {n_labels:,} labels")
            (folder / "student").mkdir(exist_ok=True)
            train(folder / "labels", folder / "student")
            frame = _scored_by(folder / "student", scores, scale)
            found = evaluate(
                frame, scale, systems=["student"], slice_columns=(), method=method, resamples=resamples, seed=seed
            )
            write_json(point, {"n_labels": n_labels, "share": share, **_of("student", found.metrics)})
        points.append(read_json(point))
    points.append({"n_labels": _n_labels(labels), "share": 1.0, **_of("student", whole)})
    metric = f"auroc_{relevant_grade(scale.n_grades) + 1}+"
    document = {"metric": metric, "points": points, "ceiling": {"system": "teacher", **_of("teacher", whole)}}
    write_json(evaluation / FILE, document)
    shutil.rmtree(work, ignore_errors=True)


def _of(system: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {"metrics": metrics["systems"][system], "intervals": metrics["intervals"][system]}


def _take_share(labels: Path, out: Path, share: float, seed: int) -> int:
    """The pairs whose hash lies below ``share``, shard by shard, beside links to the folder's other files."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    n_taken = 0
    for file in sorted(file for file in labels.iterdir() if file.is_file()):
        if not file.match(_SHARDS):
            (out / file.name).symlink_to(file.resolve())
            continue
        rows = read_parquet(file)
        place = pl.struct("query", "item_id").hash(seed) / 2.0**64
        kept = rows.filter(place < share)
        n_taken += kept.height
        write_parquet(out / file.name, kept)
    if not n_taken:
        raise ConfigError(f"evaluation.label_shares: {share:g} of {_n_labels(labels):,} labels holds none")
    return n_taken


def _n_labels(labels: Path) -> int:
    return sum(int(pl.scan_parquet(file).select(pl.len()).collect().item()) for file in labels.glob(_SHARDS))


def _scored_by(student: Path, scores: pl.DataFrame, scale: Scale) -> pl.DataFrame:
    pairs = scores.select("query_id", "query", "item_id", "grade", "split")
    probs = open_bundle(student).score_pairs(pairs.select("query", "item_id")).select(scale.probability_columns)
    return with_system(pairs, "student", probs.to_numpy(), scale)
