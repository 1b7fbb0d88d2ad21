"""The configuration of a whole run: one section a stage."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pertinent.captions import CaptionsConfig
from pertinent.config import Config, load_config, paths_beside
from pertinent.data.config import DataConfig
from pertinent.errors import ConfigError
from pertinent.evaluation.intervals import RESAMPLES, Method
from pertinent.labelling.config import LabelsConfig
from pertinent.links import LinksConfig
from pertinent.mining.config import BoardsConfig, MineConfig
from pertinent.pipeline.field_stages import PATHS
from pertinent.student.config import StudentConfig
from pertinent.teacher.config import TeacherConfig
from pertinent.text.changes import ChangesConfig
from pertinent.text.config import TextConfig


class EvaluationConfig(Config):
    """How the systems are measured."""

    resamples: int = Field(default=RESAMPLES, ge=0, description="bootstrap resamples of queries; 0: no intervals")
    intervals: Method = Field(
        default="bootstrap", description="of 95% intervals: bootstrap, or analytic (a sandwich by query) for many pairs"
    )
    slices: tuple[str, ...] = Field(
        default=("language", "query_words"),
        description="columns to slice by: of the pairs or the items, grade, or query_words, query_popularity, "
        "item_popularity, item_fields",
    )
    label_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="also train a student on each of these shares of the labels, to see whether more labels would help",
    )


class RunConfig(Config):
    """Everything that `pertinent run` needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run folder is runs/NAME")
    output: Path = Field(default=Path("runs"), description="where run folders go; relative to the working folder")
    seed: int = Field(default=0, ge=0, description="of every draw in every stage")
    data: DataConfig
    captions: CaptionsConfig | None = Field(default=None, description="caption the items' images before the text")
    boards: BoardsConfig | None = Field(default=None, description="mine board titles before the text")
    mine: MineConfig | None = Field(default=None, description="mine engaged queries and rates before the text")
    links: LinksConfig | None = Field(default=None, description="read the pages that items link to before the text")
    text: TextConfig = TextConfig()
    changes: ChangesConfig = ChangesConfig()
    teacher: TeacherConfig = TeacherConfig()
    labels: LabelsConfig = LabelsConfig()
    student: StudentConfig = StudentConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.output / self.name


def load_run_config(file: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a run's YAML. Relative paths are taken from the config file's folder.

    Raises ConfigError in one line for an unknown key, a wrong value, or an unset ``${VARIABLE}``.
    """
    config = load_config(RunConfig, file, overrides)
    path = config.data.path
    if path is not None and not path.is_absolute():
        # An environment variable or --set gives a path from where the user stands; a written one, from the file.
        beside = file.resolve().parent / path
        if not beside.exists() and path.exists():
            beside = path.resolve()
        if not beside.exists():
            raise ConfigError(f"{file}: data.path: no such folder: {beside}")
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": beside})})
    keys = [f"{section}.{path}" for section, paths in PATHS.items() for path in paths]
    keys += ["labels.pairs", "labels.cache", "labels.judge.template", "labels.judge.cache"]
    return paths_beside(config, keys, file.resolve().parent)
