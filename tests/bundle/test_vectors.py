from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pertinent.bundle.vectors import Precision, StoredVectors

FIRST = np.array([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0]], dtype=np.float32)
SECOND = np.array([[254.0, 3.1], [-8.0, 0.02]], dtype=np.float32)


def test_int8_is_worked_by_hand() -> None:
    # Row 0: 1 is 127, so -.5 is -63.5, to the even: -64, and .25 is 31.75: 32. Its second part: a level is 2, 3.1 is 2 levels.
    stored = StoredVectors.of([FIRST, SECOND], "int8")
    assert stored.values.tolist() == [[127, -64, 32, 127, 2], [0, 0, 0, -127, 0]]
    assert stored.scales == pytest.approx(np.array([[1 / 127, 2.0], [1.0, 8 / 127]]))
    taken = stored.take(np.array([1, 0]))
    assert taken.dtype == np.float32
    assert taken == pytest.approx(np.array([[0, 0, 0, -8, 0], [1, -64 / 127, 32 / 127, 254, 4]]))
    assert stored.bytes_per_row == 5 + 2 * 4
    assert stored.first(np.array([0])) == pytest.approx(np.array([[1, -64 / 127, 32 / 127]]))


@pytest.mark.parametrize(("precision", "error"), [("float32", 0.0), ("float16", 2**-11), ("int8", 1 / 254)])
def test_no_entry_moves_by_more_than_half_a_step(precision: Precision, error: float) -> None:
    parts = [np.random.default_rng(k).normal(size=(50, 8)).astype(np.float32) * 10**k for k in range(3)]
    stored = StoredVectors.of(parts, precision)
    taken, start = stored.take(np.arange(50)).astype(np.float32), 0
    for part in parts:
        largest = np.abs(part).max(axis=1, keepdims=True)
        assert (np.abs(taken[:, start : start + 8] - part) <= error * largest * (1 + 1e-5)).all()
        start += 8


def test_a_number_beyond_float16_is_cut_off_there() -> None:
    stored = StoredVectors.of([np.array([[1e6, -1e6]], dtype=np.float32)], "float16")
    assert stored.take(np.array([0])).tolist() == [[65504.0, -65504.0]]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_stored_vectors_come_back_from_a_folder_and_join(tmp_path: Path, precision: Precision) -> None:
    stored = StoredVectors.of([FIRST, SECOND], precision)
    stored.write(tmp_path, "v")
    again = StoredVectors.read(tmp_path, "v")
    assert (again.widths, again.precision, len(again)) == ((3, 2), precision, 2)
    both = StoredVectors.joined([stored, again])
    assert (both.take(np.array([2, 3])) == stored.take(np.array([0, 1]))).all()
    assert len(both) == 4
