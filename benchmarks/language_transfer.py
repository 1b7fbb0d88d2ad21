"""Quality in languages that nobody judged: a teacher trained on English judgments alone, and a student on its labels.

    PERTINENT_DATA=FOLDER python benchmarks/language_transfer.py

The teacher (multilingual-e5-small) learns CxC's English judgments. It labels one half of Flickr8k, split by query and image:
Chinese queries with Chinese and with Arabic item text, and English ones with English text, so that the English that the
others are set against has had the same help; no human label of Flickr8k is among them. Student: those labels and the
teacher's of CxC's training pairs; it stops early by CxC's dev. Rows: cxc, the teacher in its own language and data;
labels; flickr8k/SYSTEM/QUERY-TEXT for the systems embedding, teacher and student in six cells of query and text language, on
the human judgments of the other half (experts: 3 raters, 1-4; crowd: share of yes); kuake/SYSTEM, KUAKE-QTR's medical
queries, a far domain; xtd10/SYSTEM/LANGUAGE, which tells matching across translation and no more: one true English caption
among 19 others. AUROC (relevant: mean of experts from 2.5, crowd from half, KUAKE from 2) and Kendall's tau-b, both with
95% intervals by query. The rows take some hour and a half on 2 cores by the speeds of other benchmarks; teacher, labels and
student are stages in the user's cache that go on where they were killed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import kendalltau

from common import (
    Target,
    measure_rows,
    run_main,
)
from homedepot import manifest_of
from pertinent.bundle.scorer import open_bundle
from pertinent.config import parse_config
from pertinent.data.build import load_dataset, load_scale
from pertinent.evaluation import evaluate
from pertinent.evaluation.intervals import intervals_of, percentile_interval
from pertinent.evaluation.pooled import PooledAuroc
from pertinent.evaluation.statistics import value_of
from pertinent.files import cache_folder, write_parquet
from pertinent.labelling.config import LabelsConfig
from pertinent.labelling.label import label_pairs
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.stage import run_stage
from pertinent.progress import progress
from pertinent.student.config import StudentConfig
from pertinent.student.train import train_student
from pertinent.teacher.backbones import embedding_rule, resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.embed import cosine_scores, embed
from pertinent.teacher.saving import load_teacher
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult
from transfer_data import CELLS, RELEVANT, XTD10, TransferData

SYSTEMS = ("embedding", "teacher", "student")
LABELLED = (("en", "en"), ("zh", "zh"), ("zh", "ar"))
NEAREST, RANDOM = 25, 15  # items of a query that are labelled, in each text language
RESAMPLES = 300
MAX_TOKENS = 112  # of a text that is embedded, as of the teacher
COLUMNS = ("auroc_expert", "kendall_expert", "auroc_crowd", "kendall_crowd", "auroc", "kendall", "pairs", "accuracy")


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows(
        "language_transfer", __doc__, lambda quick: Bench(quick=quick).rows(), targets, columns=COLUMNS, seeds=[0]
    )


@dataclass(frozen=True)
class Bench:
    """The rows by name; data are prepared when a row asks for them."""

    quick: bool

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it."""
        made: dict[str, Callable[[], dict[str, Any]]] = {"cxc": self._own_language, "labels": self._label_counts}
        for system in SYSTEMS:
            for query, text in CELLS:
                made[f"flickr8k/{system}/{query}-{text}"] = (
                    lambda system=system, query=query, text=text: self._cell(system, query, text)  # type: ignore[misc]
                )
        for system in SYSTEMS:
            made[f"kuake/{system}"] = lambda system=system: self._pairs_of(system, self.data.kuake())  # type: ignore[misc]
            for language in XTD10:
                made[f"xtd10/{system}/{language}"] = (
                    lambda system=system, language=language: self._pairs_of(system, self.data.xtd10(language))  # type: ignore[misc]
                )
        return made

    @cached_property
    def data(self) -> TransferData:
        """CxC and the catalogue of all."""
        return TransferData.prepared()

    @cached_property
    def texts(self) -> ItemTexts:
        """What a teacher reads of the catalogue's items."""
        return ItemTexts.read(self._text)

    def _own_language(self) -> dict[str, Any]:
        """The teacher on CxC's own test pairs."""
        dataset = load_dataset(self.data.cxc.folder / "data")
        frame = dataset.judgments.filter(pl.col("split") != "train")
        frame = frame.select("query_id", "query", "item_id", "grade", "split")
        frame = pl.concat([self._cut(frame.filter(pl.col("split") == split)) for split in ("dev", "test")])
        frame = with_system(frame, "teacher", self._by_teacher(frame), dataset.scale)
        found = evaluate(frame, dataset.scale, systems=["teacher"], slice_columns=()).metrics
        seconds = {"train_seconds": manifest_of(self._teacher())["seconds"]}
        return {**found["systems"]["teacher"], "intervals": found["intervals"]["teacher"], **seconds}

    def _label_counts(self) -> dict[str, Any]:
        manifest = manifest_of(self._labels())
        told = ("pairs", "by_source", "by_language", "grade_shares", "mean_entropy_nats")
        return {**{name: manifest["counts"][name] for name in told}, "label_seconds": manifest["seconds"]}

    def _cell(self, system: str, query: str, text: str) -> dict[str, Any]:
        """AUROC and tau in one cell, against experts and against the crowd."""
        pairs = self._cut(self.data.cell(query, text))
        scores = self._scores(system, pairs)
        figures: dict[str, Any] = {"intervals": {}}
        for source in ("expert", "crowd"):
            rows = np.flatnonzero((pairs["source"] == source).to_numpy())
            for name, value in against_people(pairs[rows], scores[rows]).items():
                if name == "intervals":
                    figures["intervals"] |= {f"{metric}_{source}": interval for metric, interval in value.items()}
                else:
                    figures[f"{name}_{source}"] = value
        return figures

    def _pairs_of(self, system: str, pairs: pl.DataFrame) -> dict[str, Any]:
        pairs = self._cut(pairs)
        return against_people(pairs, self._scores(system, pairs))

    def _scores(self, system: str, pairs: pl.DataFrame) -> NDArray[np.float64]:
        """(N,) float64, higher is better, of pairs (query, item_id)."""
        if system == "embedding":
            backbone = resolve_backbone(self.data.cxc.teacher.backbone)
            return cosine_scores(backbone, pairs["query"].to_list(), self.texts.of_items(pairs["item_id"]), MAX_TOKENS)
        if system == "teacher":
            return expected_grade(self._by_teacher(pairs))
        distinct = pairs.select("query", "item_id").unique(maintain_order=True)
        names = load_scale(self._data).probability_columns
        scored = open_bundle(self._student()).score_pairs(distinct).select(names)
        scored = distinct.with_columns(pl.Series("score", expected_grade(scored.to_numpy())))
        return pairs.join(scored, on=["query", "item_id"], how="left", maintain_order="left")["score"].to_numpy()

    def _by_teacher(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        texts = self.texts.of_items(pairs["item_id"])
        with progress("teacher", pairs.height, "pairs") as bar:
            return load_teacher(self._teacher()).score(pairs["query"].to_list(), texts, bar)

    def _teacher(self) -> Path:
        """Trained on CxC's English training judgments and nothing else: a stage in the cache."""
        run = self.data.cxc
        limits: dict[str, Any] = {"max_train_rows": 200, "epochs": 1} if self.quick else {}
        config = parse_config(TeacherConfig, {**run.teacher.model_dump(mode="json"), **limits}, "language_transfer")
        backbone = resolve_backbone(config.backbone)
        data, text = run.folder / "data", run.folder / "text"

        def work(out: Path) -> StageResult:
            from pertinent.teacher.train import train_teacher

            return train_teacher(config, data, text, out, backbone=backbone, seed=0)

        inputs = {**_keys(data, text), "backbone": backbone.description}
        return self._stage("teacher", config.model_dump(mode="json"), inputs, work)

    def _labels(self) -> Path:
        """The teacher's labels of the unjudged half in LABELLED, and of CxC's training pairs: a stage in the cache."""
        teacher = self._teacher()
        inputs = {**_keys(self._data, self._text), "teacher": manifest_of(teacher)["key"]}
        settings = {"labelled": [list(pair) for pair in LABELLED], "nearest": NEAREST, "random": RANDOM}

        def work(out: Path) -> StageResult:
            pairs = out / "pairs.parquet"
            if not pairs.is_file():
                write_parquet(pairs, self._unjudged_pairs())
            config = LabelsConfig(pairs=pairs, unit_pairs=1024)
            return label_pairs(config, self._data, self._text, teacher, out, seed=0)

        return self._stage("labels", settings, inputs, work)

    def _student(self) -> Path:
        labels = self._labels()
        config = StudentConfig(epochs=1) if self.quick else StudentConfig()
        inputs = {**_keys(self._data, self._text), "labels": manifest_of(labels)["key"]}

        def work(out: Path) -> StageResult:
            return train_student(config, self._data, self._text, labels, out, seed=0)

        return self._stage("student", config.model_dump(mode="json"), inputs, work)

    def _unjudged_pairs(self) -> pl.DataFrame:
        """query, item_id, language, source: nearest and random images of each query of the labelled half, and CxC's pairs."""
        judged = load_dataset(self._data).judgments.filter(pl.col("split") == "train")
        parts = [
            self._cut(judged.select("query", "item_id", pl.lit("en").alias("language"), pl.lit("cxc").alias("source")))
        ]
        queries, images = self.data.unjudged
        rng = np.random.default_rng(0)
        for query_language, text_language in LABELLED:
            written = queries[query_language][: 5 if self.quick else None]
            ids = np.array([f"flickr8k/{image}/{text_language}" for image in images], dtype=object)
            nearest = self._nearest(written, self.texts.of_items(ids))
            for row, query in enumerate(written):
                drawn = rng.choice(len(ids), RANDOM, replace=False)
                items = ids[np.unique(np.concatenate([nearest[row], drawn]))].tolist()
                source = f"flickr8k {query_language}-{text_language}"
                columns = {"query": [query] * len(items), "item_id": items}
                parts.append(pl.DataFrame(columns).with_columns(language=pl.lit(query_language), source=pl.lit(source)))
        return pl.concat(parts).unique(["query", "item_id"], keep="first", maintain_order=True)

    def _nearest(self, queries: list[str], texts: list[str]) -> NDArray[np.int64]:
        """(Q, NEAREST) places of the texts nearest to each query by the untrained encoder."""
        backbone = resolve_backbone(self.data.cxc.teacher.backbone)
        rule = embedding_rule(backbone)
        vectors = embed(backbone, [rule.text_prefix + text for text in texts], MAX_TOKENS)
        near = embed(backbone, [rule.query_prefix + query for query in queries], MAX_TOKENS) @ vectors.T
        return np.argsort(-near, axis=1, kind="stable")[:, :NEAREST]

    def _stage(
        self, name: str, config: Mapping[str, Any], inputs: Mapping[str, str], work: Callable[[Path], StageResult]
    ) -> Path:
        shown = f"quick-{name}" if self.quick else name
        folder = cache_folder() / "benchmarks" / "language_transfer" / "stages" / shown
        run_stage(name, folder, config=config, seed=0, inputs=inputs, work=work)
        return folder

    def _cut(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """All pairs; in the quick form a few that are spread over them."""
        return pairs.gather_every(max(pairs.height // 120, 1)) if self.quick else pairs

    @property
    def _data(self) -> Path:
        return self.data.catalogue.folder / "data"

    @property
    def _text(self) -> Path:
        return self.data.catalogue.folder / "text"


def expected_grade(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) float64: the mean of the grades under (N, n) probabilities."""
    return np.asarray(probs, dtype=np.float64) @ np.arange(probs.shape[1])


def against_people(pairs: pl.DataFrame, scores: NDArray[np.float64]) -> dict[str, Any]:
    """auroc, kendall (tau-b), their 95% intervals over queries, pairs, queries and the share of relevant pairs.

    pairs: source (one of RELEVANT, the same throughout), query_id, human. scores: (N,).
    """
    human = pairs["human"].to_numpy().astype(np.float64)
    positive = human >= RELEVANT[pairs["source"][0]]
    codes = pairs["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
    n_queries = int(codes.max()) + 1
    auroc = PooledAuroc.of(codes, n_queries, positive, scores)
    tau, tau_interval = _kendall(human, scores, codes, n_queries)
    return {
        "auroc": value_of(auroc),
        "kendall": tau,
        "intervals": {"auroc": intervals_of({"auroc": auroc}, resamples=RESAMPLES)["auroc"], "kendall": tau_interval},
        "pairs": pairs.height,
        "queries": n_queries,
        "relevant": round(float(positive.mean()), 4),
    }


def _kendall(
    human: NDArray[np.float64], scores: NDArray[np.float64], codes: NDArray[np.int64], n_queries: int
) -> tuple[float, tuple[float, float] | None]:
    """Tau-b over all pairs, and its percentile interval over resampled queries."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_queries + 1))
    rows_of = [order[start:stop] for start, stop in itertools.pairwise(starts)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rows_of[query] for query in rng.integers(0, n_queries, n_queries)])
        drawn.append(float(kendalltau(human[rows], scores[rows]).statistic))
    return float(kendalltau(human, scores).statistic), percentile_interval(np.array(drawn))


def _keys(*folders: Path) -> dict[str, str]:
    return {folder.name: manifest_of(folder)["key"] for folder in folders}


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Chinese queries on Chinese text against English on English, by the experts: the share of the AUROC gain over chance."""
    found = []
    for system in ("teacher", "student"):
        english, chinese = (
            rows.get(f"flickr8k/{system}/{cell}", {}).get("auroc_expert") for cell in ("en-en", "zh-zh")
        )
        share = None
        if english is not None and chinese is not None and english > 0.5:
            share = round((chinese - 0.5) / (english - 0.5), 4)
        found.append(Target(f"{system}, Chinese AUROC gain over chance as a share of English", 0.9, ">=", share))
    return found


if __name__ == "__main__":
    run_main(main)
