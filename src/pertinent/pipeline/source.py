"""A hash of what the data stage reads, so that it is done again when the user's files change, and only then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pertinent.data.config import DataConfig, TableConfig
from pertinent.data.pinboard import PINBOARD_VERSION
from pertinent.data.tables import is_table
from pertinent.errors import DataError
from pertinent.files import sha256_of_file, sha256_of_json
from pertinent.pipeline.stage import read_manifest

_DESCRIPTION = "dataset.yaml"
_WHOLE_HASH_BYTES = 256 * 2**20


def source_hash(config: DataConfig, *, outside: Sequence[Path] = ()) -> str:
    """A hash of the files of a source: names and bytes (size and time for those over 256 MiB).

    outside: folders that are no part of the source though they may lie in it: where run folders go.
    Raises DataError if ``data.path`` is not a folder.
    """
    if config.reader == "pinboard":
        return f"pinboard-{PINBOARD_VERSION}"
    folder = config.path
    if folder is None or not folder.is_dir():
        raise DataError(f"data.path: no such folder: {folder}")
    return sha256_of_json(
        [[name, file_hash(file)] for name, file in sorted(source_files(config, outside=outside).items())]
    )


def source_files(config: DataConfig, *, outside: Sequence[Path] = ()) -> dict[str, Path]:
    """The files that the reader of ``config`` reads, by the name they have in the config or below ``data.path``.

    Of a dataset folder: the tables that the config names, else ``items.*``, ``judgments.*`` and ``log.*``, and
    dataset.yaml. Of another set, whose reader knows the names: every table file and dataset.yaml below the folder.
    """
    folder = config.path
    assert folder is not None
    if config.reader == "folder":
        tables = {"items": config.items, "judgments": config.judgments, "log": config.log or TableConfig()}
        found = {name: file for stem, table in tables.items() for name, file in _table_files(folder, stem, table)}
        found[_DESCRIPTION] = folder / _DESCRIPTION
    else:
        skipped = {path.resolve() for path in outside if folder.resolve() in path.resolve().parents}
        below = (file for file in folder.rglob("*") if is_table(file) or file.name == _DESCRIPTION)
        found = {
            file.relative_to(folder).as_posix(): file for file in below if skipped.isdisjoint(file.resolve().parents)
        }
    return {name: file for name, file in found.items() if file.is_file()}


def _table_files(folder: Path, stem: str, table: TableConfig) -> Iterator[tuple[str, Path]]:
    if table.file is not None:
        yield table.file, folder / table.file
        return
    for file in folder.iterdir():
        if file.name.partition(".")[0].lower() == stem and is_table(file):
            yield file.name, file


def file_hash(file: Path) -> str:
    """A hash of a file's bytes; of its size and time of change where it is over 256 MiB."""
    stat = file.stat()
    large = stat.st_size > _WHOLE_HASH_BYTES
    return f"{stat.st_size}-{stat.st_mtime_ns}" if large else sha256_of_file(file)


def folder_key(folder: Path) -> str:
    """What a stage's folder is told apart by: its manifest's key; without a manifest, the hash of its files."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return str(manifest["key"])
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return sha256_of_json([[file.name, file_hash(file)] for file in files])
