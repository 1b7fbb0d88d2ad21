"""Units of a stage's work, and plain text."""

from pathlib import Path

import polars as pl
import pytest

from pertinent.data.plain import one_line, sentence_ends
from pertinent.data.units import is_whole, unit_files
from pertinent.files import write_parquet

SCHEMA = {"row": pl.Int64, "text": pl.String}


def test_what_a_kill_left_half_written_is_removed_and_whole_units_stay(tmp_path: Path) -> None:
    (tmp_path / ".unit-00001.parquet.17.partial").write_bytes(b"half")
    write_parquet(tmp_path / "unit-00000.parquet", pl.DataFrame({"row": [1], "text": ["a"]}, schema=SCHEMA))
    units = unit_files(tmp_path, 3)
    assert [unit.name for unit in units] == ["unit-00000.parquet", "unit-00001.parquet", "unit-00002.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["unit-00000.parquet"]
    assert [is_whole(unit, SCHEMA, "pages") for unit in units] == [True, False, False]


def test_a_unit_with_other_columns_or_damage_is_not_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older, damaged = tmp_path / "unit-00000.parquet", tmp_path / "unit-00001.parquet"
    write_parquet(older, pl.DataFrame({"row": [1]}))
    damaged.write_bytes(b"PAR1")
    assert not is_whole(older, SCHEMA, "pages")
    assert not is_whole(damaged, SCHEMA, "pages")
    assert "pages: unit-00001.parquet is damaged and made again" in capsys.readouterr().err


def test_one_line_and_sentence_ends() -> None:
    assert one_line("a\u200b b\x00c\n\td ") == "a b c d"
    assert sentence_ends('He said "go." Then 3.5 m. 好。停') == [13, 25, 28]
    assert sentence_ends("「好。」停") == [4]
