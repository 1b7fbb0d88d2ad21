"""`pertinent audit LOG BUNDLE`: skew between what was served and what the bundle gives, and live fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pertinent.cli.app import JsonFlag, app, emit, wants_json


@app.command()
def audit(
    log: Annotated[Path, typer.Argument(help="folder of `serve --feature-log`, or one of its files")],
    bundle: Annotated[Path, typer.Argument(help="the bundle that was served, or its run folder")],
    tolerance: Annotated[float, typer.Option(min=0, help="largest difference of a feature that is no skew")] = 1e-6,
    probability_tolerance: Annotated[float, typer.Option(min=0, help="the same for a grade's probability")] = 1e-5,
    allowed_share: Annotated[float, typer.Option(min=0, max=1, help="share of rows that may differ by more")] = 0.0,
    teacher: Annotated[Path | None, typer.Option(help="teacher or run folder: it scores a sample again")] = None,
    text: Annotated[
        Path | None, typer.Option(help="with --teacher: text or run folder of the items (default: BUNDLE's run)")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="with --teacher: pairs, at most 20 of one request")] = 2_000,
    seed: Annotated[int, typer.Option(help="of the sample and its intervals")] = 0,
    engine: Annotated[str, typer.Option(help="of the teacher: torch, or on a CPU onnx or onnx_int8")] = "torch",
    as_json: JsonFlag = False,
) -> None:
    """Recompute logged features and scores from the bundle; exit 1 on skew, and where nothing could be compared."""
    from pertinent.pipeline.audit import Tolerance
    from pertinent.pipeline.audit import audit as compare

    found = compare(log, bundle, Tolerance(tolerance, probability_tolerance, allowed_share))
    if teacher is not None:
        found |= {"live": _fidelity(log, bundle, teacher, text, sample, seed, engine)}
    if wants_json(as_json):
        emit(found)
    else:
        _show(found)
    if found["skew"] or not found["compared"]:
        raise typer.Exit(1)


def _fidelity(
    log: Path, bundle: Path, teacher: Path, text: Path | None, sample: int, seed: int, engine: str
) -> dict[str, Any]:

    from pertinent.cli.teacher import engine_named, teacher_folder
    from pertinent.pipeline.run import training_stack

    with training_stack():
        from pertinent.pipeline.fidelity import live_fidelity
    folder = text or bundle
    texts = folder if (folder / "items.parquet").is_file() else folder / "text"
    named = engine_named(engine)
    return live_fidelity(log, bundle, teacher_folder(teacher), texts, sample=sample, seed=seed, engine=named)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("column", title=f"{found['rows']:,} candidates of {found['requests']:,} requests")
    for column in ("largest difference", "mean", "share beyond tolerance"):
        table.add_column(column, justify="right")
    for name, told in {**found["features"], **found["probabilities"]}.items():
        numbers = f"{told['max_difference']:.3g}", f"{told['mean_difference']:.3g}", f"{told['share']:.2%}"
        table.add_row(name, *numbers)
    console.print(table)
    for name in ("compared", "from_store", "unknown_when_served", "unknown_to_the_bundle"):
        console.print(f"{name.replace('_', ' ')}: {found[name]:,}")
    console.print("skew: " + (", ".join(found["skewed"]) if found["skew"] else "none"))
    if "live" in found:
        _show_live(found["live"])


def _show_live(live: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("live fidelity", title=f"{live['pairs']:,} pairs of {live['queries']:,} queries")
    for column in ("value", "95% interval"):
        table.add_column(column, justify="right")
    for name, value in live["fidelity"].items():
        interval = live["intervals"][name]
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-"
        table.add_row(name, "-" if value is None else f"{value:.3f}", shown)
    Console(highlight=False).print(table)
