"""Run one stage into a folder that is whole or absent: skip it when nothing changed, continue it when it was cut off."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pertinent.errors import DataError
from pertinent.files import read_json, sha256_of_file, sha256_of_json, write_json
from pertinent.progress import say
from pertinent.types import StageResult

MANIFEST = "manifest.json"
_KEY = "key.json"
_WHOLE_HASH_BYTES = 256 * 2**20


def run_stage(
    name: str,
    out: Path,
    *,
    config: Mapping[str, Any],
    seed: int,
    inputs: Mapping[str, str],
    work: Callable[[Path], StageResult],
) -> dict[str, Any]:
    """Do ``work(folder)`` and give the folder its final name ``out``; returns the manifest.

    inputs: name -> hash of what the stage reads. The stage's key is the hash of its name, configuration, seed, inputs
    and the package version. A folder ``out`` whose manifest has this key is left alone. Work goes on in a hidden
    folder beside ``out``: found there with the same key, it is what a killed run left, and ``work`` continues from it.
    Raises DataError when the folder cannot be written.
    """
    package_version = version("pertinent")
    key = sha256_of_json({"stage": name, "config": config, "seed": seed, "inputs": inputs, "version": package_version})
    if (found := read_manifest(out)) is not None and found["key"] == key:
        say(f"{name}: up to date, skipped")
        return found
    partial = out.with_name(f".{out.name}.partial")
    try:
        _prepare(partial, key)
    except OSError as error:
        raise DataError(f"{out.parent}: cannot be written: {error.strerror}") from None
    started = time.monotonic()
    result = work(partial)
    manifest = {
        "stage": name,
        "key": key,
        "config": dict(config),
        "seed": seed,
        "inputs": dict(inputs),
        "package_version": package_version,
        "counts": dict(result.counts),
        "quarantined": dict(result.quarantined or {}),
        "warnings": list(result.warnings),
        "seconds": round(time.monotonic() - started, 1),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (partial / _KEY).unlink()
    write_json(partial / MANIFEST, manifest)
    _replace(partial, out)
    for warning in result.warnings:
        say(f"{name}: warning: {warning}")
    say(f"{name}: done in {manifest['seconds']:.0f} s")
    return read_json(out / MANIFEST)  # type: ignore[no-any-return]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage; None where there is no finished stage."""
    file = folder / MANIFEST
    return read_json(file) if file.is_file() else None


def source_hash(path: Path | None) -> str:
    """A hash of the files a source consists of: names and bytes (size and time for those over 256 MiB)."""
    if path is None:
        return "generated"
    if not path.exists():
        raise DataError(f"data.path: no such folder: {path}")
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file() and _is_data(p))
    parts = []
    for file in files:
        stat = file.stat()
        large = stat.st_size > _WHOLE_HASH_BYTES
        parts.append([file.name, f"{stat.st_size}-{stat.st_mtime_ns}" if large else sha256_of_file(file)])
    return sha256_of_json(parts)


def _is_data(file: Path) -> bool:
    # The run's own config may stand in the folder: a change in it must not redo the data stage.
    return file.name == "dataset.yaml" or file.suffix in {
        ".csv",
        ".tsv",
        ".jsonl",
        ".ndjson",
        ".json",
        ".parquet",
        ".gz",
    }


def _prepare(partial: Path, key: str) -> None:
    """An empty working folder, or what an interrupted run of the same key left in it."""
    key_file = partial / _KEY
    if key_file.is_file() and read_json(key_file) == {"key": key}:
        say(f"{partial.name.strip('.').removesuffix('.partial')}: continuing what was cut off")
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(key_file, {"key": key})


def _replace(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
