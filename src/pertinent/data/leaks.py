"""Labels that would leak into the item text: held-out queries among the items' own engaged queries."""

from __future__ import annotations

import polars as pl

from pertinent.data.splits import normalised


def drop_held_out_queries(items: pl.DataFrame, judgments: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The items without the engaged queries that are judged dev or test queries, and how many entries these were.

    An item's text that holds a held-out query tells the label that is to be predicted. Queries are compared by their
    normalised text. items: the canonical table; judgments: with JUDGMENTS_SCHEMA.
    """
    if "engaged_queries" not in items.columns:
        return items, 0
    held_out = normalised(judgments.filter(pl.col("split") != "train")["query"].unique())
    entries = items.select("item_id", "engaged_queries").explode("engaged_queries")
    query = entries["engaged_queries"].struct.field("query")
    entries, query = entries.filter(query.is_not_null()), query.drop_nulls()
    leaking = normalised(query).is_in(held_out.implode())
    kept = entries.filter(~leaking).group_by("item_id", maintain_order=True).agg("engaged_queries")
    rest = items.drop("engaged_queries").join(kept, on="item_id", how="left", maintain_order="left")
    return rest.select(items.columns), int(leaking.sum())
