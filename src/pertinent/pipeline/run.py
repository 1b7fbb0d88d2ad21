"""`pertinent run`: the chain from a data set to a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pertinent.config import Config
from pertinent.data.build import build_dataset
from pertinent.errors import ConfigError
from pertinent.files import read_json
from pertinent.pipeline.config import RunConfig
from pertinent.pipeline.field_stages import FIELD_STAGES, FieldStage, field_stages, key_settings
from pertinent.pipeline.labelling import label_inputs, with_own_labels
from pertinent.pipeline.lock import run_lock
from pertinent.pipeline.slicing import check_slice_columns
from pertinent.pipeline.source import source_hash
from pertinent.pipeline.stage import run_stage
from pertinent.pipeline.student import require_backend, student_inputs, train_from_run
from pertinent.report import write_label_report, write_report
from pertinent.teacher.trackers import require_trackers
from pertinent.text.build import build_text
from pertinent.types import StageResult

STAGES = ("data", "text", "teacher", "labels", "student", "evaluation")
TRAINING_STACK = ("torch", "transformers", "accelerate", "peft", "huggingface_hub", "onnx", "safetensors")


def run_pipeline(config: RunConfig, *, until: str = "evaluation") -> dict[str, Any]:
    """Run the stages of `stages_of` in order up to ``until``; finished ones are skipped, a cut-off one is continued.

    Returns {"run", "stages": {name: manifest}, "seconds": of all these stages, "report": path or None, "metrics":
    evaluation/metrics.json or None}. Raises ConfigError for an unknown stage or where the training stack is not
    installed, DataError while another run works in the folder, and what the stages raise.
    """
    known = stages_of(config)
    if until not in known:
        raise ConfigError(f"--until: expected one of {', '.join(known)}, found {until}")
    if known.index(until) >= known.index("teacher"):
        require_trackers(config.teacher.trackers)  # before the stages that come first
        require_backend(config.student)
    with run_lock(config.folder), training_stack():
        return _run_stages(config, until)


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages of a run in order: STAGES, and after data those of item fields that the config asks for."""
    return (STAGES[0], *field_stages(config), *STAGES[1:])


def _run_stages(config: RunConfig, until: str) -> dict[str, Any]:
    folder, order = config.folder, stages_of(config)
    manifests: dict[str, dict[str, Any]] = {}

    def stage(name: str, part: Config, inputs: dict[str, str], work: Callable[[Path], StageResult]) -> None:
        if order.index(name) <= order.index(until):
            dumped = key_settings(name, part)
            manifests[name] = run_stage(name, folder / name, config=dumped, seed=config.seed, inputs=inputs, work=work)

    def keys(*names: str) -> dict[str, str]:
        return {name: manifests[name]["key"] for name in names if name in manifests}

    source = {"source": source_hash(config.data, outside=(config.output, config.folder))}
    stage("data", config.data, source, lambda out: build_dataset(config.data, out))
    check_slice_columns(folder / "data", config.evaluation.slices)
    fields = field_stages(config)
    for name, section in fields.items():
        if order.index(name) <= order.index(until):
            made = FIELD_STAGES[name]()
            more = made.inputs(section, folder / "data", seed=config.seed) if made.inputs else {}
            stage(name, section, {**keys("data"), **more}, partial(_make_fields, config, made, section))
    if order.index(until) < order.index("text"):
        return _outcome(folder, manifests)

    # Only from here on is the training stack needed; `pertinent run --until data` works without it.
    from pertinent.teacher.backbones import resolve_backbone

    backbone = resolve_backbone(config.teacher.backbone)
    data, text, teacher, labels, student = (folder / name for name in STAGES[:5])
    stage(
        "text",
        config.text,
        {**keys("data", *fields), "tokenizer": backbone.description},
        lambda out: build_text(
            config.text,
            data,
            out,
            tokenizer_file=backbone.tokenizer_file,
            sources=[folder / name for name in fields],
        ),
    )

    def train_the_teacher(out: Path) -> StageResult:
        from pertinent.teacher.train import train_teacher

        return train_teacher(config.teacher, data, text, out, backbone=backbone, seed=config.seed)

    def label(out: Path) -> StageResult:
        from pertinent.labelling.label import label_pairs

        return label_pairs(with_own_labels(config.labels, labels), data, text, teacher, out, seed=config.seed)

    def train_on(labels: Path, out: Path) -> StageResult:
        mined: dict[str, Path] = {name: folder / name for name in ("mine", "boards") if name in fields}
        return train_from_run(config.student, data, text, labels, out, seed=config.seed, mined=mined)

    def measure(out: Path) -> StageResult:
        from pertinent.pipeline.evaluate import evaluate_run
        from pertinent.pipeline.scaling import write_label_scaling

        part = config.evaluation
        found = evaluate_run(part, data, text, teacher, student, out, backbone=backbone, seed=config.seed)
        if part.label_shares:
            write_label_scaling(part.label_shares, labels, out, train=train_on)
        return found

    stage("teacher", config.teacher, {**keys("data", "text"), "backbone": backbone.description}, train_the_teacher)
    stage("labels", config.labels, {**keys("data", "text", "teacher"), **label_inputs(config.labels)}, label)
    if "labels" in manifests and not (labels / "report.html").exists():
        write_label_report(labels, data=data)
    learned_from = {**keys("data", "text", "labels", "mine", "boards"), **student_inputs(config.student)}
    stage("student", config.student, learned_from, partial(train_on, labels))
    stage("evaluation", config.evaluation, keys("data", "text", "teacher", "student"), measure)
    return _outcome(folder, manifests)


def _make_fields(config: RunConfig, made: FieldStage, section: Config, out: Path) -> StageResult:
    return made.work(section, config.folder / "data", out, seed=config.seed)


@contextmanager
def training_stack() -> Iterator[None]:
    """Turn the failed import of a package of the extra ``train`` into a ConfigError that says how to install it."""
    try:
        yield
    except ImportError:
        absent = [package for package in TRAINING_STACK if find_spec(package) is None]
        if not absent:
            raise
        raise ConfigError(
            f"run: expected the training stack, found no {', '.join(absent)}: pip install 'pertinent[train]'"
        ) from None


def _outcome(folder: Path, manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    seconds = round(sum(manifest["seconds"] for manifest in manifests.values()), 1)
    outcome: dict[str, Any] = {"run": str(folder), "stages": manifests, "seconds": seconds}
    outcome |= {"report": None, "metrics": None}
    if "evaluation" in manifests:
        outcome["metrics"] = read_json(folder / "evaluation" / "metrics.json")
        outcome["report"] = str(write_report(folder))
    return outcome
