"""`pertinent score BUNDLE PAIRS`: relevance of pairs, or of the whole catalogue for one query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pertinent.cli.app import JsonFlag, app, emit, wants_json
from pertinent.errors import DataError

if TYPE_CHECKING:
    import polars as pl


@app.command()
def score(
    bundle: Annotated[Path, typer.Argument(help="bundle folder, or a run folder")],
    pairs: Annotated[
        Path | None, typer.Argument(help="CSV, JSONL or Parquet with the columns query and item_id")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Parquet file to write (default: PAIRS with .scores.parquet)")
    ] = None,
    query: Annotated[str | None, typer.Option(help="score the whole catalogue for this query instead")] = None,
    top: Annotated[int, typer.Option(min=1, help="with --query: items to show")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Score pairs with onnxruntime alone: grade probabilities, expected grade, relevance in 0-1."""
    import polars as pl

    from pertinent.bundle import open_bundle
    from pertinent.files import reason_of, write_parquet
    from pertinent.progress import say

    if (pairs is None) == (query is None):
        raise DataError("score: expected either a file of pairs or --query, found " + ("both" if pairs else "neither"))
    scorer = open_bundle(bundle)
    if query is not None:
        catalogue = pl.DataFrame({"item_id": list(scorer.row_of)}).with_columns(query=pl.lit(query))
        best = scorer.score_pairs(catalogue).sort("relevance", "item_id", descending=[True, False]).head(top)
        _show(_with_titles(best, bundle), wants_json(as_json))
        return
    from pertinent.pipeline.pairs import read_pairs

    assert pairs is not None
    scored = scorer.score_pairs(read_pairs(pairs))
    target = out or pairs.with_name(Path(pairs.name.removesuffix(".gz")).stem + ".scores.parquet")
    try:
        write_parquet(target, scored)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {reason_of(error)}") from None
    unknown = scored["relevance"].null_count()
    if unknown:
        say(f"score: {unknown:,} of {scored.height:,} pairs name an item that the bundle does not have: null")
    emit({"scores": str(target), "pairs": scored.height, "unknown_items": unknown})


def _with_titles(best: pl.DataFrame, bundle: Path) -> pl.DataFrame:
    """Titles of the items where the bundle lies in a run folder that still has its text stage."""
    import polars as pl

    from pertinent.text.item_texts import ITEMS_FILE, ItemTexts

    if not (bundle / "text" / ITEMS_FILE).is_file():
        return best
    texts = ItemTexts.read(bundle / "text", ("title", "text")).served
    shown = pl.when(pl.col("title") != "").then("title").otherwise(pl.col("text").str.slice(0, 80)).alias("title")
    return best.join(texts.select("item_id", shown), on="item_id", how="left", maintain_order="left")


def _show(best: pl.DataFrame, as_json: bool) -> None:
    rows = best.drop("query").to_dicts()
    if as_json:
        emit(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("relevance", justify="right")
    table.add_column("grade", justify="right")
    table.add_column("item")
    table.add_column("title", overflow="fold")
    for row in rows:
        grade = f"L{row['expected_grade'] + 1:.1f}"
        table.add_row(f"{row['relevance']:.3f}", grade, row["item_id"], row.get("title", ""))
    Console(highlight=False).print(table)
