"""`pertinent links CONFIG DATA`: the links stage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json


@app.command()
def links(
    config: Annotated[Path, typer.Argument(help="YAML file of the links stage: where the saved pages are, limits")],
    data: Annotated[Path, typer.Argument(help="data stage's folder, or a run folder")],
    out: Annotated[Path | None, typer.Option(help="folder to write (default: links/ beside the data folder)")] = None,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read title and description of the items' linked pages from HTML files, a column or WARC files; nothing is fetched."""
    from pertinent.cli.tables import print_fields
    from pertinent.links import LinksConfig
    from pertinent.pipeline.fields import load_fields_config, run_fields

    settings = load_fields_config("links", LinksConfig, config, overrides or ())
    done = run_fields("links", settings, data, out)
    print_fields(done)
    if wants_json(as_json):
        emit(done)
