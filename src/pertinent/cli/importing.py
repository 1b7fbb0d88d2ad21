"""`pertinent import NAME SOURCE OUT`: a dataset folder from a known public set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app, emit


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(help="homedepot, esci or pinboard")],
    source: Annotated[Path, typer.Argument(help="folder of the set's own files (pinboard reads none: give '-')")],
    out: Annotated[Path, typer.Argument(help="the dataset folder to write")],
) -> None:
    """Make a dataset folder (items, judgments, log, dataset.yaml) from a known public set."""
    from pertinent.data.importing import import_dataset

    result = import_dataset(name, source, out)
    emit({"dataset": str(out), "counts": dict(result.counts), "quarantined": dict(result.quarantined or {})})
