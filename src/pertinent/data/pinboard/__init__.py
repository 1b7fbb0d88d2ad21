"""Pinboard: a generated stand-in for a pin catalogue in nine languages, to try the whole chain on without data.

It is deterministic, and fair rather than kind: words shared by query and item help a lexical ranker, while synonyms,
siblings, typos and items in another language need more. No quality claim rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pertinent.data.folder import DatasetDescription, ScaleDescription, write_description
from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.items import Pin, make_pins, make_things
from pertinent.data.pinboard.judging import judge
from pertinent.data.pinboard.queries import Query, make_queries
from pertinent.data.pinboard.size import PinboardSize
from pertinent.data.pinboard.traffic import engaged_queries, make_log
from pertinent.data.pinboard.words import LANGUAGES, load_catalogue, load_words
from pertinent.errors import DataError
from pertinent.files import atomic_path
from pertinent.types import PAPER_GUIDELINES

__all__ = [
    "LANGUAGES",
    "PINBOARD_VERSION",
    "Pinboard",
    "PinboardSize",
    "generate_pinboard",
    "make_pinboard",
    "write_pinboard",
]

PINBOARD_VERSION = 1  # raised, and the reason logged, with any change of the frozen files
NOTE = "Generated stand-in data: no quality claim rests on it."


@dataclass(frozen=True)
class Pinboard:
    """Pinboard in memory, with the truth that its files do not tell. pins' rows, judgments, log: rows of the files."""

    pins: list[Pin]
    queries: list[Query]
    judgments: list[dict[str, Any]]
    log: list[dict[str, Any]]


def generate_pinboard(out: Path, seed: int = 0, size: PinboardSize | None = None) -> None:
    """Write Pinboard as a dataset folder: items.jsonl, judgments.jsonl, log.jsonl and dataset.yaml.

    out: an existing folder. The same seed, size and PINBOARD_VERSION give the same bytes on every machine.
    Raises DataError where ``out`` cannot be written.
    """
    write_pinboard(make_pinboard(seed, size), out)


def write_pinboard(board: Pinboard, out: Path) -> None:
    """Write the four files of a Pinboard into ``out``, an existing folder. Raises DataError where it cannot."""
    try:
        _write_lines(out / "items.jsonl", (pin.row for pin in board.pins))
        _write_lines(out / "judgments.jsonl", board.judgments)
        _write_lines(out / "log.jsonl", board.log)
        write_description(out, _description())
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from None


def make_pinboard(seed: int = 0, size: PinboardSize | None = None) -> Pinboard:
    """Make Pinboard in memory. Queries are split by the default rule of `pertinent.data.splits`."""
    size = size or PinboardSize()
    catalogue = load_catalogue()
    words = {code: load_words(code, catalogue) for code in LANGUAGES}
    counts = size.per_language(size.n_items, LANGUAGES)
    draw = Draw(seed, "items")
    things = make_things(draw, catalogue, words["en"])
    languages = draw.shuffled([code for code, n in counts.items() for _ in range(n)])
    pins = make_pins(draw, things, catalogue, words, languages)
    by_language = make_queries(Draw(seed, "queries"), pins, words, size)
    queries = [query for own in by_language.values() for query in own]
    judgments = judge(Draw(seed, "judgments"), queries, pins, size.n_candidates)
    log = make_log(Draw(seed, "log"), by_language, pins, words, size)
    engaged = engaged_queries(log, queries)
    for pin in pins:
        pin.row["engaged_queries"] = engaged.get(pin.item_id)
    return Pinboard(pins, queries, judgments, log)


def _description() -> DatasetDescription:
    return DatasetDescription(
        name="pinboard",
        generated=True,
        note=NOTE,
        licence="Apache-2.0",
        languages=list(LANGUAGES),
        attributes=["category"],
        scale=ScaleDescription(guidelines=list(PAPER_GUIDELINES)),
    )


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
