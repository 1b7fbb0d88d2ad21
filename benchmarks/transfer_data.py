"""Data of the language transfer: CxC's English judgments beside unjudged items of Flickr8k, KUAKE-QTR and XTD10, one catalogue.

An item is an image with its captions in one language ("flickr8k/IMAGE/zh"), a medical title ("kuake/ID") or an English
caption ("xtd10/N"). Flickr8k is cut in halves by image: a query goes with its own image, a pair counts only where both
images are in one half. No judgment of Flickr8k, KUAKE-QTR or XTD10 is in the catalogue's judgments.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import ROOT
from pertinent.config import parse_config
from pertinent.data.cxc import GUIDELINES
from pertinent.errors import DataError
from pertinent.files import atomic_path, cache_folder, read_parquet, write_json, write_parquet
from pertinent.pipeline import RunConfig, load_run_config, run_pipeline

QUERY_LANGUAGES, TEXT_LANGUAGES = ("en", "zh"), ("en", "zh", "ar")
CELLS = tuple((query, text) for query in QUERY_LANGUAGES for text in TEXT_LANGUAGES)
XTD10 = {
    "de": "de",
    "es": "es",
    "fr": "fr",
    "it": "it",
    "ja": "jp",
    "ko": "ko",
    "pl": "pl",
    "ru": "ru",
    "tr": "tr",
    "zh": "zh",
}
N_OTHERS = 19  # fixed other captions beside the true one of each of XTD10's queries
# Below these a pair counts as not relevant: the middle of the experts' scale from 1 to 4, half of the crowd, KUAKE's 2 of 0-3.
RELEVANT = {"expert": 2.5, "crowd": 0.5, "kuake": 2.0, "xtd10": 1.0}
_CAPTIONS = {"en": "en_without_2", "zh": "zh_native", "ar": "ar"}
_ABOUT = "CxC's judgments; the items of Flickr8k, KUAKE-QTR and XTD10 have none"


@dataclass(frozen=True)
class TransferData:
    """The stages data and text of CxC, and of the catalogue of all, in the user's cache."""

    cxc: RunConfig
    catalogue: RunConfig

    @classmethod
    def prepared(cls) -> TransferData:
        """Make the stages, or take them where they are up to date. Raises DataError where PERTINENT_DATA is not set."""
        output = cache_folder() / "benchmarks"
        cxc = load_run_config(ROOT / "configs" / "cxc.yaml", [f"output={output}"])
        run_pipeline(cxc, until="text")
        source = output / "language_transfer" / "source"
        if not (source / "dataset.yaml").is_file():
            _write_source(source, cxc.folder / "data")
        tree = {
            "name": "language_transfer",
            "output": str(output),
            # The splits are CxC's own; by the rule, no other query is held out, for no other is judged here.
            "data": {"reader": "folder", "path": str(source), "split": {"test": 1e-9, "dev": 1e-9}},
            "text": cxc.text.model_dump(mode="json"),
            "teacher": cxc.teacher.model_dump(mode="json"),
        }
        catalogue = parse_config(RunConfig, tree, "language_transfer")
        run_pipeline(catalogue, until="text")
        return cls(cxc, catalogue)

    @cached_property
    def flickr8k(self) -> pl.DataFrame:
        """Judged pairs of the tested half: source (expert, crowd), query_id, query_en, query_zh, image, human (float)."""
        rows = pl.DataFrame(_judged_rows())
        return rows.filter((pl.col("half") == "tested") & (pl.col("image_half") == "tested")).drop("half", "image_half")

    def cell(self, query: str, text: str) -> pl.DataFrame:
        """The tested pairs in one query and text language: source, query_id, query, item_id, human."""
        item = pl.format("flickr8k/{}/{}", "image", pl.lit(text))
        return self.flickr8k.select(
            "source", "query_id", pl.col(f"query_{query}").alias("query"), item.alias("item_id"), "human"
        )

    @cached_property
    def unjudged(self) -> tuple[dict[str, list[str]], list[str]]:
        """Of the labelled half: its queries by language, in one order, and its images."""
        rows = pl.DataFrame(_judged_rows()).filter(pl.col("half") == "labelled").unique("query_id").sort("query_id")
        images = [image for image in _flickr_items() if half_of(image) == "labelled"]
        return {language: rows[f"query_{language}"].to_list() for language in QUERY_LANGUAGES}, sorted(images)

    def kuake(self) -> pl.DataFrame:
        """All pairs of KUAKE-QTR in both its files: source, query_id, query, item_id, human."""
        rows = [(row["query"], f"kuake/{row['id']}", float(row["label"])) for row in _kuake_rows()]
        table = pl.DataFrame(rows, schema=["query", "item_id", "human"], orient="row")
        return table.select(
            pl.lit("kuake").alias("source"), pl.col("query").alias("query_id"), "query", "item_id", "human"
        )

    def xtd10(self, language: str) -> pl.DataFrame:
        """Each caption in ``language`` with its English one (human 1) and 19 fixed others (0), CxC's images left out."""
        known = _known_lines()
        lines = [line for line in range(1000) if line not in known]
        captions = _lines(f"xtd10/test_1kcaptions_{XTD10[language]}.txt.gz")
        rng = np.random.default_rng(0)
        rows = []
        for line in lines:
            others = rng.choice([other for other in lines if other != line], N_OTHERS, replace=False)
            query = captions[line]
            rows += [(f"{line}", query, f"xtd10/{item}", float(item == line)) for item in (line, *others.tolist())]
        table = pl.DataFrame(rows, schema=["query_id", "query", "item_id", "human"], orient="row")
        return table.select(pl.lit("xtd10").alias("source"), "query_id", "query", "item_id", "human")


