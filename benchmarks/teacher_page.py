"""The teachers' part of the page of results: language models, losses, speed, and heads that survive saving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_tables import cell, number, shown, table, target_lines
from pertinent.files import read_json

Row = Mapping[str, Any]
METRICS = ("accuracy", "auroc_2+", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy", "ndcg@20", "ece")


@dataclass(frozen=True)
class Column:
    """One column: its head, and the text of a row's cell."""

    head: str
    text: Callable[[Row], str]


@dataclass(frozen=True)
class Part:
    """One table of a benchmark. lead: the sentence before it. rows: which rows of the results file it has."""

    lead: str
    rows: Callable[[Row], bool]
    columns: Sequence[Column]


def measured(metric: str) -> Column:
    """A metric on test, with its interval."""
    return Column(shown(metric), lambda row: cell(row, metric))


def figure(head: str, key: str, form: str) -> Column:
    """A figure in a form of its own; "-" where the row has none."""
    return Column(head, lambda row: "-" if row.get(key) is None else format(row[key], form))


def rate(row: Row) -> str:
    """Pairs a second: the median of the rounds, the lowest and the highest."""
    return f"{row['pairs_per_s']:,.1f} <sub>{row['lowest']:,.1f}-{row['highest']:,.1f}</sub>"


NAME = Column("row", lambda row: str(row["row"]))
PAIRS = figure("test pairs", "n_pairs", ",")
TRAINED = figure("train s", "train_seconds", ",.0f")
MEMORY = figure("peak GiB", "peak_gib", ".2f")
DEV_AUROC = Column("mean AUROC on dev", lambda row: number(row.get("dev_auroc")))
ON_DEV = [Column(shown(metric), lambda row, metric=metric: number(row.get(f"dev_{metric}"))) for metric in METRICS]  # type: ignore[misc]

TITLES = {
    "teacher_models": "Teachers: language models (Home Depot)",
    "teacher_losses": "Teachers: losses and heads (Home Depot)",
    "alternatives": "What a team would pick instead (Home Depot)",
    "teacher_speed": "Teachers: speed of training and scoring",
    "head_round_trip": "Teachers: heads that survive saving",
}
PARTS = {
    "teacher_models": [
        Part(
            "On test. Where there are fewer test pairs than in the other rows, they are the first ones by query.",
            lambda row: "accuracy" in row,
            [NAME, *map(measured, METRICS), DEV_AUROC, PAIRS, TRAINED, MEMORY],
        ),
        Part(
            "The search for the best one, on dev alone: no row of it has read a test pair.",
            lambda row: "accuracy" not in row,
            [NAME, *ON_DEV, DEV_AUROC, TRAINED, MEMORY],
        ),
    ],
    "teacher_losses": [
        Part(
            "A row is a loss and a seed; the loss is chosen by its mean AUROC on dev.",
            lambda row: True,
            [NAME, *map(measured, METRICS), measured("qwk"), DEV_AUROC, TRAINED, MEMORY],
        )
    ],
    "alternatives": [
        Part(
            "LightGBM on lexical features and sentence-transformers' CrossEncoder, each with its own defaults; the cross-encoder of "
            "4,000 rows is measured on the first 2,000 test pairs by query.",
            lambda row: True,
            [NAME, *map(measured, METRICS), figure("train rows", "train_rows", ","), PAIRS, TRAINED, MEMORY],
        )
    ],
    "teacher_speed": [
        Part(
            "Pairs a second, the median of the rounds with the lowest and the highest; AUROC on dev.",
            lambda row: "pairs_per_s" in row,
            [
                NAME,
                Column("pairs/s", rate),
                figure("share of peak", "share_of_peak", ".0%"),
                MEMORY,
                *(Column(shown(metric), lambda row, metric=metric: number(row.get(metric))) for metric in METRICS[2:5]),  # type: ignore[misc]
            ],
        )
    ],
    "head_round_trip": [
        Part(
            "The largest difference of a logit from those of the network that was trained, over 64 pairs; and what it would "
            "be with a fresh head, which shows that the check can fail.",
            lambda row: True,
            [
                NAME,
                figure("largest difference", "largest_difference", ".1e"),
                figure("with a fresh head", "with_a_fresh_head", ".2f"),
                MEMORY,
            ],
        )
    ],
}


def teacher_sections(results: Path) -> list[str]:
    """A section for each of the teachers' benchmarks whose results file exists. results: the folder of the files."""
    found = []
    for name, title in TITLES.items():
        if (file := results / f"{name}.json").is_file():
            found += [f"## {title}", *benchmark_section(read_json(file), PARTS[name])]
    return found


def benchmark_section(document: Mapping[str, Any], parts: Sequence[Part]) -> list[str]:
    """The tables that have a row, how the rows were made, and the targets."""
    found = []
    for part in parts:
        if rows := [row for row in document["rows"] if part.rows(row)]:
            cells = [[column.text(row) for column in part.columns] for row in rows]
            found += [part.lead, table([column.head for column in part.columns], cells)]
    return [*found, made(document), target_lines(document["targets"])]


def made(document: Mapping[str, Any]) -> str:
    """When, where and by which code the rows were made, each way told once."""
    ways: dict[str, list[str]] = {}
    for row in document["rows"]:
        way = f"{row['machine']}; {row['date']}; commit {row['commit']}"
        if row.get("teacher_code") not in (None, row["commit"]):
            way += f", teacher of {row['teacher_date']} at {row['teacher_code']}"
        ways.setdefault(way, []).append(str(row["row"]))
    script = f"`python benchmarks/{document['benchmark']}.py`"
    if len(ways) == 1:
        return f"{next(iter(ways))}; {script}."
    return "\n".join([f"Made by {script}:", *(f"- {', '.join(names)}: {way}" for way, names in ways.items())])
