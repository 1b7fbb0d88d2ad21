"""`pertinent report RUN`: write the report of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app, emit


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="run folder")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write (default: RUN/report.html)")] = None,
) -> None:
    """One self-contained HTML page: tables, plots, the worst queries, and how it was made."""
    from pertinent.report import write_report

    emit({"report": str(write_report(run, out))})
