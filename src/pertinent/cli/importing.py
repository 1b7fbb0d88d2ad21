"""`pertinent import NAME SOURCE OUT`: a dataset folder from a known public set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app, emit


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(help="homedepot, esci, cxc, msrd, wands or pinboard")],
    source: Annotated[Path, typer.Argument(help="folder of the set's own files (pinboard reads none: give '-')")],
    out: Annotated[Path, typer.Argument(help="the dataset folder to write")],
) -> None:
    """Make a dataset folder (items, judgments, log, dataset.yaml) from a known public set."""
    from typing import get_args

    from pertinent.data.importing import ImportName, import_dataset
    from pertinent.errors import ConfigError

    names: dict[str, ImportName] = {known: known for known in get_args(ImportName)}
    if name not in names:
        raise ConfigError(f"import: expected one of {', '.join(names)}, found {name}")
    result = import_dataset(names[name], None if str(source) == "-" else source, out)
    emit({"dataset": str(out), "counts": dict(result.counts), "quarantined": dict(result.quarantined or {})})
