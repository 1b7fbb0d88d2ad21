"""Run one stage into a folder that is whole or absent: skip it when nothing changed, continue it when it was cut off."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pertinent.errors import DataError
from pertinent.files import read_json, sha256_of_json, write_json
from pertinent.pipeline.revision import code_revision
from pertinent.progress import say
from pertinent.report.numbers import duration
from pertinent.types import StageResult

MANIFEST = "manifest.json"
# In a working folder: the key it is for, when this attempt began, and the seconds and code of the earlier ones.
# Its own time of change tells how long an attempt that was killed had lasted.
ATTEMPT = "attempt.json"
_BEAT_S = 1.0


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
    folder beside ``out``: found there with the same key, it is what a killed run left, and ``work`` continues from it,
    or, where the work was done, only the name is given. The manifest's seconds are those of every attempt together,
    and its code names each revision that had a part in it. Raises DataError when the folder cannot be written.
    """
    package_version = version("pertinent")
    key = sha256_of_json({"stage": name, "config": config, "seed": seed, "inputs": inputs, "version": package_version})
    partial = out.with_name(f".{out.name}.partial")
    with _writing(out.parent):
        _settle(partial, out, key)
    if (found := read_manifest(out)) is not None and found.get("key") == key:
        say(f"{name}: up to date, skipped")
        return found
    with _writing(out.parent):
        attempt = _begin(name, partial, key)
    started = time.monotonic()
    with _beating(partial / ATTEMPT):
        result = work(partial)
    this_attempt = time.monotonic() - started
    manifest = {
        "stage": name,
        "key": key,
        "config": dict(config),
        "seed": seed,
        "inputs": dict(inputs),
        "package_version": package_version,
        "code": ", ".join(attempt["code"]),
        "counts": dict(result.counts),
        "quarantined": dict(result.quarantined or {}),
        "warnings": list(result.warnings),
        "seconds": round(attempt["seconds"] + this_attempt, 1),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with _writing(out.parent):
        write_json(partial / MANIFEST, manifest)
        _give_name(partial, out)
    for warning in result.warnings:
        say(f"{name}: warning: {warning}")
    resumed = f", {duration(this_attempt)} of it in this start" if attempt["seconds"] else ""
    say(f"{name}: done in {duration(manifest['seconds'])}{resumed}")
    return read_json(out / MANIFEST)  # type: ignore[no-any-return]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage; None where there is no finished stage."""
    file = folder / MANIFEST
    return read_json(file) if file.is_file() else None


def _settle(partial: Path, out: Path, key: str) -> None:
    """Complete what a kill at the very end of an earlier run left undone."""
    old = _old(out)
    if old.exists() and not out.exists():
        os.replace(old, out)
    if (done := read_manifest(partial)) is not None and done.get("key") == key:
        _give_name(partial, out)
    shutil.rmtree(old, ignore_errors=True)
    (out / ATTEMPT).unlink(missing_ok=True)


def _begin(name: str, partial: Path, key: str) -> dict[str, Any]:
    """An empty working folder, or what an interrupted run of the same key left in it; returns the attempt's record."""
    file = partial / ATTEMPT
    earlier = read_json(file) if file.is_file() else {}
    seconds = 0.0
    if earlier.get("key") == key:
        say(f"{name}: continuing what was cut off")
        seconds = earlier["seconds"] + max(file.stat().st_mtime - earlier["started_at"], 0.0)
    else:
        earlier = {}
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    code = list(dict.fromkeys([*earlier.get("code", ()), code_revision()]))
    attempt = {"key": key, "started_at": time.time(), "seconds": seconds, "code": code}
    write_json(file, attempt)
    return attempt


@contextmanager
def _beating(file: Path) -> Iterator[None]:
    """Set the file's time of change every second, and at the end."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(OSError):
            os.utime(file)


def _give_name(partial: Path, out: Path) -> None:
    old = _old(out)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
    (out / ATTEMPT).unlink(missing_ok=True)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from None
