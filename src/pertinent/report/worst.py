"""The queries a system ranks worst, with their items side by side and what every system said of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.evaluation.metrics import Judgments, ndcg, rank
from pertinent.report import numbers
from pertinent.report.definitions import FLOORS, system_name
from pertinent.report.numbers import Cell
from pertinent.report.run_files import RunFiles

CUTOFF = 10
_TOP_ITEMS = 6
_BEST_ITEMS = 4
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class WorstItem:
    """One judged item of a query: its title (its id where it has none), shown grade, and what each system said.

    ranks: a cell a system, the rank with the most likely grade and its probability, or the score where there is none.
    """

    item_id: str
    title: str
    grade: int
    ranks: tuple[Cell, ...]


@dataclass(frozen=True)
class WorstQuery:
    """A query with its nDCG by system; items by the system's rank, and how many were left out."""

    query: str
    language: str
    language_tag: str
    ndcgs: tuple[Cell, ...]
    items: tuple[WorstItem, ...]
    n_hidden: int


@dataclass(frozen=True)
class Worst:
    """The worst queries of ``system``, lowest nDCG first; where there are none, ``gap`` says why."""

    system: str
    systems: tuple[str, ...]
    queries: tuple[WorstQuery, ...]
    gap: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the compared systems as shown."""
        return tuple(system_name(system) for system in self.systems)


def worst_queries(run: RunFiles, system: str = "student", limit: int = 20) -> Worst:
    """The ``limit`` held-out queries with the lowest nDCG@10 by ``system``, ties by query id."""
    scored = run.scored_systems
    systems = tuple(s for s in scored if s not in FLOORS)
    if run.scores.height == 0:
        return Worst(system, systems, (), "evaluation/scores.parquet is missing or has no test pair.")
    if system not in scored:
        return Worst(system, systems, (), f"evaluation/scores.parquet has no scores of the {system}.")
    if not np.isfinite(_scores(run.scores, system)).all():
        return Worst(
            system, systems, (), f"A score of the {system} is missing or not finite, so its queries have no order."
        )
    by_system = {s: _ndcgs(run.scores, s, run.n_grades) for s in systems}
    worst = sorted(by_system[system].items(), key=lambda pair: (pair[1], pair[0]))[:limit]
    if not worst:
        return Worst(system, systems, (), "No held-out query has an item above the lowest grade.")
    chosen = [query_id for query_id, _ in worst]
    groups = run.scores.filter(pl.col("query_id").is_in(chosen)).partition_by("query_id", as_dict=True)
    kept = {query_id: _chosen_items(groups[(query_id,)], system, systems) for query_id in chosen}
    probabilities = {s: run.probability_columns(s) for s in systems}
    titles = run.titles(item_id for rows in kept.values() for item_id in rows["item_id"])
    queries = []
    for query_id in chosen:
        cells = tuple(_ndcg_cell(by_system[s], query_id) for s in systems)
        queries.append(_query(groups[(query_id,)], kept[query_id], cells, probabilities, titles))
    return Worst(system, systems, tuple(queries))


def _ndcgs(pairs: pl.DataFrame, system: str, n_grades: int) -> dict[str, float]:
    """nDCG of each query that has one; empty where a score is not finite."""
    scores = _scores(pairs, system)
    if not np.isfinite(scores).all():
        return {}
    query_ids = pairs["query_id"].to_numpy()
    found = ndcg(rank(Judgments.of(query_ids, pairs["grade"].to_numpy(), n_grades), scores, system), CUTOFF)
    names = np.unique(query_ids).tolist()
    return {name: float(value) for name, value in zip(names, found.values, strict=True) if np.isfinite(value)}


def _ndcg_cell(ndcgs: Mapping[str, float], query_id: str) -> Cell:
    value = ndcgs.get(query_id)
    return Cell(gap="a score is missing or not finite") if value is None else Cell(numbers.decimals(value))


def _chosen_items(pairs: pl.DataFrame, system: str, systems: tuple[str, ...]) -> pl.DataFrame:
    """The first few items by ``system``, and the best judged of the others, with every system's rank."""
    ranks = (
        pl.when(pl.col(s).is_finite()).then(pl.col(s)).rank("min", descending=True).alias(_rank_column(s))
        for s in systems
    )
    ranked = pairs.with_columns(pl.col(systems).cast(pl.Float64)).with_columns(*ranks)
    ranked = ranked.sort(_rank_column(system), pl.col("grade"), "item_id")
    best = ranked[_TOP_ITEMS:].sort(pl.col("grade"), descending=True, maintain_order=True)[:_BEST_ITEMS]
    return pl.concat([ranked[:_TOP_ITEMS], best]).sort(_rank_column(system), "grade", "item_id")


def _query(
    pairs: pl.DataFrame,
    kept: pl.DataFrame,
    ndcgs: tuple[Cell, ...],
    probabilities: Mapping[str, list[str]],
    titles: Mapping[str, str],
) -> WorstQuery:
    first = pairs.row(0, named=True)
    language = str(first.get("language") or "")
    items = tuple(_item(row, probabilities, titles) for row in kept.iter_rows(named=True))
    tag = language if _LANGUAGE_TAG.fullmatch(language) else ""
    return WorstQuery(first["query"], language, tag, ndcgs, items, pairs.height - kept.height)


def _item(row: Mapping[str, Any], probabilities: Mapping[str, list[str]], titles: Mapping[str, str]) -> WorstItem:
    """probabilities: the columns of each system's, none where it gives none, in the order of the cells."""
    item_id = row["item_id"]
    ranks = tuple(_rank_cell(row[_rank_column(s)], row[s], _said(row, columns)) for s, columns in probabilities.items())
    return WorstItem(item_id, titles.get(item_id) or item_id, row["grade"] + 1, ranks)


def _rank_cell(position: int | None, score: float | None, said: str) -> Cell:
    if position is None or score is None:
        return Cell(gap="no score for this item")
    return Cell(str(position), said or f"{score:.2f}")


def _said(row: Mapping[str, Any], columns: list[str]) -> str:
    """``L4 62%``: the most likely grade by the system's own probabilities; nothing where it gives none."""
    probs = [value for column in columns if (value := numbers.measured(row[column])) is not None]
    if not probs or len(probs) < len(columns):
        return ""
    return f"L{int(np.argmax(probs)) + 1} {numbers.percent(max(probs))}"


def _rank_column(system: str) -> str:
    return f"rank of {system}"


def _scores(pairs: pl.DataFrame, system: str) -> NDArray[np.float64]:
    return pairs[system].cast(pl.Float64).fill_null(float("nan")).to_numpy()
