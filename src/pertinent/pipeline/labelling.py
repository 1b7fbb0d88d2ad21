"""The labelling stages run alone, beside the data and the text that they read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pertinent.errors import ConfigError, DataError
from pertinent.features.encoder import STATIC_FILES
from pertinent.files import sha256_of_json
from pertinent.labelling.config import EngineName, LabelsConfig, SampleConfig
from pertinent.labelling.draw import draw_sample, sample_files
from pertinent.pipeline.fields import data_folder
from pertinent.pipeline.lock import run_lock
from pertinent.pipeline.source import file_hash, folder_key
from pertinent.pipeline.stage import read_manifest, run_stage

if TYPE_CHECKING:
    from pertinent.pipeline.config import RunConfig


def run_sample(
    config: SampleConfig, target: Path, out: Path | None = None, *, vectors: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """`draw_sample` as a stage; returns its manifest with its folder under "folder".

    target: a run folder with the stages data and text, or its data folder. out: default: sample/ beside the data folder.
    vectors: see `draw_sample`. A finished stage is skipped. Raises DataError and ConfigError.
    """
    data = data_folder(target)
    text = text_folder(data)
    out = out or data.parent / "sample"
    inputs = {"data": folder_key(data), "text": folder_key(text)}
    if config.paths:
        inputs["log"] = sha256_of_json([[file.name, file_hash(file)] for file in sample_files(config.paths)])
    if vectors is not None:
        names = [name for name in STATIC_FILES if (vectors / name).is_file()]
        inputs["vectors"] = sha256_of_json([[name, file_hash(vectors / name)] for name in names])
    settings = config.model_dump(mode="json", exclude={"threads", "memory_gib", "paths"})
    with run_lock(out.parent):
        done = run_stage(
            "sample",
            out,
            config=settings,
            seed=seed,
            inputs=inputs,
            work=lambda folder: draw_sample(config, data, text, folder, vectors=vectors, seed=seed),
        )
    return {"folder": str(out), **done}


def estimate_run(
    config: RunConfig, *, engines: Sequence[EngineName] = (), price_per_hour_usd: float | None = None
) -> dict[str, Any]:
    """`estimate_labels` of a run's labels stage, whose stages data, text and teacher must be done.

    engines: default: local, and ray where Ray is installed. Raises DataError where a stage is not done, ConfigError
    for a judge, whose limits its own settings tell.
    """
    if config.labels.judge is not None:
        raise ConfigError("labels.judge: expected labels by the trained teacher, which a dry run times, found a judge")
    from pertinent.labelling.estimate import estimate_labels

    folders = [config.folder / name for name in ("data", "text", "teacher")]
    for folder in folders:
        if read_manifest(folder) is None:
            raise DataError(
                f"{folder}: expected a finished stage to time, found none (pertinent run CONFIG --until teacher)"
            )
    told: Sequence[EngineName] = engines or ("local", "ray")
    chosen = [name for name in told if engines or name == "local" or find_spec("ray") is not None]
    labels = with_own_labels(config.labels, config.folder / "labels")
    return estimate_labels(labels, *folders, engines=chosen, price_per_hour_usd=price_per_hour_usd, seed=config.seed)


def with_own_labels(config: LabelsConfig, folder: Path) -> LabelsConfig:
    """``config`` with what the labels stage has in ``folder`` as a cache too: out of date, it still need not be said again."""
    if not any(folder.glob("shard-*.parquet")):
        return config
    return config.model_copy(update={"cache": (*config.cache, folder)})


def engine_named(name: str | None, address: str | None) -> EngineName | None:
    """The engine that --engine and --address ask for; None where neither does. Raises ConfigError for an unknown one."""
    for known in get_args(EngineName):
        if name == known and (address is None or known == "ray"):
            return known  # type: ignore[no-any-return]
    if name is not None:
        beside = " with --address" if address is not None else ""
        expected = "ray" if address is not None else " or ".join(get_args(EngineName))
        raise ConfigError(f"--engine{beside}: expected {expected}, found {name}")
    return None if address is None else "ray"


def label_inputs(config: LabelsConfig) -> dict[str, str]:
    """What the labels stage reads beside other stages: hashes of a sample's table and a judge's template. Raises DataError."""
    template = None if config.judge is None else config.judge.template
    read = {"pairs": (config.pairs, "labels.pairs"), "template": (template, "labels.judge.template")}
    for file, key in read.values():
        if file is not None and not file.is_file():
            raise DataError(f"{file}: no such file ({key})")
    return {name: file_hash(file) for name, (file, _) in read.items() if file is not None}


def text_folder(data: Path) -> Path:
    """The text stage's folder beside a data folder. Raises DataError."""
    text = data.parent / "text"
    if not (text / "items.parquet").is_file():
        raise DataError(f"{text}: expected the text stage's folder, found none (pertinent run CONFIG --until text)")
    return text
