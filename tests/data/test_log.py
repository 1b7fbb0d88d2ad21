from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from pertinent.data.splits import query_id_of, split_of
from pertinent.errors import DataError

NOON = dt.datetime(2024, 5, 1, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00.000",
        "2024-05-01 12:00",
        "1714564800",
        "1714564800000",
        "1714564800000000",
    ],
)
def test_every_way_to_write_a_time_is_read_as_utc(write, build, written: str) -> None:
    dataset, _, _ = build(write(log=f"timestamp,query,item_id,action\n{written},q 1,i1,click\n"))
    assert dataset.log.collect()["timestamp"].to_list() == [NOON]


def test_a_log_row_is_keyed_and_split_as_its_query_is(write, build) -> None:
    log = "timestamp,query,item_id,action,position,user\n2024-05-01,Q  1,i1,Long Click,3,u1\n,never judged,i2,save,,\n"
    dataset, quarantine, result = build(write(log=log))
    rows = dataset.log.collect()
    assert rows["query_id"].to_list() == [query_id_of("q 1"), query_id_of("never judged")]
    assert rows["split"].to_list() == [split_of("q 1"), split_of("never judged")]
    assert rows["action"].to_list() == ["long_click", "save"]
    assert rows["position"].to_list() == [3, None]
    assert rows["user"].to_list() == ["u1", None]
    assert rows.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert quarantine.is_empty()
    assert result.counts["log"] == 2


def test_a_judged_query_has_the_split_of_its_judgments_in_the_log(write, build) -> None:
    rows = [f"q{k},i{k % 20},{k % 5},{('train', 'dev', 'test')[k % 3]},id{k}" for k in range(30)]
    judgments = "query,item_id,grade,split,query_id\n" + "\n".join(rows)
    log = "query,item_id,action\n" + "\n".join(f"Q{k},i1,click" for k in range(30))
    dataset, _, _ = build(write(judgments=judgments, log=log))
    found = dataset.log.collect()
    assert found["split"].to_list() == [("train", "dev", "test")[k % 3] for k in range(30)]
    assert found["query_id"].to_list() == [f"id{k}" for k in range(30)]


@pytest.mark.parametrize("column", ["query_id", "search_id"])
def test_the_logs_own_id_of_a_search_is_kept_beside_that_of_the_query(write, build, column: str) -> None:
    rows = [f"q{k},i{k % 20},{k % 5},id{k}" for k in range(60)]
    judgments = "query,item_id,grade,query_id\n" + "\n".join(rows)
    log = f"query,item_id,action,{column}\nQ1,i1,click,u-1\nq1,i1,click,u-2\nother,i2,click,u-3\nother,i2,click,\n"
    dataset, _, _ = build(write(judgments=judgments, log=log))
    found = dataset.log.collect()
    assert found["query_id"].to_list() == ["id1", "id1", query_id_of("other"), query_id_of("other")]
    assert found["search_id"].to_list() == ["u-1", "u-2", "u-3", None]


def test_broken_log_rows_are_quarantined(write, build) -> None:
    log = (
        "timestamp,query,item_id,action,position\nyesterday,q 1,i1,click,1\n2024-05-01,q 1,i1,purchase,1\n"
        "2024-05-01,q 1,i1,click,-1\n2024-05-01,,i1,click,1\n2024-05-01,q 1,gone,click,1\n2024-05-01,q 1,i1,click,1\n"
    )
    dataset, quarantine, _ = build(write(log=log), max_quarantined=0.8)
    assert quarantine.select("line", "reason").rows() == [
        (2, "timestamp must be ISO 8601 or seconds since 1970, got yesterday"),
        (3, "action must be one of impression, click, long_click, save, hide, got purchase"),
        (4, "position must be a whole number from 0, got -1"),
        (5, "query must not be empty"),
        (6, "item_id must name a known item, got gone"),
    ]
    assert dataset.log.collect().height == 1


def test_items_that_left_the_catalogue_do_not_stop_the_stage_but_a_wholly_unknown_log_does(write, build) -> None:
    header = "query,item_id,action\n"
    _, quarantine, _ = build(write(log=header + "q 1,gone,click\nq 1,gone,click\nq 1,i1,click\n"))
    assert quarantine.height == 2
    with pytest.raises(DataError, match=r"^log.csv:2: item_id must name a known item, got gone; none of the 2 rows"):
        build(write(log=header + "q 1,gone,click\nq 1,gone,click\n"))


def test_typed_times_are_kept(write, build) -> None:
    folder: Path = write()
    frame = pl.DataFrame({"timestamp": [NOON], "query": ["q 1"], "item_id": ["i1"], "action": ["click"]})
    frame.write_parquet(folder / "log.parquet")
    dataset, _, _ = build(folder)
    assert dataset.log.collect()["timestamp"].to_list() == [NOON]
