"""The stages that make item fields, run alone: captions and link text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pertinent.config import Config, load_config, paths_beside
from pertinent.errors import DataError
from pertinent.files import sha256_of_file
from pertinent.pipeline.field_stages import PATHS
from pertinent.pipeline.lock import run_lock
from pertinent.pipeline.stage import read_manifest, run_stage
from pertinent.types import StageResult

C = TypeVar("C", bound=Config)


def load_fields_config(model: type[C], file: Path, overrides: Iterable[str], paths: Iterable[str]) -> C:
    """Read the YAML of one stage. paths: keys ("images.folder") whose relative paths are taken from the file's folder.

    A path that is not there is taken from the working folder, where --set or a variable gave it. Raises ConfigError.
    """
    return paths_beside(load_config(model, file, overrides), paths, file.resolve().parent)


def run_captions(
    file: Path, data: Path, out: Path | None = None, *, overrides: Iterable[str] = (), seed: int = 0
) -> dict[str, Any]:
    """Run the captions stage of a YAML file; returns its manifest with its folder under "folder".

    data: a data stage's folder or a run folder. out: the stage's folder; default: captions/ beside the data stage's.
    A finished stage is skipped, a cut-off one continued. Raises what the stage raises.
    """
    from pertinent.captions import CaptionsConfig, caption_inputs, caption_items

    config = load_fields_config(CaptionsConfig, file, overrides, PATHS["captions"])
    data = data_folder(data)
    inputs = caption_inputs(config, data, seed=seed)
    return _run(
        "captions", config, data, out, inputs, seed, lambda folder: caption_items(config, data, folder, seed=seed)
    )


def run_links(file: Path, data: Path, out: Path | None = None, *, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Run the links stage of a YAML file, as ``run_captions`` does its own; out: links/ beside the data stage's folder."""
    from pertinent.links import LinksConfig, link_inputs, read_links

    config = load_fields_config(LinksConfig, file, overrides, PATHS["links"])
    data = data_folder(data)
    inputs = link_inputs(config, data)
    return _run("links", config, data, out, inputs, 0, lambda folder: read_links(config, data, folder, seed=0))


def data_folder(folder: Path) -> Path:
    """The data stage's folder: ``folder`` itself, or its data/ where it is a run folder. Raises DataError."""
    for found in (folder, folder / "data"):
        if (found / "dataset.json").is_file():
            return found
    raise DataError(
        f"{folder}: expected a data stage's folder or a run folder, found no dataset.json (pertinent run CONFIG --until data)"
    )


def _run(
    name: str,
    config: Config,
    data: Path,
    out: Path | None,
    inputs: dict[str, str],
    seed: int,
    work: Callable[[Path], StageResult],
) -> dict[str, Any]:
    out = out or data.parent / name
    manifest = read_manifest(data)
    own = manifest["key"] if manifest else sha256_of_file(data / "items.parquet")
    with run_lock(out.parent):
        done = run_stage(
            name, out, config=config.model_dump(mode="json"), seed=seed, inputs={"data": own, **inputs}, work=work
        )
    return {"folder": str(out), **done}
