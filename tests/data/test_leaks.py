from __future__ import annotations

import polars as pl

from pertinent.data.items import ENGAGED_QUERIES
from pertinent.data.leaks import drop_held_out_queries

JUDGMENTS = pl.DataFrame(
    {"query": ["Rain Shower", "hat", "lamp", "rug"], "split": ["test", "dev", "train", "train"]},
)


def entries(*queries: str) -> list[dict[str, object]]:
    return [{"query": query, "weight": 0.5 * k} for k, query in enumerate(queries)]


def test_held_out_queries_leave_the_items_and_the_others_stay_in_their_order() -> None:
    engaged = [entries("z", "RAIN  shower", "lamp", "hat", "a"), None, entries("Hat "), entries("rug")]
    items = pl.DataFrame(
        {"item_id": ["d", "c", "b", "a"], "engaged_queries": engaged, "brand": ["w", "x", "y", "z"]},
        schema={"item_id": pl.String, "engaged_queries": ENGAGED_QUERIES, "brand": pl.String},
    )
    found, n_leaks = drop_held_out_queries(items, JUDGMENTS)
    assert n_leaks == 3
    whole = entries("z", "RAIN  shower", "lamp", "hat", "a")
    assert found["engaged_queries"].to_list() == [[whole[0], whole[2], whole[4]], None, None, entries("rug")]
    assert found.schema == items.schema
    assert found.drop("engaged_queries").equals(items.drop("engaged_queries"))


def test_items_without_such_entries_stay_as_they_are() -> None:
    plain = pl.DataFrame({"item_id": ["a"]})
    assert drop_held_out_queries(plain, JUDGMENTS) == (plain, 0)
    items = pl.DataFrame(
        {"item_id": ["a"], "engaged_queries": [entries("x")]}, schema_overrides={"engaged_queries": ENGAGED_QUERIES}
    )
    found, n_leaks = drop_held_out_queries(items, JUDGMENTS.clear())
    assert found.equals(items)
    assert n_leaks == 0


def test_no_held_out_query_is_left_in_a_built_data_set(write, build) -> None:
    items = ["item_id,title,engaged_queries"]
    items += [f'i{k},Title {k},"[""Q  {k}"",""q {k + 20}"",""q {k + 40}"",""else""]"' for k in range(20)]
    dataset, _, result = build(write(items="\n".join(items)))
    held_out = set(dataset.judgments.filter(pl.col("split") != "train")["query"])
    kept = [entry["query"] for row in dataset.items["engaged_queries"] for entry in row]
    assert len(held_out) == result.counts["held_out_engaged_queries"] == 15
    assert not held_out & {" ".join(query.lower().split()) for query in kept}
    assert len(kept) == 80 - 15
