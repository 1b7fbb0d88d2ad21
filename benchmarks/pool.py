"""The labelled pool of Home Depot: what the best teacher says of judged training pairs and of 600,000 pairs beside them.

    python benchmarks/pool.py [--parts N]

The pairs: of every training query, items drawn from its 100 best by BM25 and its 100 nearest by the vectors of
multilingual-e5-small, half each. They are cut into parts at random, so that the parts done so far are a random sample of
all, and any smaller pool is a part of a larger one. Part "judged" (the judged training pairs) comes first. Each part is a
labels folder with a manifest in the user's cache; the same command goes on where it was killed. The best teacher is that
of ``teacher_models.py --rows 'best/*'``, whose members must be trained. All parts take some hours on 2 cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import run_main
from homedepot import HomeDepot, manifest_of
from pertinent.errors import DataError
from pertinent.features.encoder import STATIC_FILES
from pertinent.files import cache_folder, link_or_copy, read_parquet, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.labelling.neighbours import neighbour_pairs
from pertinent.labelling.sample import PAIR_SCHEMA
from pertinent.pipeline.stage import read_manifest, run_stage
from pertinent.teacher.backbones import Backbone, embedding_rule, resolve_backbone
from pertinent.teacher.embed import embed
from pertinent.teacher.saving import combine_teachers
from pertinent.types import StageResult
from teacher_models import BEST_MEMBERS, Bench

JUDGED = "judged"
N_PARTS, PART_PAIRS = 8, 75_000
DEPTH = 100  # ranks that neighbours are drawn from
SEED = 0
EMBEDDER = "packaged:multilingual-e5-small"
_EMBEDDED_TOKENS = 96


@dataclass(frozen=True)
class Pool:
    """Parts by name, JUDGED and part-00 to part-07, each labelled when first asked for. quick: a small form of its own."""

    homedepot: HomeDepot
    quick: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All parts in the order in which they are labelled."""
        return (JUDGED, *(f"part-{k:02d}" for k in range(2 if self.quick else N_PARTS)))

    def part(self, name: str) -> Path:
        """The labels folder of a part: shards, tokenizer.json, token_vectors.npy, manifest.json."""
        pairs, teacher = self._pairs(), self.teacher()
        config = LabelsConfig(pairs=pairs / f"{name}.parquet", unit_pairs=32 if self.quick else 4096)
        stages = {part.name: manifest_of(part)["key"] for part in (self.homedepot.data, self.homedepot.text)}
        keys = {**stages, "teacher": manifest_of(teacher)["key"], "pairs": manifest_of(pairs)["key"]}
        folder = self._folder / name
        run_stage(
            "labels",
            folder,
            config={"part": name, "unit_pairs": config.unit_pairs},
            seed=SEED,
            inputs=keys,
            work=lambda out: label_pairs(config, self.homedepot.data, self.homedepot.text, teacher, out, seed=SEED),
        )
        return folder

    def finished(self) -> tuple[str, ...]:
        """The parts that are labelled, as far as they go without a gap."""
        done = [read_manifest(self._folder / name) is not None for name in self.names]
        return self.names[: done.index(False)] if False in done else self.names

    def labels(self, n_pairs: int | None = None) -> pl.DataFrame:
        """query, item_id, p_1..p_n, source of the first n_pairs pairs of the pool, all of the finished parts if None.

        Without the judged pairs. Nested: the rows of a smaller pool are the first rows of a larger one. Raises DataError
        where the finished parts have fewer.
        """
        tables = [self._in_order(name) for name in self.finished() if name != JUDGED]
        found = pl.concat([self.judged_labels().clear(), *tables])
        if n_pairs is not None and found.height < n_pairs:
            raise DataError(
                f"pool: expected {n_pairs:,} labelled pairs, found {found.height:,}: run benchmarks/pool.py"
            )
        return found.head(found.height if n_pairs is None else n_pairs)

    def judged_labels(self) -> pl.DataFrame:
        """query, item_id, p_1..p_n, source: the best teacher on the judged training pairs."""
        self.part(JUDGED)
        return self._in_order(JUDGED)

    def write_labels(self, table: pl.DataFrame, out: Path) -> Path:
        """A labels folder of one shard, for a student: ``table`` beside the teacher's tokenizer and token vectors."""
        out.mkdir(parents=True, exist_ok=True)
        write_parquet(out / "shard-00000.parquet", table)
        for name in STATIC_FILES:
            (out / name).unlink(missing_ok=True)
            link_or_copy(str(self.teacher() / name), str(out / name))
        return out

    def teacher(self) -> Path:
        """The best teacher as one folder: its members, and the first one's tokenizer and token vectors.

        Raises DataError where a member is not trained; the quick form trains small ones.
        """
        members = [self._member(name) for name in BEST_MEMBERS]
        folder = members[0].with_name("quick-best" if self.quick else "best")

        def work(out: Path) -> StageResult:
            return StageResult({"members": len(members), "teacher": combine_teachers(members, out)})

        keys = {member.name: manifest_of(member)["key"] for member in members}
        run_stage("best teacher", folder, config={}, seed=SEED, inputs=keys, work=work)
        return folder

    def _member(self, name: str) -> Path:
        folder = cache_folder() / "benchmarks" / "teachers" / f"best-{name}-0"
        if not self.quick and read_manifest(folder) is None:
            # Not trained from here: another process may be at it.
            raise DataError(f"{folder}: expected a trained teacher: run benchmarks/teacher_models.py --rows 'best/*'")
        return Bench(quick=self.quick).best_member(name)

    @property
    def _folder(self) -> Path:
        return cache_folder() / "benchmarks" / ("quick-pool" if self.quick else "pool")

    def _in_order(self, name: str) -> pl.DataFrame:
        """The labels of a finished part in the order of its pairs: shards are sorted by length."""
        columns = ["query", "item_id", *self.homedepot.dataset.scale.probability_columns, "source"]
        shards = sorted((self._folder / name).glob("shard-*.parquet"))
        labels = pl.concat([read_parquet(shard, columns) for shard in shards])
        pairs = read_parquet(self._folder / "pairs" / f"{name}.parquet", ["query", "item_id"])
        return pairs.join(labels, on=["query", "item_id"], maintain_order="left")

    def _pairs(self) -> Path:
        """The stage folder with a Parquet table of pairs for each part."""
        folder = self._folder / "pairs"
        size = 40 if self.quick else PART_PAIRS
        stages = {part.name: manifest_of(part)["key"] for part in (self.homedepot.data, self.homedepot.text)}
        backbone = resolve_backbone(EMBEDDER)

        def work(out: Path) -> StageResult:
            judged, pool = self._drawn(size * (len(self.names) - 1), backbone)
            write_parquet(out / f"{JUDGED}.parquet", judged)
            for k, name in enumerate(self.names[1:]):
                write_parquet(out / f"{name}.parquet", pool.slice(k * size, size))
            return StageResult({"judged": judged.height, **dict(pool["source"].value_counts().iter_rows())})

        config = {"parts": len(self.names) - 1, "part_pairs": size, "depth": DEPTH}
        inputs = {**stages, "embedder": backbone.description}
        run_stage("pool pairs", folder, config=config, seed=SEED, inputs=inputs, work=work)
        return folder

    def _drawn(self, n_pairs: int, backbone: Backbone) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Judged training pairs, and n_pairs pairs of the pool in random order; both as PAIR_SCHEMA has them."""
        judged = self.homedepot.dataset.judgments.filter(pl.col("split") == "train")
        judged = judged.select("query", "item_id", "language", pl.lit(JUDGED).alias("source"))
        if self.quick:
            judged = judged.filter(pl.col("query").is_in(judged["query"].unique().sort().head(20).to_list()))
        items = pl.DataFrame({"item_id": list(self.homedepot.texts), "text": list(self.homedepot.texts.values())})
        if self.quick:
            items = pl.concat(
                [items.join(judged.select("item_id").unique(), on="item_id", how="semi"), items.head(200)]
            ).unique("item_id", maintain_order=True)
        queries = judged.select("query", "language").unique("query").sort("query")
        known, parts = judged.select("query", "item_id"), []
        encoder: Any = _Embedder(backbone)  # an Encoder but for its dimensions, which nobody asks for
        for source, n in (("bm25", n_pairs - n_pairs // 2), ("embedding", n_pairs // 2)):
            found = neighbour_pairs(source, queries, items, known, n, depth=DEPTH, seed=SEED, encoder=encoder)
            known = pl.concat([known, found.select("query", "item_id")])
            parts.append(found.with_columns(source=pl.lit(source)))
        pool = pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=SEED)
        return judged.select(*PAIR_SCHEMA), pool.select(*PAIR_SCHEMA)


@dataclass(frozen=True)
class _Embedder:
    """A sentence encoder in the place of static vectors; it has one prefix for item texts and one for queries."""

    backbone: Backbone

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(N, d) float32 of length 1 each."""
        return self._embedded(embedding_rule(self.backbone).query_prefix, queries)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same of item texts."""
        return self._embedded(embedding_rule(self.backbone).text_prefix, texts)

    def _embedded(self, prefix: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return embed(self.backbone, [prefix + text for text in texts], _EMBEDDED_TOKENS)


def main() -> None:
    """Label the parts in order, those that are done already are skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, help="how many parts after the judged pairs (default: all)")
    parser.add_argument("--quick", action="store_true", help="a small form that shows that it runs")
    arguments = parser.parse_args()
    pool = Pool(HomeDepot.prepared(), quick=arguments.quick)
    n_parts = len(pool.names) if arguments.parts is None else arguments.parts + 1
    for name in pool.names[:n_parts]:
        print(pool.part(name))


if __name__ == "__main__":
    run_main(main)
