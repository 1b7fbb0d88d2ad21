"""The student stage of a run: where the teacher's side hands a sentence encoder to the student's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pertinent.errors import ConfigError
from pertinent.student.config import StudentConfig
from pertinent.types import StageResult

_TRANSFORMER = "transformer"  # in the stage's folder while it works


def require_backend(config: StudentConfig) -> None:
    """Raise ConfigError where the backend is not installed: before the stages that come first."""
    if config.backend == "lightgbm" and find_spec("lightgbm") is None:
        raise ConfigError("student.backend: expected LightGBM, found none: pip install 'pertinent[trees]'")


def student_inputs(config: StudentConfig) -> dict[str, str]:
    """What the stage reads beside the folders of other stages: name -> what tells it from any other."""
    if config.encoder == "static":
        return {}
    from pertinent.teacher.backbones import resolve_backbone

    return {"encoder": resolve_backbone(config.sentence.backbone).description}


def train_from_run(
    config: StudentConfig,
    data: Path,
    text: Path,
    labels: Path,
    out: Path,
    *,
    seed: int,
    mined: Mapping[str, Path] | None = None,
) -> StageResult:
    """`train_student`, with the encoder that ``config`` names unpacked into ``out`` for as long as it takes."""
    from pertinent.student.train import train_student

    encoder = None
    if config.encoder != "static":
        from pertinent.features.sentence import ABOUT
        from pertinent.teacher.backbones import resolve_backbone
        from pertinent.teacher.unpack import write_encoder

        encoder = out / _TRANSFORMER
        if not (encoder / ABOUT).is_file():  # written last
            encoder.mkdir(exist_ok=True)
            write_encoder(resolve_backbone(config.sentence.backbone), encoder, max_tokens=config.sentence.max_tokens)
    result = train_student(config, data, text, labels, out, seed=seed, mined=mined, encoder=encoder)
    if encoder is not None:
        shutil.rmtree(encoder)
    return result
