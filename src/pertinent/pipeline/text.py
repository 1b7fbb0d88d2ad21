"""The text stage by itself, and one item of it: what `pertinent text` calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pertinent.config import parse_config
from pertinent.errors import DataError
from pertinent.files import read_json
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.field_stages import FIELD_STAGES, field_stages
from pertinent.pipeline.source import folder_key
from pertinent.pipeline.stage import read_manifest, run_stage
from pertinent.teacher.backbones import resolve_backbone
from pertinent.text.build import build_text
from pertinent.text.config import TextConfig
from pertinent.text.item_texts import ABOUT_FILE
from pertinent.text.show import ShownItem, show_item
from pertinent.text.sources import FIELDS_FILE, SERVED


def text_stage(config: RunConfig, data: Path, out: Path, sources: Sequence[Path] = ()) -> dict[str, Any]:
    """Run the text stage from a data stage's folder into ``out`` and return its manifest; skipped when nothing changed.

    sources: folders with fields.parquet. Raises DataError where ``data`` is no data stage or a source has no table.
    """
    backbone = resolve_backbone(config.teacher.backbone)
    inputs = {"data": _key(data, "items.parquet"), "tokenizer": backbone.description}
    inputs |= {str(source): _key(source, FIELDS_FILE) for source in sources}
    out.parent.mkdir(parents=True, exist_ok=True)
    return run_stage(
        "text",
        out,
        config=config.text.model_dump(mode="json"),
        seed=config.seed,
        inputs=inputs,
        work=lambda folder: build_text(
            config.text, data, folder, tokenizer_file=backbone.tokenizer_file, sources=sources
        ),
    )


def show_text(config: RunConfig, item_id: str, version: int = SERVED) -> ShownItem:
    """One item of a configured run, whose data stage (and those of item fields) must be done."""
    sources = [config.folder / name for name in field_stages(config)]
    tokenizer_file = resolve_backbone(config.teacher.backbone).tokenizer_file
    return show_item(
        config.text,
        _stage(config.folder, "data"),
        item_id,
        tokenizer_file=tokenizer_file,
        sources=sources,
        version=version,
    )


def show_text_of_run(run: Path, item_id: str, version: int = SERVED) -> ShownItem:
    """One item of a run folder, by the manifest of its text stage and its teacher's tokenizer."""
    manifest = read_manifest(_stage(run, "text"))
    assert manifest is not None
    # The table's own file has the fields that were read, a data set's attributes among them.
    used = read_json(run / "text" / ABOUT_FILE)
    settings = parse_config(TextConfig, {**manifest["config"], "fields": used["fields"]}, str(run / "text"))
    tokenizer_file = run / "teacher" / "tokenizer.json"
    if not tokenizer_file.is_file():
        raise DataError(f"{tokenizer_file}: no such file; before the teacher is trained, give --config")
    sources = [run / name for name in FIELD_STAGES if name in manifest["inputs"]]
    return show_item(
        settings, _stage(run, "data"), item_id, tokenizer_file=tokenizer_file, sources=sources, version=version
    )


def _stage(run: Path, name: str) -> Path:
    if read_manifest(run / name) is None:
        raise DataError(f"{run / name}: expected a finished stage, found none: pertinent run CONFIG --until {name}")
    return run / name


def _key(folder: Path, table: str) -> str:
    if not (folder / table).is_file():
        raise DataError(f"{folder / table}: no such file")
    return folder_key(folder)
