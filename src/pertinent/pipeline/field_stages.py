"""The optional stages that make item fields, each before the text stage and in a section of the run's config of its own.

A new one is a field of `RunConfig` (`NAME: ItsConfig | None = None`) and an entry of FIELD_STAGES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pertinent.config import Config
from pertinent.types import StageResult


class FieldFunction(Protocol):
    """``(config, data, out, *, seed) -> StageResult``: writes out/fields.parquet (see `pertinent.text.sources`)."""

    def __call__(self, config: Any, data: Path, out: Path, *, seed: int) -> StageResult: ...


class InputsFunction(Protocol):
    """``(config, data, *, seed) -> {name: hash}`` of what the stage reads beside the data stage: images, pages, a log."""

    def __call__(self, config: Any, data: Path, *, seed: int) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class FieldStage:
    """What does the work, and what further inputs count for its manifest's key."""

    work: FieldFunction
    inputs: InputsFunction | None = None


def _captions() -> FieldStage:
    from pertinent.captions import caption_inputs, caption_items

    return FieldStage(caption_items, caption_inputs)


def _links() -> FieldStage:
    from pertinent.links import link_inputs, read_links

    return FieldStage(read_links, lambda config, data, *, seed: link_inputs(config, data))


def _boards() -> FieldStage:
    from pertinent.mining.boards import mine_boards
    from pertinent.pipeline.mine import boards_inputs

    return FieldStage(mine_boards, boards_inputs)


def _mine() -> FieldStage:
    from pertinent.mining.queries import mine_queries
    from pertinent.pipeline.mine import log_inputs

    return FieldStage(mine_queries, log_inputs)


# Section of RunConfig -> how its stage is loaded: imports happen in the function, when a run has the section.
FIELD_STAGES: dict[str, Callable[[], FieldStage]] = {
    "captions": _captions,
    "boards": _boards,
    "mine": _mine,
    "links": _links,
}
# The paths in each section, which are relative to the config file.
PATHS = {
    "captions": ("images.folder", "images.table", "cache", "model"),
    "boards": ("path",),
    "mine": ("log.paths",),
    "links": ("pages.folder", "pages.table", "pages.warc"),
}
# Settings that decide how fast a stage is and not what it writes: a change of them redoes nothing.
_SPEED: dict[str, Any] = {
    "captions": {
        "fetch": {"concurrency"},
        "endpoint": {"concurrency"},
        "retry": True,
        "batch_size": True,
        "cache": True,
    },
    "boards": {"threads", "memory_gib"},
    "student": {"workers"},
    "mine": {"threads", "memory_gib"},
    "links": {"workers"},
    # The file of pairs counts by its hash, among the inputs; cached labels are what the teacher would say again, and
    # every engine says the same.
    "labels": {
        "pairs": True,
        "cache": True,
        "max_failed": True,
        "engine": True,
        "ray": True,
        "judge": {
            "endpoint": {"concurrency", "timeout_s", "api_key_env"},
            "retry": True,
            "template": True,  # counts by its hash too
            "requests_per_minute": True,
            "tokens_per_minute": True,
            "usd_per_1k_input": True,
            "usd_per_1k_output": True,
            "max_usd": True,
            "cache": True,
        },
    },
}


def key_settings(name: str, section: Config) -> dict[str, Any]:
    """The settings that tell one result of the stage from another, as its manifest has them."""
    return section.model_dump(mode="json", exclude=_SPEED.get(name))


def field_stages(config: Config) -> dict[str, Config]:
    """The sections of a run's config that are there, in the order of FIELD_STAGES."""
    found = {name: getattr(config, name, None) for name in FIELD_STAGES}
    return {name: section for name, section in found.items() if section is not None}
