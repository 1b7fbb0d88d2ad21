"""What the mining stages read beside the data stage, and the check of what they wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pertinent.data.splits import N_FOLDS
from pertinent.files import sha256_of_json
from pertinent.mining.boards import boards_file
from pertinent.mining.config import BoardsConfig, MineConfig
from pertinent.mining.guards import check_fields
from pertinent.mining.logs import log_files
from pertinent.pipeline.fields import data_folder
from pertinent.pipeline.source import file_hash
from pertinent.text.sources import told_folds


def log_inputs(config: MineConfig, data: Path, *, seed: int) -> dict[str, str]:
    """The hash of the log's files for the manifest; of the data stage's own log its key speaks."""
    return {"log": _hash(log_files(config.log.paths))} if config.log.paths else {}


def boards_inputs(config: BoardsConfig, data: Path, *, seed: int) -> dict[str, str]:
    """The hash of the file of board titles, for the manifest."""
    return {"boards": _hash([boards_file(config, data)])}


def check_mined(fields: Path, target: Path, *, n_folds: int | None = None) -> dict[str, Any]:
    """`check_fields` of a fields.parquet, or of a folder that has one, against a run folder or data folder.

    n_folds: of the queries; by default as the file's folder tells, else 5.
    """
    file = fields / "fields.parquet" if fields.is_dir() else fields
    n_folds = n_folds or told_folds(file.parent) or N_FOLDS
    return {"fields": str(file), **check_fields(file, data_folder(target), n_folds=n_folds)}


def _hash(files: Sequence[Path]) -> str:
    return sha256_of_json([[file.name, file_hash(file)] for file in files])
