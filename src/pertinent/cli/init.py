"""`pertinent init FOLDER`: a commented starter config for a folder of CSV, JSONL or Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app
from pertinent.errors import DataError


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder with your items, judgments and, if you have one, log")],
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing pertinent.yaml")] = False,
) -> None:
    """Look at the files, guess the column map and the scale, and write FOLDER/pertinent.yaml."""
    from pertinent.data.guess import starter_config
    from pertinent.progress import say

    target = folder / "pertinent.yaml"
    if target.exists() and not force:
        raise DataError(f"{target}: exists already; --force overwrites it")
    text = starter_config(folder)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from None
    say(f"wrote {target}: read it, settle the lines marked CHECK, then: pertinent validate {target}")
