"""`pertinent caption CONFIG DATA`: the captions stage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json


@app.command()
def caption(
    config: Annotated[Path, typer.Argument(help="YAML file of the captions stage: model or endpoint, images, limits")],
    data: Annotated[Path, typer.Argument(help="data stage's folder, or a run folder")],
    out: Annotated[
        Path | None, typer.Option(help="folder to write (default: captions/ beside the data folder)")
    ] = None,
    seed: Annotated[int, typer.Option(help="sent to an endpoint")] = 0,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Caption the items' images with a Hugging Face model or a vision endpoint; the same command continues after a kill."""
    from pertinent.captions import CaptionsConfig
    from pertinent.cli.tables import print_fields
    from pertinent.pipeline.fields import load_fields_config, run_fields

    settings = load_fields_config("captions", CaptionsConfig, config, overrides or ())
    done = run_fields("captions", settings, data, out, seed=seed)
    print_fields(done)
    if wants_json(as_json):
        emit(done)
