"""Engaged queries and rates: by hand, against a plain Python count, and independent of how the log is laid out."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mining_logs import by_users, engaged, of_split, row, write_log
from pertinent.config import parse_config
from pertinent.data.splits import cross_folds, normalise_query, split_of
from pertinent.errors import ConfigError, DataError
from pertinent.mining import queries as stage
from pertinent.mining.aggregate import NO_ITEM, UNKNOWN_ITEM
from pertinent.mining.config import MineConfig
from pertinent.mining.private import is_private
from pertinent.mining.queries import mine_queries
from pertinent.mining.survey import EARLY, LATE, NO_TIME, UNKNOWN_ACTION

A, *REST = of_split("train", 9, "other")
B, C = [query for query in REST if cross_folds(pl.Series([A, query]), 5).n_unique() == 2][:2]  # of other folds than A


def rate_of(tables: dict[str, pl.DataFrame], query: str, item: str, version: int = -1) -> tuple[int, int, float]:
    found = tables["rates"].filter(query=query, item_id=item, text_version=version)
    return found.select("impressions", "actions", "rate").row(0)


def item_rate_of(tables: dict[str, pl.DataFrame], item: str, version: int = -1) -> tuple[int, int, float]:
    found = tables["item_rates"].filter(item_id=item, text_version=version)
    return found.select("impressions", "actions", "rate").row(0)


def test_rates_by_hand(mine) -> None:
    # i0: 8 impressions, 2 saves (A) and 2 impressions (B); i1: 10 impressions, 1 save (B). No positions, no times.
    rows = [*(row(A, 0, "impression") for _ in range(8)), row(A, 0, "save"), row(A, 0, "save")]
    rows += [
        *(row(B, 0, "impression") for _ in range(2)),
        *(row(B, 1, "impression") for _ in range(10)),
        row(B, 1, "save"),
    ]
    _, tables = mine(rows, k=1, prior_strength=10)
    mean = 3 / 20
    first, second = (2 + 10 * mean) / (10 + 10), (1 + 10 * mean) / (10 + 10)
    assert item_rate_of(tables, "i0") == (10, 2, pytest.approx(first, abs=1e-12))
    assert item_rate_of(tables, "i1") == (10, 1, pytest.approx(second, abs=1e-12))
    assert rate_of(tables, A, "i0") == (8, 2, pytest.approx((2 + 10 * first) / 18, abs=1e-12))
    assert rate_of(tables, B, "i0") == (2, 0, pytest.approx(10 * first / 12, abs=1e-12))
    assert rate_of(tables, B, "i1") == (10, 1, pytest.approx((1 + 10 * second) / 20, abs=1e-12))
    # In the version of B's fold, only A's rows are left: the pair's rate is the item's, of 8 impressions and 2 saves.
    fold = cross_folds(pl.Series([A, B]), 5)
    assert fold[0] != fold[1]
    left = (2 + 10 * 0.25) / 18
    assert item_rate_of(tables, "i0", fold[1]) == (8, 2, pytest.approx(left, abs=1e-12))
    assert rate_of(tables, B, "i0", fold[1]) == (0, 0, pytest.approx(left, abs=1e-12))
    assert rate_of(tables, B, "i1", fold[1]) == (0, 0, pytest.approx(0.25, abs=1e-12))
    assert tables["rates"].filter(query=B)["text_version"].unique().sort().to_list() == [-1, fold[1]]


def test_position_bias_is_undone(mine) -> None:
    # The same share of the lookers acts on both items, but i1 is shown at position 4 and seen by one in four.
    rows = [r for item, position, acted in ((0, 1, 40), (1, 4, 10)) for r in (
        *(row(A, item, "impression", position=position) for _ in range(100)),
        *(row(A, item, "save", position=position) for _ in range(acted)),
    )]  # fmt: skip
    _, tables = mine(rows, k=1, prior_strength=1e-9)
    assert engaged(tables) == {"i0": {A: 40.0}, "i1": {A: 40.0}}
    assert [item_rate_of(tables, i)[2] for i in ("i0", "i1")] == pytest.approx([0.4, 0.4], abs=1e-6)
    _, tables = mine(rows, k=1, prior_strength=1e-9, propensity={"eta": 0.0})
    assert engaged(tables) == {"i0": {A: 40.0}, "i1": {A: 10.0}}
    assert [item_rate_of(tables, i)[2] for i in ("i0", "i1")] == pytest.approx([0.4, 0.1], abs=1e-6)
    _, tables = mine(rows, k=1, propensity={"clip": 0.5})
    assert engaged(tables)["i1"] == {A: 20.0}
    _, tables = mine(rows, k=1, propensity={"given": [1.0, 0.9, 0.8]})  # later ranks have the last one's
    assert engaged(tables)["i1"] == {A: pytest.approx(12.5)}
    _, tables = mine(rows, k=1, propensity={"eta": 0.5})
    assert engaged(tables)["i1"] == {A: 20.0}


def test_positions_from_0_are_told_and_a_wrong_base_is_refused(mine) -> None:
    rows = by_users(A, 0, position=0) + by_users(A, 1, position=1)
    with pytest.raises(DataError, match=r"expected positions from 1, found 0: set propensity\.first_position=0"):
        mine(rows)
    _, tables = mine(rows, propensity={"first_position": 0})
    assert engaged(tables) == {"i0": {A: 5.0}, "i1": {A: 10.0}}


def test_age_halves_the_weight_and_the_cut_off_ends_the_log(mine) -> None:
    end = datetime(2024, 6, 1, tzinfo=UTC)

    def at(days: float) -> str:
        return (end + timedelta(days=days)).isoformat()

    rows = by_users(A, 0, timestamp=at(-10)) + by_users(B, 0, timestamp=at(-20)) + by_users(C, 0, timestamp=at(0))
    late = by_users(A, 0, timestamp=at(3))
    result, tables = mine([*rows, *late], until=end, half_life_days=10)
    assert engaged(tables) == {"i0": {A: 2.5, B: 1.25}}  # C's rows are at the cut-off: it is the first moment left out
    assert result.quarantined == {LATE: 10}
    result, tables = mine([*rows, *late], since=end - timedelta(days=15), until=end, half_life_days=None)
    assert engaged(tables) == {"i0": {A: 5.0}}
    assert result.quarantined == {EARLY: 5, LATE: 10}
    assert result.counts["decay"] == "none"
    _, tables = mine(rows, half_life_days=10)  # age is counted from the last row
    assert engaged(tables) == {"i0": {C: 5.0, A: 2.5, B: 1.25}}


def test_rows_without_a_time_are_dropped_where_others_have_one(mine) -> None:
    rows = by_users(A, 0, timestamp="2024-06-01") + by_users(B, 0) + by_users(C, 0, timestamp="soon")
    result, tables = mine(rows)
    assert engaged(tables) == {"i0": {A: 5.0}}
    assert result.quarantined == {NO_TIME: 10}
    with pytest.raises(DataError, match="expected timestamps to compare with since and until, found none"):
        mine(by_users(A, 0), until=datetime(2024, 1, 1, tzinfo=UTC))


def test_a_click_counts_by_the_time_that_it_led_to(mine) -> None:
    rows = [*by_users(A, 0, "click", dwell_s=10.0), *by_users(A, 1, "click", dwell_s=9.9), *by_users(A, 2, "click")]
    _, tables = mine(rows)
    assert engaged(tables) == {"i0": {A: 5.0}}
    _, tables = mine(rows, long_click_s=5, weights={"click": 0.25, "long_click": 3.0})
    assert engaged(tables) == {"i0": {A: 15.0}, "i1": {A: 15.0}, "i2": {A: 1.25}}
    result, tables = mine(by_users(A, 0, "click"))
    assert engaged(tables) == {}
    assert "no engaged query: the log has click 5; 1 of 1 queries may be shown" in result.warnings[-1]


def test_actions_are_mapped_and_foreign_ones_are_counted(mine) -> None:
    rows = [*by_users(A, 0, "Long Click"), *by_users(A, 1, "buy"), *by_users(A, 2, "scroll"), row(A, 2, "scroll")]
    result, tables = mine(rows, log={"actions": {"buy": "save"}})
    assert engaged(tables) == {"i0": {A: 5.0}, "i1": {A: 5.0}}
    assert result.quarantined == {UNKNOWN_ACTION: 6}
    assert result.warnings[0] == "log: actions that are none of ours are left out: scroll (6)"
    with pytest.raises(DataError, match=r"expected actions among impression, .*, found scroll: map them"):
        mine(by_users(A, 0, "scroll"))


def test_unknown_and_empty_items_are_counted_and_blanks_do_not_part_an_item(mine) -> None:
    rows = [*by_users(A, 0), *by_users(A, " i0 "), *by_users(A, "gone"), row(A, ""), row(A, "  ")]
    result, tables = mine(rows)
    assert engaged(tables) == {"i0": {A: 10.0}}
    assert tables["rates"].height == 2
    assert result.quarantined == {UNKNOWN_ITEM: 5, NO_ITEM: 2}
    with pytest.raises(DataError, match="expected rows that may count, found none of 5: item_id names no known item"):
        mine(by_users(A, "gone"))


def test_a_log_without_impressions_has_queries_and_null_rates(mine) -> None:
    result, tables = mine(by_users(A, 0))
    assert engaged(tables) == {"i0": {A: 5.0}}
    assert tables["rates"]["rate"].to_list() == [None, None]
    assert result.warnings == ["log: no impressions, so rates are null"]


def random_log(seed: int, n: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    texts = [f"{word} {k}" for k in range(25) for word in ("Sofa", "café", "lamp")] + [
        "call 0301234567",
        "a@b.example x",
    ]
    end = datetime(2024, 6, 1, tzinfo=UTC)
    rows = []
    for _ in range(n):
        text = texts[int(len(texts) * draw.random() ** 2)]
        rows.append(
            row(
                draw.choice((text, text.upper(), f" {text}")),
                draw.choice((*range(12), "gone")),
                draw.choice(("impression", "impression", "impression", "click", "long_click", "save", "hide", "zoom")),
                draw.choice((None, *(f"u{k}" for k in range(9)))),
                position=draw.choice((None, 1, 2, 3, 7, 30)),
                dwell_s=draw.choice((None, 3.0, 30.0)),
                timestamp=(end - timedelta(hours=draw.randrange(-200, 5000))).isoformat(),
            )
        )
    return rows


def plain_count(rows: list[dict[str, Any]], until: datetime, k: int, strength: float) -> dict[str, Any]:
    """What mine_queries should find, written out row by row in Python."""
    weights = {"long_click": 1.0, "save": 2.0}
    held = {"own 1", "own 2"}
    users: dict[str, set[str]] = defaultdict(set)
    kept = []
    for r in rows:
        text = normalise_query(r["query"])
        at = datetime.fromisoformat(r["timestamp"])
        if r["action"] == "zoom" or at >= until or text in held or split_of(text) != "train":
            continue
        if r["user"]:
            users[text].add(r["user"])
        if r["item_id"] != "gone":
            kept.append((text, at, r))
    shown = {text for text in users if len(users[text]) >= k and not is_private(text)}
    folds = dict(zip(users, cross_folds(pl.Series(list(users)), 5), strict=True))
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 5)
    for text, at, r in kept:
        decay = 0.5 ** ((until - at) / timedelta(days=90))
        chance = 1.0 if r["position"] is None else max(1 / r["position"], 0.1)
        action = "long_click" if r["action"] == "click" and (r["dwell_s"] or 0) >= 10 else r["action"]
        found = sums[text, r["item_id"]]
        if action == "impression":
            found[0] += 1
            found[2] += decay * chance
        if weight := weights.get(action):
            found[1] += 1
            found[3] += decay * weight
            found[4] += decay * weight / chance
    items, rates, queries = {}, {}, {}
    for version in range(-1, 5):
        left = {pair: s for pair, s in sums.items() if folds.get(pair[0]) != version}
        mean = sum(s[3] for s in left.values()) / sum(s[2] for s in left.values())
        for item in {item for _, item in sums}:
            of_item = [s for (_, other), s in left.items() if other == item]
            n, a, e, w = (sum(s[m] for s in of_item) for m in range(4))
            items[item, version] = (n, a, (w + strength * mean) / (e + strength))
            best = sorted(
                (-s[4], text) for (text, other), s in left.items() if other == item and text in shown and s[4]
            )
            queries[item, version] = [(text, -weight) for weight, text in best[:3]]
    for (text, item), s in sums.items():
        if text in shown:
            prior = items[item, -1][2]
            rates[text, item, -1] = (s[0], s[1], (s[3] + strength * prior) / (s[2] + strength))
            rates[text, item, folds[text]] = (0, 0, items[item, folds[text]][2])
    return {"items": items, "rates": rates, "queries": queries, "kept": len(kept)}


@pytest.mark.parametrize("seed", [0, 1])
def test_everything_against_a_plain_count_in_python(mine, seed: int) -> None:
    rows = random_log(seed, 3000)
    until = datetime(2024, 5, 25, tzinfo=UTC)
    expected = plain_count(rows, until, 4, 20.0)
    result, tables = mine(rows, until=until, k=4, half_life_days=90, max_queries=3, weights={"save": 2.0})
    assert result.counts["rows"]["kept"] == expected["kept"]
    assert result.counts["rows"]["dropped"] == sum(result.quarantined.values()) == 3000 - expected["kept"]
    for name, keys in (("items", 2), ("rates", 3)):
        table = tables["item_rates" if name == "items" else name].drop("query_id", strict=False)
        found = {row[:keys]: row[keys:] for row in table.iter_rows()}
        assert set(found) == set(expected[name])
        for key, value in expected[name].items():
            assert found[key] == pytest.approx(value, abs=1e-6), key
    fields = {(item, version): entries for item, version, entries in tables["fields"].iter_rows()}
    assert {item for item, version in fields if version == -1} == {
        i for (i, v), q in expected["queries"].items() if q and v == -1
    }
    for (item, version), entries in expected["queries"].items():
        if (item, -1) not in fields:
            continue
        found_entries = fields.get((item, version), fields[item, -1])
        assert [entry["query"] for entry in found_entries] == [query for query, _ in entries]
        assert [entry["weight"] for entry in found_entries] == pytest.approx([w for _, w in entries], abs=1e-6)


def test_the_layout_of_the_log_and_the_threads_change_nothing(mine, tmp_path: Path) -> None:
    rows = random_log(2, 4000)
    _, expected = mine(rows, k=3)
    turned = list(reversed(rows))
    parts = []
    for number, start in enumerate(range(0, 4000, 900)):
        parts.append(write_log(turned[start : start + 900], tmp_path / f"part{9 - number}.parquet"))
    whole = write_log(random.Random(0).sample(rows, len(rows)), tmp_path / "whole.parquet")
    pl.read_parquet(whole).write_parquet(tmp_path / "groups.parquet", row_group_size=130)
    for log, threads in ((parts, 1), (tmp_path / "groups.parquet", 4), (parts, 4)):
        _, tables = mine(log, k=3, threads=threads)
        for name, table in tables.items():
            assert table.equals(expected[name]), (name, threads)


def test_queries_of_one_weight_are_ordered_by_their_text(mine) -> None:
    queries = of_split("train", 30, "even")
    rows = [r for query in random.Random(1).sample(queries, 30) for r in by_users(query, 0)]
    for log in (rows, rows[::-1]):
        _, tables = mine(log, max_queries=7, threads=2)
        assert [entry["query"] for entry in tables["fields"]["engaged_queries"][0]] == sorted(queries)[:7]


def test_a_stage_that_was_cut_off_continues_with_what_was_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(random_log(3, 2000), tmp_path / "log.parquet")
    config = MineConfig.model_validate({"log": {"paths": [log]}, "k": 3, "threads": 1})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = mine_queries(config, data, whole, seed=0)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "item_rates", killed)
        with pytest.raises(KeyboardInterrupt):
            mine_queries(config, data, cut, seed=0)
    done = {name: (cut / name).stat().st_mtime_ns for name in ("pairs.parquet", "guarded.json", "spellings.parquet")}
    (cut / ".half.123.partial").write_bytes(b"half")
    with monkeypatch.context() as patched:

        def look(*arguments: Any) -> Any:
            assert {name: (cut / name).stat().st_mtime_ns for name in done} == done
            return original(*arguments)

        original = stage.item_rates
        patched.setattr(stage, "item_rates", look)
        again = mine_queries(config, data, cut, seed=0)
    assert again == expected
    assert sorted(file.name for file in cut.iterdir()) == sorted(file.name for file in whole.iterdir())
    for file in whole.iterdir():
        assert pl.read_parquet(cut / file.name).equals(pl.read_parquet(file))


def test_a_data_set_without_a_log_is_refused_and_a_log_that_is_not_there(data: Path, tmp_path: Path, mine) -> None:
    with pytest.raises(DataError, match=r"log\.parquet: no such file: the data set has no log; name one \(--log"):
        mine_queries(MineConfig(), data, tmp_path, seed=0)
    with pytest.raises(DataError, match=r"gone\.parquet: no such file \(the log\)"):
        mine(tmp_path / "gone.parquet")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"since": "2024-02-01", "until": "2024-01-01"}, "since: expected a moment before until"),
        ({"weights": {"long_click": 0, "save": 0}}, "weights: expected an action with a weight over 0, found none"),
        ({"propensity": {"given": [1.0, 0.0]}}, "propensity: given: expected numbers over 0 and up to 1, found 0.0"),
        ({"log": {"columns": {"querry": "q"}}}, "log: columns: expected some of timestamp, query, .*, found querry"),
        ({"k": 0}, "k: expected greater than or equal to 1, found 0"),
    ],
)
def test_wrong_settings_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(MineConfig, tree, "mine.yaml")


def test_a_clock_in_the_future_stops_the_stage_unless_a_cut_off_leaves_it_out(mine) -> None:
    soon = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    rows = by_users(A, 0, timestamp="2024-06-01") + by_users(B, 0, timestamp=soon)
    with pytest.raises(DataError, match=r"expected timestamps up to now, found 20\d\d-.*: set until"):
        mine(rows)
    _, tables = mine(rows, until=datetime(2024, 7, 1, tzinfo=UTC))
    assert list(engaged(tables)["i0"]) == [A]


def test_ubis_names_of_actions_are_ubis_alone(mine) -> None:
    rows = by_users(A, 0) + by_users(B, 0, "purchase")
    result, tables = mine(rows)
    assert list(engaged(tables)["i0"]) == [A]
    assert result.quarantined[UNKNOWN_ACTION] == 5
