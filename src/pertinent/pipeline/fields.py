"""The stages that make item fields, run alone, beside the data that they read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pertinent.config import Config, load_config, overridden, parse_config, paths_beside
from pertinent.errors import DataError
from pertinent.pipeline.field_stages import FIELD_STAGES, PATHS, key_settings
from pertinent.pipeline.lock import run_lock
from pertinent.pipeline.source import folder_key
from pertinent.pipeline.stage import run_stage

C = TypeVar("C", bound=Config)


def load_fields_config(name: str, model: type[C], file: Path | None, overrides: Iterable[str] = ()) -> C:
    """The settings of the stage ``name``: a YAML file's, or the default ones, with ``key=value`` overrides.

    A relative path is taken from the file's folder; one that is not there from the working folder, where --set or a
    variable gave it. Raises ConfigError.
    """
    if file is None:
        return parse_config(model, overridden({}, overrides), "--set")
    return paths_beside(load_config(model, file, overrides), PATHS[name], file.resolve().parent)


def run_fields(name: str, config: Config, target: Path, out: Path | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Run the stage ``name`` (a key of FIELD_STAGES); returns its manifest with its folder under "folder".

    target: a data stage's folder or a run folder. out: the stage's folder; default: NAME/ beside the data stage's, where a
    run with that section has it. A finished stage is skipped, a cut-off one continued. Raises DataError where target is
    neither or another run works beside ``out``, and what the stage raises.
    """
    data = data_folder(target)
    out = out or data.parent / name
    stage = FIELD_STAGES[name]()
    inputs = {"data": folder_key(data), **(stage.inputs(config, data, seed=seed) if stage.inputs else {})}
    with run_lock(out.parent):
        done = run_stage(
            name,
            out,
            config=key_settings(name, config),
            seed=seed,
            inputs=inputs,
            work=lambda folder: stage.work(config, data, folder, seed=seed),
        )
    return {"folder": str(out), **done}


def data_folder(folder: Path) -> Path:
    """The data stage's folder: ``folder`` itself, or its data/ where it is a run folder. Raises DataError."""
    for found in (folder, folder / "data"):
        if (found / "dataset.json").is_file():
            return found
    raise DataError(
        f"{folder}: expected a data stage's folder or a run folder, found no dataset.json (pertinent run CONFIG --until data)"
    )
