"""Label the chosen pairs with the teacher, one whole shard after the other."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from pertinent.data.build import load_scale
from pertinent.errors import ConfigError, DataError
from pertinent.features.encoder import STATIC_FILES
from pertinent.files import read_parquet
from pertinent.judge.judge import Judge
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.engine import LabelEngine, LocalEngine
from pertinent.labelling.plan import KEPT, PLAN, Plan, choose_pairs, write_plan, write_whole
from pertinent.labelling.units import QUARANTINE, label_units
from pertinent.labelling.weights import weigh_labels
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

_CACHED = "shard-cached.parquet"


def label_pairs(config: LabelsConfig, data: Path, text: Path, teacher: Path, out: Path, *, seed: int) -> StageResult:
    """Choose pairs and label them, by the teacher or by config.judge, in shards out/shard-*.parquet.

    A shard has query, item_id, language, source, text_hash, p_1..p_n, teacher.

    The pairs are those of config.pairs, else drawn by `sample_pairs`. What config.cache has of the same query, text and
    teacher is taken from there (shard-cached.parquet). The rest is sorted by length and cut into units; a unit is one
    shard, written whole or not at all, and a shard found in ``out`` from an interrupted run is kept. A pair that the
    teacher cannot label goes to quarantine.parquet with its reason. plan.parquet holds what was to be labelled. With
    config.min_confidence or config.balance the shards have a weight (`weigh_labels`). Also copies the teacher's tokenizer
    and token vectors, from which a student starts.
    Raises DataError when there is no pair to label, a pair is of a held-out query, or a file cannot be read or written;
    ModelError when more than config.max_failed of the pairs fail; ConfigError for a judge on another engine than local.
    """
    if config.judge is not None and config.engine != "local":
        raise ConfigError(f"labels.engine: expected local beside labels.judge, found {config.engine}")
    scale = load_scale(data)
    names = scale.probability_columns
    judge = None if config.judge is None else Judge(config.judge, scale, out, seed=seed)
    teacher_id = _id_of(teacher) if judge is None else judge.teacher_id
    plan = _planned(config, data, text, teacher_id, out, seed)
    engine = engine_of(config, teacher) if judge is None else LocalEngine(judge)
    failed = label_units(plan, engine, names, teacher_id, out, kept=KEPT, max_failed=config.max_failed)
    for name in STATIC_FILES:
        shutil.copyfile(teacher / name, out / name)
    cached = out / _CACHED
    n_cached = read_parquet(cached, ["query"]).height if cached.exists() else 0
    counts = {**_counts(out, names, teacher_id), "cached": n_cached, "failed": failed.height}
    if judge is not None:
        counts["judge"] = judge.counts
    if config.weighs:
        counts |= weigh_labels(out, names, config)
    by_reason = dict(failed["reason"].value_counts().sort("reason").iter_rows())
    warnings = [f"{failed.height:,} pairs could not be labelled: see {QUARANTINE}"] if failed.height else []
    return StageResult(counts, by_reason, warnings)


def engine_of(config: LabelsConfig, teacher: Path) -> LabelEngine:
    """The engine that config.engine names. Raises ModelError for a damaged teacher, ConfigError where Ray is absent."""
    from pertinent.teacher.saving import load_teacher  # a judge needs no torch

    if config.engine == "local":
        return LocalEngine(load_teacher(teacher))
    from pertinent.labelling.ray_engine import RayEngine

    return RayEngine(partial(load_teacher, teacher.resolve()), config.ray)


def _id_of(teacher: Path) -> str:
    from pertinent.teacher.saving import teacher_id_of

    return teacher_id_of(teacher)


def _planned(config: LabelsConfig, data: Path, text: Path, teacher_id: str, out: Path, seed: int) -> Plan:
    """The plan in ``out``, made once: a start that goes on has the units of the first, whatever befell the cache since."""
    if (out / PLAN).exists():
        texts = ItemTexts.read(text)
        return Plan(out / PLAN, texts.rows["text"], config.unit_pairs)
    chosen = choose_pairs(config, data, text, teacher_id, seed)
    if chosen.cached.height:
        write_whole(out / _CACHED, chosen.cached)
    return write_plan(out / PLAN, chosen.pairs, chosen.texts.rows["text"], config.unit_pairs)


def _counts(out: Path, names: tuple[str, ...], teacher_id: str) -> dict[str, object]:
    """Counted shard by shard: labels need not fit in memory."""
    sources: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    total, entropy = np.zeros(len(names)), 0.0
    for shard in sorted(out.glob("shard-*.parquet")):
        labels = read_parquet(shard, ["source", "language", *names])
        sources.update(labels["source"].fill_null("und").to_list())
        languages.update(labels["language"].fill_null("und").to_list())
        probs = labels.select(names).to_numpy().astype(np.float64)
        total += probs.sum(axis=0)
        entropy -= float((probs * np.log(np.maximum(probs, 1e-12))).sum())
    n_pairs = sources.total()
    if not n_pairs:
        raise DataError(f"{out}: expected labels, found that no pair could be labelled: see {QUARANTINE}")
    return {
        "pairs": n_pairs,
        "by_source": dict(sorted(sources.items())),
        "by_language": dict(sorted(languages.items())),
        "grade_shares": {f"L{k + 1}": round(float(share), 4) for k, share in enumerate(total / n_pairs)},
        "mean_entropy_nats": round(entropy / n_pairs, 4),
        "teacher": teacher_id,
    }
