"""`pertinent label sample|run|report`: the pairs that the teacher labels, their labels, and what these are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json

label = typer.Typer(
    name="label",
    help="Pairs for the teacher to label, drawn from a search log, and their labels.",
    no_args_is_help=True,
)
app.add_typer(label)


@label.callback()
def _group() -> None:
    """Pairs for the teacher to label, drawn from a search log, and their labels."""


@label.command()
def sample(
    target: Annotated[Path, typer.Argument(help="run folder whose data and text stages are done, or its data folder")],
    config: Annotated[Path | None, typer.Option(help="YAML file of these settings (default: the defaults)")] = None,
    overrides: SetOption = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(help="Parquet file of the log, or folder of them; repeatable (default: the data folder's log)"),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="teacher's folder: its token vectors give the embedding neighbours")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of every draw")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder to write (default: sample/ beside the data folder)")] = None,
) -> None:
    """Draw pairs by strata of the log, with neighbours and random items; held-out queries and judged pairs never."""
    from pertinent.config import load_config, overridden, parse_config, paths_beside
    from pertinent.labelling.config import SampleConfig
    from pertinent.pipeline.labelling import run_sample

    if config is None:
        settings = parse_config(SampleConfig, overridden({}, overrides or ()), "--set")
    else:
        settings = paths_beside(load_config(SampleConfig, config, overrides or ()), ["paths"], config.resolve().parent)
    if log:
        settings = settings.model_copy(update={"paths": tuple(log)})
    emit(run_sample(settings, target, out, vectors=vectors, seed=seed))


@label.command()
def report(
    target: Annotated[Path, typer.Argument(help="run folder with labels, or a folder of label shards")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write (default: report.html beside the shards)")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="data stage's folder (default: data/ beside the labels)")] = None,
) -> None:
    """One self-contained HTML page: grades and entropy by stratum and language, agreement with people, what failed."""
    from pertinent.report import write_label_report

    emit({"report": str(write_label_report(target, out, data=data))})


@label.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file of a run")],
    overrides: SetOption = None,
    engine: Annotated[
        str | None, typer.Option(help="local or ray (default: labels.engine; a dry run: all that are installed)")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="of a Ray cluster: auto, HOST:PORT, ray://HOST:PORT; the engine is then ray")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="time the teacher on real pairs and print rows, tokens, hours and cost")
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="USD an hour of the machines that label, for the cost of a dry run")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the stages up to the labels, resumable at any unit; or say what the labels will take, writing nothing."""
    from pertinent.cli.tables import print_estimate, print_outcome
    from pertinent.pipeline import load_run_config, run_pipeline
    from pertinent.pipeline.labelling import engine_named, estimate_run
    from pertinent.pipeline.run import training_stack

    settings = load_run_config(config, overrides or ())
    named = engine_named(engine, address)
    if named is not None:
        settings = settings.model_copy(update={"labels": settings.labels.on_engine(named, address)})
    if not dry_run:
        outcome = run_pipeline(settings, until="labels")
        print_outcome(outcome)
        if wants_json(as_json):
            emit(outcome)
        return
    with training_stack():
        found = estimate_run(settings, engines=[named] if named else (), price_per_hour_usd=price_per_hour)
    print_estimate(found)
    if wants_json(as_json):
        emit(found)
