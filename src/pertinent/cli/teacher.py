"""`pertinent teacher train|score|combine|compare`: the teacher alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json

if TYPE_CHECKING:
    from pertinent.teacher.engines import EngineName

teacher = typer.Typer(name="teacher", help="Train, score with and compare teachers.", no_args_is_help=True)
app.add_typer(teacher)


@teacher.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of a run")],
    overrides: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the stages data, text and teacher; under torchrun, on several GPUs (after `pertinent run --until text`)."""
    from pertinent.cli.tables import print_outcome
    from pertinent.pipeline import load_run_config, run_pipeline
    from pertinent.pipeline.follow import follow_teacher, is_follower

    settings = load_run_config(config, overrides or ())
    if is_follower():
        follow_teacher(settings)
        return
    outcome = run_pipeline(settings, until="teacher")
    print_outcome(outcome)
    if wants_json(as_json):
        emit(outcome)


@teacher.command()
def score(
    folder: Annotated[Path, typer.Argument(help="teacher folder, or a run folder")],
    pairs: Annotated[Path, typer.Argument(help="Parquet with the columns query and text, or query and item_id")],
    text: Annotated[Path | None, typer.Option(help="text folder or run folder that has the items' texts")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet to write (default: PAIRS with .teacher.parquet)")] = None,
    engine: Annotated[
        str, typer.Option(help="torch, torch_compile, or on a CPU onnx (float32) or onnx_int8 (8-bit integers)")
    ] = "torch",
) -> None:
    """Grade probabilities of pairs: identical pairs once, batches of like length."""
    from pertinent.pipeline.run import training_stack

    with training_stack():
        from pertinent.teacher.tables import score_table

    target = out or pairs.with_name(f"{pairs.stem}.teacher.parquet")
    emit(score_table(teacher_folder(folder), pairs, target, text=text, engine=engine_named(engine)))


@teacher.command()
def combine(
    out: Annotated[Path, typer.Argument(help="folder to write; empty or not there yet")],
    teachers: Annotated[list[Path], typer.Argument(help="two or more teacher folders, or run folders")],
) -> None:
    """Make one teacher of several, whose probabilities are the mean of theirs."""
    from pertinent.pipeline.run import training_stack

    with training_stack():
        from pertinent.teacher.saving import combine_teachers

    emit({"teacher": str(out), "teacher_id": combine_teachers([teacher_folder(folder) for folder in teachers], out)})


@teacher.command()
def compare(
    configs: Annotated[list[Path], typer.Argument(help="YAML files of runs on the same data, with different names")],
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option(help="folder for the scores and the table")] = Path("runs/comparison"),
    as_json: JsonFlag = False,
) -> None:
    """Train several teachers on one split and print one table; each is compared with the first, pair by pair.

    Finished teachers are taken as they are. One that cannot be trained is left out of the table, and told at the end.
    """
    from pertinent.cli.tables import print_differences, print_metrics
    from pertinent.errors import ModelError
    from pertinent.pipeline import load_run_config
    from pertinent.pipeline.compare import compare_teachers

    found = compare_teachers([load_run_config(config, overrides or ()) for config in configs], out)
    print_metrics(found)
    print_differences(found["differences"], found["reference"])
    if wants_json(as_json):
        emit(found)
    if found["failed"]:
        raise ModelError("teacher compare: " + "; ".join(f"{name}: {said}" for name, said in found["failed"].items()))


def engine_named(engine: str) -> EngineName:
    """The engine of --engine. Raises ConfigError for a name that is none."""
    from typing import get_args

    from pertinent.errors import ConfigError
    from pertinent.teacher.engines import EngineName

    known: dict[str, EngineName] = {name: name for name in get_args(EngineName)}
    if engine not in known:
        raise ConfigError(f"--engine: expected one of {', '.join(known)}, found {engine}")
    return known[engine]


def teacher_folder(folder: Path) -> Path:
    """The folder of a teacher: itself, or the one in a run folder."""
    return folder / "teacher" if (folder / "teacher" / "teacher.json").is_file() else folder
