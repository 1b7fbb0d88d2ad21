"""`pertinent student index`: the item store of a bundle for a catalogue as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app, emit

student = typer.Typer(name="student", help="What is served: the student's bundle.", no_args_is_help=True)
app.add_typer(student)


@student.callback()
def _group() -> None:
    """What is served: the student's bundle."""


@student.command()
def index(
    bundle: Annotated[
        Path, typer.Argument(help="bundle or run folder; its item store is replaced when the new one is whole")
    ],
    items: Annotated[
        Path, typer.Argument(help="Parquet, JSONL or CSV with item_id and item fields: the whole catalogue")
    ],
    fields: Annotated[
        list[Path] | None,
        typer.Option(help="folder of captions, boards, mined queries or links to lay over the items; repeatable"),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="share of changed words from which an item is encoded anew")
    ] = 0.2,
    title: Annotated[bool, typer.Option(help="whether any change of the title's words counts")] = True,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="leave out broken rows and count them")] = False,
) -> None:
    """Encode the items that are new or changed meaningfully, keep the others, drop what is not in the catalogue."""
    from pertinent.student.index import index_items
    from pertinent.text.changes import ChangesConfig

    changes = ChangesConfig(share=share, title=title)
    emit(index_items(bundle, items, fields=fields or (), changes=changes, skip_broken=skip_broken))
