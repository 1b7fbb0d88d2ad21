"""The same log in any file: Parquet of any types, CSV, JSONL, several files, folders, gzip; broken rows are counted."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from mining_logs import engaged, of_split, write_log
from pertinent.errors import DataError
from pertinent.mining.logs import log_files
from pertinent.mining.survey import BAD_POSITION, NO_TIME, UNREADABLE

A, B = of_split("train", 2, 'a "quoted", word')
ROWS = [
    {
        "timestamp": (datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=7 * k)).isoformat(),
        "query": (A, B)[k % 2],
        "item_id": f"i{k % 3}",
        "position": 1 + k % 4,
        "action": ("impression", "click", "save")[k % 3 if k % 5 else 0],
        "user": f"u{k % 6}",
        "dwell_s": 4.5 * (k % 5),
    }
    for k in range(60)
]


@pytest.fixture
def expected(mine) -> dict[str, pl.DataFrame]:
    return mine(ROWS, k=3)[1]


def typed() -> pl.DataFrame:
    return pl.DataFrame(ROWS).with_columns(pl.col("timestamp").str.to_datetime(time_zone="UTC", time_unit="us"))


FILES = {
    "log.csv": lambda path: pl.DataFrame(ROWS).write_csv(path),
    "log.tsv": lambda path: pl.DataFrame(ROWS).write_csv(path, separator="\t"),
    "semicolons.csv": lambda path: pl.DataFrame(ROWS).write_csv(path, separator=";"),
    "log.csv.gz": lambda path: path.write_bytes(gzip.compress(pl.DataFrame(ROWS).write_csv().encode())),
    "log.jsonl": lambda path: path.write_bytes(b"\n".join(map(orjson.dumps, ROWS))),
    "log.jsonl.gz": lambda path: path.write_bytes(gzip.compress(b"\n\n".join(map(orjson.dumps, ROWS)))),
    "typed.parquet": lambda path: typed().write_parquet(path),
    "seconds.parquet": lambda path: typed().with_columns(pl.col("timestamp").dt.epoch("s")).write_parquet(path),
    "ms.parquet": lambda path: typed().with_columns(pl.col("timestamp").dt.epoch("ms")).write_parquet(path),
    "naive.parquet": lambda path: (
        typed().with_columns(pl.col("timestamp").dt.replace_time_zone(None)).write_parquet(path)
    ),
    "categories.parquet": lambda path: typed().with_columns(pl.col("action").cast(pl.Categorical)).write_parquet(path),
    "floats.parquet": lambda path: typed().with_columns(pl.col("position").cast(pl.Float64)).write_parquet(path),
}


@pytest.mark.parametrize("name", FILES)
def test_every_way_to_write_a_log_gives_the_same(mine, expected, tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    result, tables = mine(tmp_path / name, k=3)
    assert result.quarantined == {}
    for key, table in tables.items():
        assert table.equals(expected[key]), key


def test_a_folder_of_files_of_several_kinds_is_one_log(mine, expected, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (folder / "deep").mkdir(parents=True)
    write_log(ROWS[:20], folder / "a.parquet")
    typed()[20:30].drop("dwell_s").write_parquet(folder / "b.parquet")
    pl.DataFrame(ROWS[30:40]).write_csv(folder / "deep" / "c.csv")
    (folder / "d.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ROWS[40:])))
    (folder / "readme.txt").write_text("no log")
    whole = [*ROWS[:20], *({**row, "dwell_s": None} for row in ROWS[20:30]), *ROWS[30:]]
    _, tables = mine(folder, k=3)
    for key, table in tables.items():
        assert table.equals(mine(whole, k=3)[1][key]), key
    with pytest.raises(DataError, match=r"expected files ending in .*, found none"):
        log_files([tmp_path / "logs" / "deep" / ".." / "deep", _empty(tmp_path)])


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_columns_of_other_names_are_mapped_and_a_missing_one_is_named(mine, expected, tmp_path: Path) -> None:
    names = {"query": "search term", "item_id": "sku", "user": "visitor"}
    pl.DataFrame(ROWS).rename(names).write_csv(tmp_path / "log.csv")
    nested = [{**row, "who": {"id": row["user"]}} for row in ROWS]
    (tmp_path / "log.jsonl").write_bytes(
        b"\n".join(orjson.dumps({k: v for k, v in row.items() if k != "user"}) for row in nested)
    )
    for file, columns in (("log.csv", names), ("log.jsonl", {"user": "$.who.id"})):
        _, tables = mine(tmp_path / file, k=3, log={"columns": columns})
        assert tables["rates"].equals(expected["rates"])
    with pytest.raises(
        DataError, match=r"log\.csv: expected a column 'query' \(query\), found none; nearest: '.*log\.columns"
    ):
        mine(tmp_path / "log.csv")
    pl.DataFrame(ROWS).drop("action").write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"log\.parquet: expected a column 'action' \(action\), found none; nearest: "):
        mine(tmp_path / "log.parquet")


def test_broken_rows_are_counted_and_the_rest_is_read(mine, expected, tmp_path: Path) -> None:
    lines = pl.DataFrame(ROWS).write_csv().splitlines()
    bad = [
        *lines[:10],
        "only,three,fields",
        *lines[10:],
        '2024-05-01,"never closed' + "x" * 10 + '" oops",i0,1,click,u1,1',
    ]
    (tmp_path / "log.csv").write_text("\n".join(bad) + "\n")
    result, tables = mine(tmp_path / "log.csv", k=3)
    assert result.quarantined == {UNREADABLE: 2}
    assert tables["rates"].equals(expected["rates"])
    good = [orjson.dumps(row) for row in ROWS]
    odd = [{**ROWS[0], "position": -3}, {**ROWS[1], "position": 1.5}, {**ROWS[2], "timestamp": "yesterday"}]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([*good, b"{broken", b"[1, 2]", b"7", *map(orjson.dumps, odd)]))
    result, tables = mine(tmp_path / "log.jsonl", k=3)
    assert result.quarantined == {UNREADABLE: 3, NO_TIME: 1, BAD_POSITION: 2}
    assert tables["rates"].equals(expected["rates"])


def test_positions_of_any_type_are_checked(mine, expected, tmp_path: Path) -> None:
    odd = pl.DataFrame([{**ROWS[k], "position": position} for k, position in enumerate((-1, 2**31, -7))])
    table = pl.concat([pl.DataFrame(ROWS), odd])
    for dtype in (pl.Int64, pl.Float64, pl.String):
        table.with_columns(pl.col("position").cast(dtype)).write_parquet(tmp_path / "log.parquet")
        result, tables = mine(tmp_path / "log.parquet", k=3)
        assert result.quarantined == {BAD_POSITION: 3}
        assert tables["rates"].equals(expected["rates"])


def test_numbers_as_ids_are_their_text(mine, tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"query": [A] * 4, "item_id": [1.0, 2.0, 1.0, 1.0], "action": ["save"] * 4, "user": [1, 2, 3, 3]}
    )
    log.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="none of 4: item_id names no known item"):
        mine(tmp_path / "log.parquet", k=3)  # the catalogue has i1, not 1
    log.with_columns(item_id=pl.format("i{}", pl.col("item_id").cast(pl.Int64))).write_parquet(tmp_path / "log.parquet")
    _, tables = mine(tmp_path / "log.parquet", k=3)
    assert engaged(tables) == {"i1": {A: 3.0}, "i2": {A: 1.0}}


def test_files_that_are_no_log_are_refused(mine, tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"mine: .*log\.parquet"):
        mine(tmp_path / "log.parquet")
    (tmp_path / "log.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected a file ending in .*, found '\.txt'"):
        mine(tmp_path / "log.txt")
    (tmp_path / "log.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"log\.jsonl: no rows"):
        mine(tmp_path / "log.jsonl")
