"""`pertinent items load|delete`: the items of a store that a server reads, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import app, emit

items = typer.Typer(name="items", help="Load and delete the items of a server's store.", no_args_is_help=True)
app.add_typer(items)

Store = Annotated[str, typer.Argument(help="redis:// address, or the folder that `serve --store` is given")]
Bundle = Annotated[Path, typer.Argument(help="bundle or run folder that encodes the items; each reads its own rows")]


@items.command()
def load(
    store: Store,
    bundle: Bundle,
    table: Annotated[
        Path | None,
        typer.Argument(help="Parquet, JSONL or CSV with item_id and item fields (default: the bundle's own items)"),
    ] = None,
    fields: Annotated[
        list[Path] | None,
        typer.Option(help="folder of captions, boards, mined queries or links to lay over the items; repeatable"),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="leave out broken rows and count them")] = False,
) -> None:
    """Write the items that have changed; the same command continues one that was cut off."""
    from pertinent.serving.loading import load_items

    emit(load_items(store, bundle, table, fields=fields or (), skip_broken=skip_broken))


@items.command()
def delete(
    store: Store,
    bundle: Bundle,
    table: Annotated[Path, typer.Argument(help="Parquet, JSONL or CSV with the column item_id")],
) -> None:
    """Delete the items that a table names."""
    from pertinent.serving.loading import delete_items

    emit(delete_items(store, bundle, table))
