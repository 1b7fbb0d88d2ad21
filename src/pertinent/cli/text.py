"""`pertinent text build|diff|show`: the item texts that the teacher reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pertinent.cli.app import JsonFlag, SetOption, app, emit, wants_json
from pertinent.errors import ConfigError

if TYPE_CHECKING:
    from pertinent.text.show import ShownItem

text = typer.Typer(name="text", help="Build, compare and look at the item texts.", no_args_is_help=True)
app.add_typer(text)


@text.command()
def build(
    data: Annotated[Path, typer.Argument(help="folder of a data stage, such as runs/NAME/data")],
    out: Annotated[Path, typer.Argument(help="folder to write: items.parquet, text.json, manifest.json")],
    config: Annotated[Path, typer.Option(help="YAML file of a run: its sections text and teacher.backbone count")],
    overrides: SetOption = None,
    fields: Annotated[
        list[Path] | None, typer.Option(help="folder with a fields.parquet to lay over the items; may be repeated")
    ] = None,
) -> None:
    """Render each item as one field-tagged text within the token budget; skipped where nothing changed."""
    from pertinent.pipeline import load_run_config
    from pertinent.pipeline.run import training_stack

    with training_stack():
        from pertinent.pipeline.text import text_stage

        manifest = text_stage(load_run_config(config, overrides or ()), data, out, fields or ())
    emit({"text": str(out), "counts": manifest["counts"], "warnings": manifest["warnings"]})


@text.command()
def diff(
    old: Annotated[Path, typer.Argument(help="folder of a text stage")],
    new: Annotated[Path, typer.Argument(help="folder of a later one")],
    config: Annotated[Path | None, typer.Option(help="YAML file of a run: its section changes has the rule")] = None,
    overrides: SetOption = None,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="share of changed words that counts, in place of the config's")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet to write: item_id, change, share, needed")] = None,
) -> None:
    """Say which items changed so much that they need new labels and vectors: added, another title, or many words."""
    from pertinent.files import write_parquet
    from pertinent.pipeline import load_run_config
    from pertinent.text.changes import ChangesConfig, changed_items

    rule = load_run_config(config, overrides or ()).changes if config else ChangesConfig()
    if share is not None:
        rule = rule.model_copy(update={"share": share})
    found = changed_items(old, new, rule)
    if out is not None:
        write_parquet(out, found)
    counts = dict(found["change"].value_counts().sort("change").iter_rows())
    needed = found.filter("needed")["item_id"].to_list()
    emit({"rule": rule.model_dump(), "changed": counts, "needed": len(needed), "items": needed})


@text.command()
def show(
    item: Annotated[str, typer.Argument(help="item_id")],
    run: Annotated[Path | None, typer.Argument(help="run folder whose teacher is trained")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a run whose data stage is done, instead")] = None,
    overrides: SetOption = None,
    version: Annotated[
        int, typer.Option(help="text version: -1 is served, K is read by training pairs of cross-fitting fold K")
    ] = -1,
    as_json: JsonFlag = False,
) -> None:
    """Show what the teacher reads of one item: each field with its tokens, what was cut and what was said before."""
    from pertinent.pipeline import load_run_config
    from pertinent.pipeline.run import training_stack

    if (run is None) == (config is None):
        raise ConfigError("text show: expected a run folder or --config, found " + ("both" if run else "neither"))
    with training_stack():
        from pertinent.pipeline.text import show_text, show_text_of_run

        if config is not None:
            shown = show_text(load_run_config(config, overrides or ()), item, version)
        else:
            assert run is not None
            shown = show_text_of_run(run, item, version)
    if wants_json(as_json):
        emit(shown.to_dict())
    else:
        _print(shown)


_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def _print(shown: ShownItem) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pertinent.text.representation import SEPARATOR, tag_of

    colour_of = {field.name: _COLOURS[i % len(_COLOURS)] for i, field in enumerate(shown.fields)}
    console = Console(highlight=False)
    parts = [
        Text.assemble((tag_of(field.name), f"bold {colour_of[field.name]}"), " ", (field.value, colour_of[field.name]))
        for field in shown.fields
        if field.value
    ]
    console.print(Text(SEPARATOR, style="dim").join(parts))
    console.print(f"\n{shown.n_tokens} of {shown.max_tokens} tokens, tags and marks included")
    table = Table()
    table.add_column("field")
    for column in ("tokens", "budget", "got"):
        table.add_column(column, justify="right")
    table.add_column("cut", overflow="fold")
    table.add_column("said before", overflow="fold")
    for field in shown.fields:
        numbers = [str(n) for n in (field.n_tokens, field.budget, field.granted)]
        name = Text(field.name, style=colour_of[field.name])
        table.add_row(name, *numbers, Text("; ".join(field.cut)), Text("; ".join(field.repeated)))
    for absent in shown.absent:
        table.add_row(Text(absent, style="dim"), "0", "", "", "", Text("nothing given", style="dim"))
    console.print(table)
