"""Files that are whole or absent: atomic writes, the reading of our own JSON and Parquet, and hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from pertinent.errors import DataError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the final name only if the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no links; for ``shutil.copytree``."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON with sorted keys, whole or not at all."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    with atomic_path(path) as temporary:
        temporary.write_bytes(orjson.dumps(document, option=options) + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError if it is missing or not JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write ``frame`` as Parquet (zstd), whole or not at all."""
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a Parquet file of ours. Raises DataError if it is missing or damaged."""
    try:
        return pl.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except pl.exceptions.ColumnNotFoundError as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def reason_of(error: OSError) -> str:
    """Why a file could not be read or written, in one line. Polars raises errors without a system's message."""
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(document: Any) -> str:
    """Hex SHA-256 of a JSON document with sorted keys."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def cache_folder() -> Path:
    """Where costly things that any run may share are kept: $PERTINENT_CACHE, else pertinent/ in the user's cache."""
    if told := os.environ.get("PERTINENT_CACHE"):
        return Path(told).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pertinent"


def settings_folder(parent: Path, settings: Mapping[str, Any]) -> Path:
    """The folder below ``parent`` of all that was made with ``settings``, which lie in it as settings.json.

    Made if absent. Raises DataError where it cannot be written.
    """
    folder = parent / sha256_of_json(settings)[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "settings.json", settings)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {reason_of(error)}") from None
    return folder
