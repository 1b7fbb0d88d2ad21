"""`pertinent validate CONFIG`: read the data as a run would, write nothing, say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json


@app.command()
def validate(
    config: Annotated[Path, typer.Argument(help="YAML file of a run")],
    overrides: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a data set against the contract: counts, splits, grades, and each kind of bad row with an example."""
    from pertinent.data.validate import validate_dataset
    from pertinent.pipeline import load_run_config
    from pertinent.progress import say

    report = validate_dataset(load_run_config(config, overrides or ()).data)
    document = report.to_dict()
    if wants_json(as_json):
        emit(document)
    else:
        import yaml

        typer.echo(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    if not report.ok:
        say(f"pertinent: {config}: the data set breaks the contract; see problems")
        raise typer.Exit(2)
