from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.features.strings import StringTable

STRINGS = st.lists(st.text(st.characters(), max_size=12), max_size=20, unique=True)  # lone surrogates too


@given(STRINGS, STRINGS)
def test_a_table_finds_what_a_dict_finds(stored: list[str], others: list[str]) -> None:
    table, oracle = StringTable.of(stored), {string: row for row, string in enumerate(stored)}
    asked = [*others, *stored, *stored[::-1]]
    assert table.find(asked).tolist() == [oracle.get(string, -1) for string in asked]
    assert dict(table) == oracle
    assert list(table) == stored
    assert len(table) == len(stored)
    for string in asked:
        assert table.get(string, -1) == oracle.get(string, -1)
        assert (string in table) == (string in oracle)


def test_strings_of_one_hash_are_told_apart() -> None:
    # CRC-32 of both is 0x4DDB0C25.
    import zlib

    assert zlib.crc32(b"plumless") == zlib.crc32(b"buckeroo")
    table = StringTable.of(["a", "plumless", "b", "buckeroo"])
    assert table.find(["buckeroo", "plumless", "b"]).tolist() == [3, 1, 2]
    assert StringTable.of(["plumless"]).find(["buckeroo"]).tolist() == [-1]


def test_an_absent_string_is_a_key_error_and_other_types_are_absent() -> None:
    table = StringTable.of(["a"])
    with pytest.raises(KeyError, match="b"):
        table["b"]
    assert table.get(7) is None  # type: ignore[call-overload]


def test_a_mapped_table_finds_the_same(tmp_path: Path) -> None:
    table = StringTable.of([f"item-{k}" for k in range(1000)])
    for name in ("utf8", "starts", "hashes", "rows"):
        np.save(tmp_path / f"{name}.npy", getattr(table, name))
    mapped = StringTable(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("utf8", "starts", "hashes", "rows"))
    )
    asked = [f"item-{k}" for k in range(995, 1005)]
    assert mapped.find(asked).tolist() == [995, 996, 997, 998, 999, -1, -1, -1, -1, -1]
