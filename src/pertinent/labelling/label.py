"""Label the sampled pairs with the teacher, one whole shard after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from pertinent.data.build import load_dataset
from pertinent.errors import DataError
from pertinent.files import read_parquet
from pertinent.judge.judge import Judge
from pertinent.labelling.cache import cached_labels
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.sample import PAIR_SCHEMA, sample_pairs
from pertinent.labelling.units import QUARANTINE, Labeller, label_units, write_whole
from pertinent.mining.guards import are_held_out, load_held_out
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

_OF_THE_TEACHER = ("tokenizer.json", "token_vectors.npy")
_KEPT = ("query", "item_id", "language", "source", "text_hash")


def label_pairs(config: LabelsConfig, data: Path, text: Path, teacher: Path, out: Path, *, seed: int) -> StageResult:
    """Sample pairs and label them by the teacher, or by config.judge: out/shard-*.parquet with query, item_id, language, source, text_hash, p_1..p_n, teacher.

    The pairs are those of config.pairs, else drawn by `sample_pairs`. What config.cache has of the same query, text and
    teacher is taken from there (shard-cached.parquet). The rest is sorted by length and cut into units; a unit is one
    shard, written whole or not at all, and a shard found in ``out`` from an interrupted run is kept. A pair that the
    teacher cannot label goes to quarantine.parquet with its reason. Also copies the teacher's tokenizer and token
    vectors, from which a student starts.
    Raises DataError when there is no pair to label, a pair is of a held-out query, or a file cannot be read or written;
    ModelError when more than config.max_failed of the pairs fail.
    """
    dataset = load_dataset(data)
    texts = ItemTexts.read(text, ("text", "text_hash", "n_tokens"))
    chosen = sample_pairs(dataset, texts.served, config, seed) if config.pairs is None else _told(config.pairs, data)
    # All are pairs of training queries: each is read without what its own fold of the log would tell.
    pairs = texts.joined(chosen.with_columns(split=pl.lit("train")))
    if not pairs.height:
        raise DataError("labels: expected pairs to label, found none; raise labels.pool_per_query or labels.log_pairs")
    judge = None if config.judge is None else Judge(config.judge, dataset.scale, out, seed=seed)
    labeller = judge or _trained(teacher)
    names = dataset.scale.probability_columns
    known = _known(config, pairs, names, labeller.teacher_id, out)
    pairs = pairs.join(known, on=["query", "item_id"], how="anti", maintain_order="left")
    lengths = pairs["n_tokens"] + pairs["query"].str.len_bytes() // 4
    pairs = pairs.with_columns(length=lengths).sort("length", maintain_order=True)
    failed = label_units(pairs, labeller, names, out, config, kept=_KEPT)
    for name in _OF_THE_TEACHER:
        shutil.copyfile(teacher / name, out / name)
    counts = {**_counts(out, names, labeller.teacher_id), "cached": known.height, "failed": failed.height}
    if judge is not None:
        counts["judge"] = judge.counts
    by_reason = dict(failed["reason"].value_counts().sort("reason").iter_rows())
    warnings = [f"{failed.height:,} pairs could not be labelled: see {QUARANTINE}"] if failed.height else []
    return StageResult(counts, by_reason, warnings)


def _trained(teacher: Path) -> Labeller:
    from pertinent.teacher.saving import load_teacher  # a judge needs no torch

    return load_teacher(teacher)


def _known(
    config: LabelsConfig, pairs: pl.DataFrame, names: tuple[str, ...], teacher_id: str, out: Path
) -> pl.DataFrame:
    """query and item_id of the pairs that need no teacher; their labels are in out/shard-cached.parquet.

    Looked up once: later starts keep what the first one found, since the units are cut from the rest.
    """
    shard = out / "shard-cached.parquet"
    if not shard.exists() and not any(out.glob("shard-*.parquet")):
        found = cached_labels(config.cache, pairs, names, teacher_id)
        if found.height:
            write_whole(shard, found.select(*_KEPT, *names, "teacher"))
    return read_parquet(shard, ["query", "item_id"]) if shard.exists() else pairs.select("query", "item_id").head(0)


def _told(file: Path, data: Path) -> pl.DataFrame:
    """The distinct pairs of a sample's table. Raises DataError where one is of a held-out query."""
    pairs = read_parquet(file, list(PAIR_SCHEMA)).cast(PAIR_SCHEMA)  # type: ignore[arg-type]
    pairs = pairs.drop_nulls(["query", "item_id"]).unique(["query", "item_id"], keep="first", maintain_order=True)
    queries = pairs["query"].unique(maintain_order=True)
    wrong = queries.filter(are_held_out(queries, load_held_out(data)))
    if wrong.len():
        raise DataError(
            f"{file}: expected no held-out query (dev or test), found {wrong[0]!r} ({wrong.len():,} in all)"
        )
    return pairs


def _counts(out: Path, names: tuple[str, ...], teacher_id: str) -> dict[str, object]:
    labels = pl.concat([read_parquet(shard) for shard in sorted(out.glob("shard-*.parquet"))])
    if not labels.height:
        raise DataError(f"{out}: expected labels, found that no pair could be labelled: see {QUARANTINE}")
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