def half_of(image: str) -> str:
    """labelled or tested, by a hash of the image's name."""
    return "labelled" if hashlib.sha256(image.encode()).digest()[0] < 128 else "tested"


def data_root() -> Path:
    """The folder that PERTINENT_DATA names. Raises DataError where it names none."""
    told = os.environ.get("PERTINENT_DATA")
    if not told:
        raise DataError("PERTINENT_DATA: expected the folder of the data sets, found the variable not set")
    return Path(told)


def _judged_rows() -> list[dict[str, Any]]:
    rows = []
    for row in map(json.loads, _lines("flickr8k/judgments.jsonl.gz")):
        human = float(np.mean(row["ratings"])) if row["src"] == "expert" else float(row["frac_yes"])
        own = row["query_id"].partition("#")[0]
        rows.append(
            {
                "source": row["src"],
                "query_id": row["query_id"],
                "query_en": row["query_en"],
                "query_zh": row["query_zh"],
                "image": row["image"],
                "human": human,
                "half": half_of(own),
                "image_half": half_of(row["image"]),
            }
        )
    return rows


def _flickr_items() -> dict[str, dict[str, list[str]]]:
    """image -> language -> captions."""
    found = {}
    for row in map(json.loads, _lines("flickr8k/items.jsonl.gz")):
        found[row["image"]] = {language: row[column] for language, column in _CAPTIONS.items()}
    return found


def _kuake_rows() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for name in ("train", "dev"):
        with gzip.open(data_root() / "kuake_qtr" / f"{name}.json.gz", "rt", encoding="utf-8") as stream:
            rows += [{**row, "id": f"{name}-{row['id']}"} for row in json.load(stream)]
    return [row for row in rows if row["label"] in "0123" and row["label"]]


def _known_lines() -> set[int]:
    """Lines of XTD10 whose image is also in CxC."""
    known = {json.loads(line)["image"] for line in _lines("cxc/items_test.jsonl.gz")}
    numbers = {_number(image) for image in known}
    return {line for line, name in enumerate(_lines("xtd10/test_image_names.txt.gz")) if _number(name) in numbers}


def _number(image: str) -> int:
    """COCO's number of an image: the digits at the end of its name."""
    return int("".join(char for char in Path(image).stem.rpartition("_")[2] if char.isdigit()))


def _lines(name: str) -> list[str]:
    try:
        with gzip.open(data_root() / name, "rt", encoding="utf-8") as stream:
            return stream.read().splitlines()
    except FileNotFoundError:
        raise DataError(f"{data_root() / name}: no such file") from None


def _write_source(folder: Path, cxc_data: Path) -> None:
    """A dataset folder: the items of all sets, the judgments of CxC with its splits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_parquet(
            temporary / "items.parquet", pl.DataFrame(list(_all_items(cxc_data)), schema=_ITEM_SCHEMA, orient="row")
        )
        judged = read_parquet(cxc_data / "judgments.parquet", ["query_id", "query", "item_id", "grade", "split"])
        write_parquet(temporary / "judgments.parquet", judged.with_columns(language=pl.lit("en")))
        about = {"name": "language_transfer", "note": _ABOUT, "scale": {"guidelines": list(GUIDELINES)}}
        write_json(temporary / "dataset.yaml", {**about, "languages": ["en", "zh", "ar"]})  # JSON is YAML too


_ITEM_SCHEMA = {"item_id": pl.String, "captions": pl.List(pl.String), "language": pl.String}


def _all_items(cxc_data: Path) -> Iterable[tuple[str, list[str], str]]:
    for item_id, captions in read_parquet(cxc_data / "items.parquet", ["item_id", "captions"]).iter_rows():
        yield item_id, captions, "en"
    for image, by_language in _flickr_items().items():
        for language, captions in by_language.items():
            yield f"flickr8k/{image}/{language}", captions, language
    for row in _kuake_rows():
        yield f"kuake/{row['id']}", [row["title"]], "zh"
    for line, caption in enumerate(_lines("xtd10/test_1kcaptions_en.txt.gz")):
        yield f"xtd10/{line}", [caption], "en"
