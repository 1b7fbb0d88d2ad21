"""The files of a bundle, their hashes and their version.

bundle.json            format, package version, scale, encoder size, feature names and kinds, the store's folder, and the
                       size and SHA-256 of every file
student.onnx           query vectors, stored items, features -> grade probabilities (normalisation and temperature inside)
item.onnx              item vectors, features -> an item's half of the first layer
tokenizer.json         the teacher's: of static vectors, and what item texts are cut by
token_vectors.npy      where the encoder is static (float16); encoder/ where it is a sentence encoder
corpus/                frozen corpus statistics of the lexical features
sides/                 learned tables of features from tables
items/                 the item store (`pertinent.bundle.store`); items-2/ and so on once it was made anew
README.md              model card
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pertinent.bundle.arrays import (
    RAGGED,
    TABLE,
    names_of,
    read_array,
    read_ragged,
    read_table,
    write_arrays,
    write_ragged,
    write_table,
)
from pertinent.bundle.encoders import ENCODER_FILES, STATIC, known_kind
from pertinent.bundle.sides import SIDES_FILE, SIDES_FOLDER
from pertinent.bundle.store import store_files
from pertinent.errors import ModelError
from pertinent.features.corpus import FIELDS, CorpusStatistics, GramIndex
from pertinent.files import read_json, sha256_of_file, write_json

FORMAT = 3
DESCRIPTION = "bundle.json"
STORE = "items"  # the first store's folder
_KEYS = ("store", "encoder", "features", "guidelines")  # of a description, without which it cannot be opened
CORPUS = "corpus"
WHOLE_BYTES = 8 << 20  # a larger file is hashed in samples when a bundle is opened, whole when it is verified
_BLOCK_BYTES, _BLOCKS = 1 << 16, 64  # of a sample


def bundle_folder(folder: Path) -> Path:
    """The bundle in ``folder``: the folder itself, or its ``student/`` where it is a run folder."""
    inside = folder / "student"
    found = inside if (inside / DESCRIPTION).is_file() else folder
    if not (found / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: expected a bundle or a run folder with student/{DESCRIPTION}, found neither")
    return found


def write_description(folder: Path, document: dict[str, Any]) -> None:
    """Write bundle.json last: it holds the size and the hashes of every other file of the bundle.

    document: without format and files; ``store`` names the folder of the item store, ``encoder`` the kind of encoder.
    """
    paths = set(bundle_files(folder, document["store"], document["encoder"]))
    paths.update(*((folder / name).iterdir() for name in (document["store"], SIDES_FOLDER)))
    files = {str(path.relative_to(folder)): _fingerprint(path) for path in sorted(paths)}
    write_json(folder / DESCRIPTION, {"format": FORMAT, **document, "files": files})


def read_description(folder: Path, *, check_hashes: bool = True, whole: bool = False) -> dict[str, Any]:
    """bundle.json, once its format, the sizes and (unless told otherwise) the hashes of all files have been checked.

    A file of more than WHOLE_BYTES is hashed in 64 evenly spaced blocks of 64 KiB, so that opening takes no longer for a
    larger store; with ``whole``, in full. Raises ModelError naming the file that is missing, changed or written by
    another version.
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
    for key in _KEYS:
        if key not in document:
            raise ModelError(f"{folder / DESCRIPTION}: expected the key {key}, found none; export the bundle again")
    encoder = known_kind(document["encoder"], folder / DESCRIPTION)
    for path in bundle_files(folder, document["store"], encoder):
        if str(path.relative_to(folder)) not in document["files"]:
            raise ModelError(f"{path}: expected its SHA-256 in {DESCRIPTION}, found none")
    for name, expected in document["files"].items():
        _check(folder / name, expected, check_hashes=check_hashes, whole=whole)
    return document


def _check(path: Path, expected: dict[str, Any], *, check_hashes: bool, whole: bool) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: the bundle lists this file, found none")
    if (size := path.stat().st_size) != expected["bytes"]:
        raise ModelError(f"{path}: expected {expected['bytes']:,} bytes, found {size:,}: the file was changed")
    if not check_hashes:
        return
    key = "sha256" if whole or size <= WHOLE_BYTES else "sampled_sha256"
    found = sha256_of_file(path) if key == "sha256" else sampled_sha256(path)
    if found != expected[key]:
        raise ModelError(f"{path}: expected SHA-256 {expected[key][:12]}, found {found[:12]}: the file was changed")


def _fingerprint(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    found = {"bytes": size, "sha256": sha256_of_file(path)}
    return found if size <= WHOLE_BYTES else {**found, "sampled_sha256": sampled_sha256(path)}


def sampled_sha256(path: Path) -> str:
    """SHA-256 of 64 blocks of 64 KiB, evenly spaced from the first byte to the last."""
    last = path.stat().st_size - _BLOCK_BYTES
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for k in range(_BLOCKS):
            stream.seek(last * k // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()


def bundle_files(folder: Path, store: str = STORE, encoder: str = STATIC) -> list[Path]:
    """The files of every bundle with this kind of encoder, sorted, without bundle.json.

    Features from tables have more in the store.
    """
    names = ["student.onnx", "item.onnx", "tokenizer.json", "README.md", *ENCODER_FILES[encoder]]
    arrays = [*(f"idf.{field}" for field in FIELDS), "numbers", *names_of("terms", TABLE)]
    arrays += ["grams.hashes", *names_of("grams.terms", RAGGED)]
    names += [f"{CORPUS}/{name}.npy" for name in arrays] + [f"{CORPUS}/corpus.json", f"{SIDES_FOLDER}/{SIDES_FILE}"]
    return [folder / name for name in sorted([*names, *(f"{store}/{name}" for name in store_files())])]


def write_statistics(folder: Path, statistics: CorpusStatistics) -> None:
    """Write corpus/."""
    corpus = folder / CORPUS
    arrays = {f"idf.{field}": statistics.idf[field] for field in FIELDS}
    write_arrays(corpus, {**arrays, "numbers": statistics.numbers, "grams.hashes": statistics.grams.hashes})
    write_table(corpus, "terms", statistics.terms)
    write_ragged(corpus, "grams.terms", statistics.grams.terms)
    lengths = dict(statistics.mean_length)
    write_json(corpus / "corpus.json", {"mean_length": lengths, "n_items": statistics.n_items})


def read_statistics(folder: Path) -> CorpusStatistics:
    """Map corpus/."""
    corpus = folder / CORPUS
    document = read_json(corpus / "corpus.json")
    return CorpusStatistics(
        terms=read_table(corpus, "terms"),
        idf={field: read_array(corpus / f"idf.{field}.npy") for field in FIELDS},
        mean_length=document["mean_length"],
        n_items=document["n_items"],
        numbers=read_array(corpus / "numbers.npy"),
        grams=GramIndex(read_array(corpus / "grams.hashes.npy"), read_ragged(corpus, "grams.terms")),
    )
