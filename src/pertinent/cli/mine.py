"""`pertinent mine queries|boards|check`: item fields out of a log and out of saves on boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import SetOption, app, emit

mine = typer.Typer(name="mine", help="Engaged queries and rates from a log; titles from boards.", no_args_is_help=True)
app.add_typer(mine)

Target = Annotated[Path, typer.Argument(help="run folder, or its data folder: the items, and the held-out queries")]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of this stage's settings (default: the defaults)")]


@mine.command()
def queries(
    target: Target,
    config: ConfigOption = None,
    overrides: SetOption = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(help="log file or folder: Parquet, CSV, JSONL, UBI; repeatable (default: the data folder's log)"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write (default: mine/ beside the data folder)")] = None,
) -> None:
    """Engaged queries of items and engagement rates from a log; held-out queries never contribute."""
    from pertinent.mining.config import MineConfig
    from pertinent.pipeline.fields import load_fields_config, run_fields

    settings = load_fields_config("mine", MineConfig, config, overrides or ())
    if log:
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"paths": tuple(log)})})
    emit(run_fields("mine", settings, target, out))


@mine.command()
def boards(
    target: Target,
    config: ConfigOption = None,
    overrides: SetOption = None,
    path: Annotated[
        Path | None, typer.Option(help="boards.parquet|csv|jsonl or its folder (default: the dataset folder)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write (default: boards/ beside the data folder)")] = None,
) -> None:
    """Board titles of items from rows of item, title and user."""
    from pertinent.mining.config import BoardsConfig
    from pertinent.pipeline.fields import load_fields_config, run_fields

    settings = load_fields_config("boards", BoardsConfig, config, overrides or ())
    if path:
        settings = settings.model_copy(update={"path": path})
    emit(run_fields("boards", settings, target, out))


@mine.command()
def check(
    fields: Annotated[Path, typer.Argument(help="fields.parquet with engaged queries, or the folder that has it")],
    target: Target,
    n_folds: Annotated[
        int | None,
        typer.Option(min=2, max=16, help="cross-fitting folds of the queries (default: as the folder tells, else 5)"),
    ] = None,
) -> None:
    """Refuse a file whose engaged queries hold a held-out query, or one of the fold that a row is for."""
    from pertinent.pipeline.mine import check_mined

    emit(check_mined(fields, target, n_folds=n_folds))
