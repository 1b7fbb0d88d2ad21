"""UBI 1.3 events and queries become the log that they tell of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from mining_logs import engaged, of_split, row
from pertinent.errors import DataError
from pertinent.mining.guards import NO_QUERY
from pertinent.mining.survey import UNKNOWN_ACTION, UNREADABLE

A, B = of_split("train", 2, "other")
AT = "2024-05-01T12:00:00Z"


def query(number: int, text: str, **more: Any) -> dict[str, Any]:
    hits = ["i0", "i1", "i2"]
    return {"query_id": f"Q{number}", "client_id": f"c{number % 6}", "user_query": text, "timestamp": AT, "query_response_hit_ids": hits, **more}  # fmt: skip


def event(number: int, item: str | int, action: str, position: int | None = None, **more: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {"object": {"object_id": item, "object_id_field": "sku"}}
    attributes |= {} if position is None else {"position": {"ordinal": position}}
    attributes |= {"dwell": {"seconds": more.pop("dwell")}} if "dwell" in more else {}
    return {"action_name": action, "query_id": f"Q{number}", "client_id": f"c{number % 6}", "timestamp": AT, "event_attributes": attributes, **more}  # fmt: skip


QUERIES = [query(k, A if k < 12 else f" {B.upper()}") for k in range(18)]
EVENTS = [event(k, f"i{p - 1}", "impression", p) for k in range(18) for p in (1, 2)]
EVENTS += [event(k, "i1", "add_to_cart", 2) for k in range(6)]
EVENTS += [event(k, "i0", "click_through", 1) for k in range(12, 18)]
# The same searches as a log of our own.
LOG = [
    row(
        A if k < 12 else B,
        e["event_attributes"]["object"]["object_id"],
        action,
        f"c{k % 6}",
        position=position,
        timestamp=AT,
    )
    for e in EVENTS
    for k in (int(e["query_id"][1:]),)
    for position in (e["event_attributes"]["position"]["ordinal"],)
    for action in ({"add_to_cart": "save", "click_through": "click"}.get(e["action_name"], e["action_name"]),)
]


def lines(file: Path, documents: list[Any]) -> Path:
    file.write_bytes(
        b"\n".join(document if isinstance(document, bytes) else orjson.dumps(document) for document in documents)
    )
    return file


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_events_and_queries_are_the_log_that_they_tell_of(mine, tmp_path: Path, wrapped: bool, together: bool) -> None:
    _, expected = mine(LOG, weights={"click": 0.5})
    shown = (
        [{"_index": "ubi", "_source": document} for document in [*EVENTS, *QUERIES]] if wrapped else [*EVENTS, *QUERIES]
    )
    if together:
        paths = [lines(tmp_path / "ubi.jsonl", shown[::-1])]
    else:
        paths = [
            lines(tmp_path / "events.jsonl", shown[: len(EVENTS)]),
            lines(tmp_path / "queries.ndjson", shown[len(EVENTS) :]),
        ]
    result, tables = mine(paths, weights={"click": 0.5})
    for name, table in tables.items():
        assert table.equals(expected[name]), name
    assert engaged(tables) == {"i0": {B: 3.0}, "i1": {A: 12.0}}
    assert result.counts["log"]["format"] == "ubi"
    assert result.quarantined == {}


def test_what_is_none_of_ours_or_broken_is_counted(mine, tmp_path: Path) -> None:
    odd = [event(99, "i0", "purchase"), event(0, "i0", "view"), {"action_name": "page_view"}, b"{broken", {"other": 1}]
    result, tables = mine(lines(tmp_path / "ubi.jsonl", [*EVENTS, *QUERIES, *odd]))
    assert result.quarantined == {UNREADABLE: 2, UNKNOWN_ACTION: 2, NO_QUERY: 1}  # Q99 is no query of this log
    assert engaged(tables) == {"i1": {A: 12.0}}


def test_the_hits_of_the_queries_can_be_the_impressions(mine, tmp_path: Path) -> None:
    file = lines(tmp_path / "ubi.jsonl", [*EVENTS, *QUERIES])
    result, tables = mine(file, log={"ubi_impressions": "hits"})
    assert result.counts["actions"] == {"click": 6, "impression": 54, "save": 6}
    assert result.quarantined == {UNKNOWN_ACTION: 36}
    found = tables["rates"].filter(query=A, text_version=-1).select("item_id", "impressions", "actions")
    assert found.rows() == [("i0", 12, 0), ("i1", 12, 6), ("i2", 12, 0)]


def test_the_dwell_of_a_click_is_read_where_the_log_says_it_is(mine, tmp_path: Path) -> None:
    clicks = [event(k, "i0", "click", 1, dwell=30 if k % 2 else 2) for k in range(12)]
    file = lines(tmp_path / "ubi.jsonl", [*QUERIES, *clicks])
    assert engaged(mine(file)[1]) == {}
    assert engaged(mine(file, log={"ubi_dwell": "$.event_attributes.dwell.seconds"})[1]) == {"i0": {A: 6.0}}


def test_an_authenticated_user_counts_once_on_several_clients(mine, tmp_path: Path) -> None:
    events = [event(k, "i0", "watch", user_id="anna") for k in range(6)]
    file = lines(tmp_path / "ubi.jsonl", [*QUERIES, *events])
    assert engaged(mine(file)[1]) == {}
    file = lines(tmp_path / "ubi.jsonl", [*QUERIES, *(event(k, "i0", "watch") for k in range(6))])
    assert engaged(mine(file)[1]) == {"i0": {A: 6.0}}


def test_events_alone_and_mixed_kinds_are_refused(mine, tmp_path: Path) -> None:
    events = lines(tmp_path / "events.jsonl", EVENTS)
    with pytest.raises(DataError, match=r"events\.jsonl: expected UBI queries .* beside the events, found none"):
        mine(events)
    own = lines(tmp_path / "own.jsonl", LOG)
    with pytest.raises(DataError, match=r"own\.jsonl: expected UBI events or queries as events\.jsonl holds"):
        mine([events, own])
