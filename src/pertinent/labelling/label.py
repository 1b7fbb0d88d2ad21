"""Label the sampled pairs with the teacher, one whole shard after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from pertinent.data.build import load_dataset
from pertinent.errors import DataError
from pertinent.files import read_parquet, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.sample import sample_pairs
from pertinent.progress import progress, say
from pertinent.teacher.saving import load_teacher
from pertinent.teacher.vocabulary import TOKEN_VECTORS
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult


def label_pairs(config: LabelsConfig, data: Path, text: Path, teacher: Path, out: Path, *, seed: int) -> StageResult:
    """Sample pairs and label them: out/shard-NNNNN.parquet with query, item_id, language, source, p_1..p_n, ...

    The pairs are sorted by length and cut into units; a unit is one shard, written whole or not at all, and a shard
    found in ``out`` from an interrupted run is kept. Also copies the teacher's tokenizer and token vectors, from which
    a student starts. Raises DataError when there is no pair to label.
    """
    dataset = load_dataset(data)
    texts = ItemTexts.read(text, ("text", "text_hash", "n_tokens"))
    # All are pairs of training queries: each is read without what its own fold of the log would tell.
    pairs = texts.joined(sample_pairs(dataset, texts.served, config, seed).with_columns(split=pl.lit("train")))
    if not pairs.height:
        raise DataError("labels: expected pairs to label, found none; raise labels.pool_per_query or labels.log_pairs")
    lengths = pairs["n_tokens"] + pairs["query"].str.len_bytes() // 4
    pairs = pairs.with_columns(length=lengths).sort("length", maintain_order=True)
    labeller = load_teacher(teacher)
    units = [pairs.slice(start, config.unit_pairs) for start in range(0, pairs.height, config.unit_pairs)]
    shards = [out / f"shard-{i:05d}.parquet" for i in range(len(units))]
    done = sum(unit.height for unit, shard in zip(units, shards, strict=True) if shard.exists())
    if done:
        say(f"labels: {done:,} pairs are labelled already")
    names = dataset.scale.probability_columns
    with progress("labels: teacher", pairs.height, "pairs", done) as bar:
        for unit, shard in zip(units, shards, strict=True):
            if shard.exists():
                continue
            probs = labeller.score(unit["query"].to_list(), unit["text"].to_list(), bar)
            columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(names)]
            kept = unit.select("query", "item_id", "language", "source", "text_hash")
            write_parquet(shard, kept.with_columns(*columns, teacher=pl.lit(labeller.teacher_id)))
    for name in ("tokenizer.json", TOKEN_VECTORS):
        shutil.copyfile(teacher / name, out / name)
    return StageResult(_counts(out, names, labeller.teacher_id))


def _counts(out: Path, names: tuple[str, ...], teacher_id: str) -> dict[str, object]:
    labels = pl.concat([read_parquet(shard) for shard in sorted(out.glob("shard-*.parquet"))])
    probs = labels.select(names).to_numpy().astype(np.float64)
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)

    def counted(column: str) -> dict[str, int]:
        found = labels[column].fill_null("und").value_counts().sort(column)
        return {str(value): int(count) for value, count in found.iter_rows()}

    shares = {f"L{k + 1}": round(float(share), 4) for k, share in enumerate(probs.mean(axis=0))}
    return {
        "pairs": labels.height,
        "by_source": counted("source"),
        "by_language": counted("language"),
        "grade_shares": shares,
        "mean_entropy_nats": round(float(entropy.mean()), 4),
        "teacher": teacher_id,
    }
