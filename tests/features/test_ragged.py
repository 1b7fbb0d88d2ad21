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


@given(ROWS)
def test_sums_are_the_sums_of_each_row(rows: list[list[int]]) -> None:
    ragged = Ragged.of(rows)
    flags = np.stack([ragged.values % 2 == 0, ragged.values > 100]).astype(np.float64)
    expected = [[sum(v % 2 == 0 for v in row) for row in rows], [sum(v > 100 for v in row) for row in rows]]
    assert ragged.sums(flags).tolist() == expected
