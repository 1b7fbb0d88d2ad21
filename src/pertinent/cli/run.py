"""`pertinent run CONFIG`: the whole chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file, such as configs/pinboard.yaml")],
    overrides: SetOption = None,
    until: Annotated[
        str,
        typer.Option(help="last stage to run: data, text, teacher, labels, student, evaluation, or one of item fields"),
    ] = "evaluation",
    as_json: JsonFlag = False,
) -> None:
    """Run the stages from data to report; finished ones are skipped, a cut-off one is continued."""
    from pertinent.cli.tables import print_outcome
    from pertinent.pipeline import load_run_config, run_pipeline

    outcome = run_pipeline(load_run_config(config, overrides or ()), until=until)
    print_outcome(outcome)
    if wants_json(as_json):
        emit(outcome)
