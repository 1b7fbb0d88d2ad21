from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pertinent.features.ragged import Ragged

ROWS = st.lists(st.lists(st.integers(-5, 2**31 - 1), max_size=6), max_size=8)


def rows_of(ragged: Ragged) -> list[list[int]]:
    return [ragged.values[a:b].tolist() for a, b in zip(ragged.starts[:-1], ragged.starts[1:], strict=True)]


@given(ROWS)
def test_rows_come_back_as_they_went_in(rows: list[list[int]]) -> None:
    ragged = Ragged.of(rows)
    assert rows_of(ragged) == rows
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert (ragged.values.dtype, ragged.starts.dtype) == (np.int32, np.int64)


@given(ROWS.filter(bool), st.data())
def test_take_is_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    assert rows_of(Ragged.of(rows).take(np.array(picked, dtype=np.int64))) == [rows[i] for i in picked]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_joined_parts_are_one_after_the_other(parts: list[list[list[int]]]) -> None:
    joined = Ragged.joined([Ragged.of(rows) for rows in parts])
    assert rows_of(joined) == [row for rows in parts for row in rows]
    assert (joined.values.dtype, joined.starts.dtype) == (np.int32, np.int64)


def test_a_part_that_was_cut_out_of_a_larger_table_joins_as_itself() -> None:
    table = Ragged(np.arange(6, dtype=np.int32), np.array([0, 2, 3, 6]))
    tail = Ragged(table.values[2:], table.starts[1:])
    assert rows_of(Ragged.joined([tail, tail])) == [[2], [3, 4, 5], [2], [3, 4, 5]]
