"""The files of a bundle, their hashes and their version.

bundle.json            format, package version, scale, encoder size, feature names and kinds, SHA-256 of every file
student.onnx           query vectors, item vectors, features -> grade probabilities (normalisation and
                       temperature inside)
tokenizer.json, token_vectors.npy          the static query encoder (float16)
terms.json, idf.npz                        frozen corpus statistics of the lexical features
sides.json, sides.npz          features from tables: columns of items, rates, interest, graph vectors
items/ids.json, items/vectors.npy, items/terms.npz      the item store
probe.parquet          stored pairs with their features and probabilities: replayed when a bundle is verified
README.md              model card
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.errors import ModelError
from pertinent.features.corpus import FIELDS, CorpusStatistics, GramIndex, LexicalItems
from pertinent.features.ragged import Ragged
from pertinent.files import read_json, sha256_of_file, write_json

FORMAT = 3
DESCRIPTION = "bundle.json"


def bundle_folder(folder: Path) -> Path:
    """The bundle in ``folder``: the folder itself, or its ``student/`` where it is a run folder."""
    inside = folder / "student"
    found = inside if (inside / DESCRIPTION).is_file() else folder
    if not (found / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: expected a bundle or a run folder with student/{DESCRIPTION}, found neither")
    return found


def write_description(folder: Path, document: dict[str, Any]) -> None:
    """Write bundle.json last: it holds the hash of every other file of the bundle."""
    files = {str(path.relative_to(folder)): sha256_of_file(path) for path in bundle_files(folder)}
    write_json(folder / DESCRIPTION, {"format": FORMAT, **document, "files": files})


def read_description(folder: Path, *, check_hashes: bool = True) -> dict[str, Any]:
    """bundle.json, once its format and (unless told otherwise) all hashes have been checked.

    Raises ModelError naming the file that is missing, changed or written by another version.
    """
    document: dict[str, Any] = read_json(folder / DESCRIPTION)
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise ModelError(f"{folder / DESCRIPTION}: expected the description of a bundle, found something else")
    if document.get("format") != FORMAT:
        made_by = document.get("package_version", "an unknown version")
        raise ModelError(
            f"{folder / DESCRIPTION}: expected bundle format {FORMAT}, found {document.get('format')} (pertinent {made_by}); "
            "export the bundle again"
        )
    for path in bundle_files(folder):
        expected = document["files"].get(str(path.relative_to(folder)))
        if expected is None:
            raise ModelError(f"{path}: expected its SHA-256 in {DESCRIPTION}, found none")
        if not path.is_file():
            raise ModelError(f"{path}: the bundle lists this file, found none")
        if check_hashes and (found := sha256_of_file(path)) != expected:
            raise ModelError(f"{path}: expected SHA-256 {expected[:12]}, found {found[:12]}: the file was changed")
    return document


def bundle_files(folder: Path) -> list[Path]:
    """The files a bundle consists of, sorted, without bundle.json."""
    names = [
        "student.onnx",
        "tokenizer.json",
        "token_vectors.npy",
        "terms.json",
        "idf.npz",
        "sides.json",
        "sides.npz",
        "probe.parquet",
        "README.md",
    ]
    return [folder / name for name in sorted([*names, "items/ids.json", "items/vectors.npy", "items/terms.npz"])]


def write_statistics(folder: Path, statistics: CorpusStatistics) -> None:
    """Write terms.json and idf.npz."""
    ordered = sorted(statistics.terms, key=statistics.terms.__getitem__)
    lengths = dict(statistics.mean_length)
    grams = {"numbers": statistics.numbers, "grams.hashes": statistics.grams.hashes}
    grams |= {"grams.values": statistics.grams.terms.values, "grams.starts": statistics.grams.terms.starts}
    write_json(folder / "terms.json", {"terms": ordered, "mean_length": lengths, "n_items": statistics.n_items})
    _save_arrays(folder / "idf.npz", {**grams, **{field: statistics.idf[field] for field in FIELDS}})


def read_statistics(folder: Path) -> CorpusStatistics:
    """Read terms.json and idf.npz."""
    document = read_json(folder / "terms.json")
    with np.load(folder / "idf.npz", allow_pickle=False) as arrays:
        idf = {field: arrays[field] for field in FIELDS}
        grams = GramIndex(arrays["grams.hashes"], Ragged(arrays["grams.values"], arrays["grams.starts"]))
        numbers = arrays["numbers"]
    terms = {term: i for i, term in enumerate(document["terms"])}
    return CorpusStatistics(terms, idf, document["mean_length"], document["n_items"], numbers, grams)


def write_items(folder: Path, ids: list[str], vectors: NDArray[np.float32], lexical: LexicalItems) -> None:
    """Write the item store."""
    (folder / "items").mkdir(exist_ok=True)
    write_json(folder / "items" / "ids.json", ids)
    np.save(folder / "items" / "vectors.npy", vectors, allow_pickle=False)
    arrays: dict[str, NDArray[Any]] = {}
    for field in FIELDS:
        arrays[f"{field}.n_grams"] = lexical.n_grams[field]
        for name, ragged in (("terms", lexical.terms[field]), ("rare_grams", lexical.rare_grams[field])):
            arrays[f"{field}.{name}.values"] = ragged.values
            arrays[f"{field}.{name}.starts"] = ragged.starts
    _save_arrays(folder / "items" / "terms.npz", arrays)


def read_items(folder: Path) -> tuple[list[str], NDArray[np.float32], LexicalItems]:
    """Read the item store; the vectors are memory-mapped."""
    ids: list[str] = read_json(folder / "items" / "ids.json")
    vectors = np.load(folder / "items" / "vectors.npy", mmap_mode="r", allow_pickle=False)
    with np.load(folder / "items" / "terms.npz", allow_pickle=False) as arrays:
        ragged = {
            name: {
                field: Ragged(arrays[f"{field}.{name}.values"], arrays[f"{field}.{name}.starts"]) for field in FIELDS
            }
            for name in ("terms", "rare_grams")
        }
        n_grams = {field: arrays[f"{field}.n_grams"] for field in FIELDS}
    return ids, vectors, LexicalItems(ragged["terms"], n_grams, ragged["rare_grams"])


def _save_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez(file, allow_pickle=False, **arrays)
