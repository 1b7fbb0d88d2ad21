"""Home Depot as the benchmarks read it: data and text made once, teachers kept in the user's cache, one way to measure."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common import ROOT
from pertinent.config import parse_config
from pertinent.data.build import Dataset, load_dataset
from pertinent.evaluation import evaluate, training_prior, with_baselines
from pertinent.features.corpus import FIELDS, CorpusStatistics, LexicalItems
from pertinent.features.lexical import FEATURE_NAMES, lexical_features
from pertinent.features.terms import terms_of
from pertinent.files import cache_folder
from pertinent.pipeline import RunConfig, load_run_config, run_pipeline
from pertinent.pipeline.evaluate import with_system
from pertinent.pipeline.stage import read_manifest, run_stage
from pertinent.progress import progress
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.saving import combine_teachers, load_teacher
from pertinent.text.item_texts import ItemTexts

CONFIG = ROOT / "configs" / "homedepot.yaml"
RESAMPLES = 1000


@dataclass(frozen=True)
class HomeDepot:
    """The data and text stages of configs/homedepot.yaml, in the user's cache.

    max_test_pairs: a limit on test pairs, all of them if None; 0 where only dev is read, as for a choice.
    """

    config: RunConfig
    max_test_pairs: int | None = None

    @classmethod
    def prepared(
        cls, max_test_pairs: int | None = None, *, fields: Sequence[str] | None = None, drop_repeats: bool = False
    ) -> HomeDepot:
        """Make the two stages, or take them where they are up to date.

        fields: of the item text, the config's if None. drop_repeats: write what fields repeat once.
        """
        changes = [f"output={cache_folder() / 'benchmarks'}"]
        config = load_run_config(CONFIG, changes)
        if fields is not None:
            kept = [field.model_dump() for field in config.text.fields if field.name in fields]
            changes += [f"name=homedepot-{'-'.join(fields)}", f"text.fields={json.dumps(kept)}"]
        if drop_repeats:
            changes += ["name=homedepot-repeats-once", "text.drop_repeats=true"]
        config = load_run_config(CONFIG, changes)
        run_pipeline(config, until="text")
        return cls(config, max_test_pairs)

    @property
    def data(self) -> Path:
        """The data stage's folder."""
        return self.config.folder / "data"

    @property
    def text(self) -> Path:
        """The text stage's folder."""
        return self.config.folder / "text"

    @cached_property
    def dataset(self) -> Dataset:
        """Items and judgments."""
        return load_dataset(self.data)

    @cached_property
    def texts(self) -> dict[str, str]:
        """item_id -> what a teacher reads."""
        return dict(ItemTexts.read(self.text).served.select("item_id", "text").iter_rows())

    def features(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """The lexical features of pairs (query, item_id): (N, F), with statistics of the whole catalogue."""
        statistics, lexical, row_of = self.lexical
        features = np.empty((pairs.height, len(FEATURE_NAMES)), dtype=np.float32)
        with progress("lexical features", pairs.height, "pairs") as bar:
            for (query,), group in pairs.with_row_index("pair").group_by(["query"], maintain_order=True):
                rows = np.array([row_of[item] for item in group["item_id"]], dtype=np.int64)
                features[group["pair"].to_numpy()] = lexical_features(str(query), lexical.take(rows), statistics)
                bar.advance(rows.size)
        return features

    @cached_property
    def lexical(self) -> tuple[CorpusStatistics, LexicalItems, dict[str, int]]:
        """Statistics of the catalogue, its items, and the row of each item_id."""
        items = ItemTexts.read(self.text, FIELDS).served
        texts = {field: items[field].to_list() for field in FIELDS}
        statistics = CorpusStatistics.of({field: [terms_of(text) for text in texts[field]] for field in FIELDS})
        row_of = {item: row for row, item in enumerate(items["item_id"])}
        return statistics, LexicalItems.of(texts, statistics), row_of

    @cached_property
    def held_out(self) -> pl.DataFrame:
        """Dev and test pairs; with a limit, the test pairs of the first queries by query_id."""
        columns = ("query_id", "query", "item_id", "grade", "language", "split")
        pairs = self.dataset.judgments.select(columns)
        test = pairs.filter(pl.col("split") == "test").sort("query_id", "item_id")
        return pl.concat(
            [
                pairs.filter(pl.col("split") == "dev"),
                test.head(test.height if self.max_test_pairs is None else self.max_test_pairs),
            ]
        )

    def queries_and_texts(self) -> tuple[list[str], list[str]]:
        """Of the held-out pairs, in their order."""
        return self.held_out["query"].to_list(), [self.texts[item] for item in self.held_out["item_id"]]

    def train(self, row: str, changes: Mapping[str, Any], seed: int) -> Path:
        """The folder of a teacher of the config with ``changes``; a finished one of the same kind is taken as it is."""
        tree = {**self.config.teacher.model_dump(mode="json"), **changes}
        config = parse_config(TeacherConfig, tree, row)
        backbone = resolve_backbone(config.backbone)
        inputs = {part.name: manifest_of(part)["key"] for part in (self.data, self.text)}
        folder = cache_folder() / "benchmarks" / "teachers" / f"{row.replace('/', '-')}-{seed}"

        def work(out: Path) -> Any:
            from pertinent.teacher.train import train_teacher

            return train_teacher(config, self.data, self.text, out, backbone=backbone, seed=seed)

        run_stage(
            "teacher",
            folder,
            config=config.model_dump(mode="json"),
            seed=seed,
            inputs={**inputs, "backbone": backbone.description},
            work=work,
        )
        return folder

    def teacher_figures(self, *folders: Path) -> dict[str, Any]:
        """Metrics with intervals, seconds of training and dev figures; of several teachers, the mean of their probabilities."""
        queries, texts = self.queries_and_texts()
        with combined(folders) as folder, progress(f"score with {folder.name}", len(queries), "pairs") as bar:
            probs = load_teacher(folder).score(queries, texts, bar)
        manifests = [manifest_of(folder) for folder in folders]
        counts = manifests[0]["counts"]
        made = {
            "train_rows": counts.get("train_rows"),
            "train_seconds": round(sum(manifest["seconds"] for manifest in manifests), 1),
            # A teacher may be older than the row that measures it: its own code and date are told.
            "teacher_code": manifests[0]["code"],
            "teacher_date": manifests[0]["created_at"][:10],
            "backbone": named(counts["backbone"]),
        }
        return {**self.figures(probs=probs), **made}

    def figures(
        self,
        *,
        scores: NDArray[np.float64] | None = None,
        probs: NDArray[np.float32] | None = None,
        baseline: str | None = None,
    ) -> dict[str, Any]:
        """Metrics and intervals on test of a system that gives scores or probabilities of the held-out pairs.

        baseline: random or majority, in place of either. Also "dev": the same metrics on dev, of the probabilities that
        dev itself calibrated; "dev" alone where no test pair is read.
        """
        frame = self.held_out
        name = baseline or "system"
        if baseline is not None:
            train = self.dataset.judgments.filter(pl.col("split") == "train")
            prior = training_prior(train["grade"].to_numpy(), self.dataset.scale.n_grades)
            frame = with_baselines(frame, prior, self.dataset.scale, seed=0)
        elif probs is not None:
            frame = with_system(frame, "system", probs, self.dataset.scale)
        else:
            assert scores is not None
            frame = frame.with_columns(pl.Series("system", scores))
        on_dev = _dev_as_test(frame)
        dev = {"dev": self._measure(on_dev, name, 0)["systems"][name]}
        if self.max_test_pairs == 0:
            return dev
        found = self._measure(frame, name, RESAMPLES)
        return {**found["systems"][name], "intervals": found["intervals"][name], **dev}

    def _measure(self, frame: pl.DataFrame, name: str, resamples: int) -> dict[str, Any]:
        return evaluate(frame, self.dataset.scale, systems=[name], slice_columns=(), resamples=resamples).metrics


@contextmanager
def combined(folders: Sequence[Path]) -> Iterator[Path]:
    """The folder, or, of several, one for the time of the block whose probabilities are the mean of theirs."""
    if len(folders) == 1:
        yield folders[0]
        return
    with tempfile.TemporaryDirectory(dir=folders[0].parent) as work:  # where files can be linked
        out = Path(work) / "teacher"
        combine_teachers(folders, out)
        yield out


def named(backbone: str) -> str:
    """A backbone's description with the last two parts of its folder alone: where it lay is nobody's concern."""
    where, comma, rest = backbone.partition(",")
    return "/".join(Path(where).parts[-2:]) + comma + rest if Path(where).is_absolute() else backbone


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a finished stage."""
    found = read_manifest(folder)
    assert found is not None, f"{folder}: not finished"
    return found


def _dev_as_test(frame: pl.DataFrame) -> pl.DataFrame:
    """The dev pairs as the test split, and beside them, under other names, as the dev split that grades are fitted on."""
    dev = frame.filter(pl.col("split") == "dev")
    return pl.concat(
        [dev.with_columns(query_id="fitted:" + pl.col("query_id")), dev.with_columns(split=pl.lit("test"))]
    )
