"""`pertinent mine`: the mining stages by themselves, beside the data that they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pertinent.config import Config, load_config, overridden, parse_config
from pertinent.files import sha256_of_json
from pertinent.mining.boards import boards_file, mine_boards
from pertinent.mining.config import BoardsConfig, MineConfig
from pertinent.mining.guards import check_fields
from pertinent.mining.logs import log_files
from pertinent.mining.queries import mine_queries
from pertinent.pipeline.fields import data_folder
from pertinent.pipeline.source import file_hash
from pertinent.pipeline.stage import read_manifest, run_stage

C = TypeVar("C", bound=Config)
SEED = 0  # nothing is drawn
# What decides how fast a stage is, not what it writes.
_SPEED = {"threads", "memory_gib"}


def mine_log(config: MineConfig, target: Path, out: Path | None = None) -> dict[str, Any]:
    """Mine engaged queries and rates into ``out`` (default: mined/ beside the data folder); returns the manifest.

    target: a run folder or a data stage's folder. The stage is skipped where nothing changed, continued where it was cut
    off. Raises DataError where target is neither, and what `mine_queries` raises.
    """
    data = data_folder(target)
    return run_stage(
        "mine",
        out or data.parent / "mined",
        config=config.model_dump(mode="json", exclude=_SPEED),
        seed=SEED,
        inputs={"data": _key(data), **log_inputs(config, data, seed=SEED)},
        work=lambda folder: mine_queries(config, data, folder, seed=SEED),
    )


def mine_board_titles(config: BoardsConfig, target: Path, out: Path | None = None) -> dict[str, Any]:
    """Mine board titles into ``out`` (default: boards/ beside the data folder); returns the manifest. As `mine_log`."""
    data = data_folder(target)
    return run_stage(
        "boards",
        out or data.parent / "boards",
        config=config.model_dump(mode="json", exclude=_SPEED),
        seed=SEED,
        inputs={"data": _key(data), **boards_inputs(config, data, seed=SEED)},
        work=lambda folder: mine_boards(config, data, folder, seed=SEED),
    )


def log_inputs(config: MineConfig, data: Path, *, seed: int) -> dict[str, str]:
    """The hash of the log's files for the manifest; of the data stage's own log its key speaks."""
    return {"log": _hash(log_files(config.log.paths))} if config.log.paths else {}


def boards_inputs(config: BoardsConfig, data: Path, *, seed: int) -> dict[str, str]:
    """The hash of the file of board titles, for the manifest."""
    return {"boards": _hash([boards_file(config, data)])}


def check_mined(fields: Path, target: Path, *, n_folds: int = 5) -> dict[str, Any]:
    """`check_fields` of a fields.parquet, or of a folder that has one, against a run folder or data folder."""
    file = fields / "fields.parquet" if fields.is_dir() else fields
    return {"fields": str(file), **check_fields(file, data_folder(target), n_folds=n_folds)}


def config_of(model: type[C], file: Path | None, overrides: Iterable[str]) -> C:
    """The config of a YAML file, or the default one, with ``key=value`` overrides."""
    if file is not None:
        return load_config(model, file, overrides)
    return parse_config(model, overridden({}, overrides), "--set")


def _key(data: Path) -> str:
    """What the data stage's manifest is told apart by; a folder without one by its files."""
    manifest = read_manifest(data)
    return str(manifest["key"]) if manifest else _hash(sorted(file for file in data.iterdir() if file.is_file()))


def _hash(files: Sequence[Path]) -> str:
    return sha256_of_json([[file.name, file_hash(file)] for file in files])
