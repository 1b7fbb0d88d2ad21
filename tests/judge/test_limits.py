"""The pace of calls, and the ledger of what they cost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pertinent.errors import DataError, StoppedError
from pertinent.judge.config import JudgeConfig
from pertinent.judge.ledger import Ledger
from pertinent.judge.pace import Pace

ENDPOINT = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


def test_requests_start_evenly_over_the_minute() -> None:
    now = [100.0]
    pace = Pace(30, None, clock=lambda: now[0])
    assert [pace.book(10) for _ in range(3)] == [0, 2, 4]
    now[0] += 5
    assert pace.book(10) == 1
    now[0] += 60  # a pause earns no burst
    assert [pace.book(10) for _ in range(2)] == [0, 2]


def test_tokens_are_paced_by_what_calls_truly_had() -> None:
    pace = Pace(None, 600, clock=lambda: 0.0)
    assert [pace.book(100), pace.book(50)] == [0, 10]
    pace.correct(-80)
    assert pace.book(1) == pytest.approx(15 - 8)


def test_the_stricter_limit_and_a_hold_count() -> None:
    pace = Pace(60, 600, clock=lambda: 0.0)
    assert [pace.book(1), pace.book(100), pace.book(1)] == [0, 1, 11]
    pace.hold(30)
    assert pace.book(1) == 30


def test_no_limit_is_no_wait() -> None:
    pace = Pace(None, None)
    assert [pace.book(10**9) for _ in range(3)] == [0, 0, 0]


def ledger(folder: Path, max_usd: float | None) -> Ledger:
    prices = {"usd_per_1k_input": 1.0, "usd_per_1k_output": 2.0}
    return Ledger(
        folder / "spend.jsonl", JudgeConfig.model_validate({"endpoint": ENDPOINT, **prices, "max_usd": max_usd})
    )


def test_a_call_is_booked_at_its_most_and_settled_at_its_cost(tmp_path: Path) -> None:
    spent = ledger(tmp_path, 1.0)
    first = spent.book(200, 100)  # 0.2 + 0.2
    assert spent.usd == pytest.approx(0.4)
    second = spent.book(500, 50)  # 0.5 + 0.1: the limit to the cent
    spent.end(first)
    spent.end(second)
    with pytest.raises(StoppedError, match=r"at most \$1 \(labels.judge.max_usd\), found \$1 spent and \$0.001 that"):
        spent.book(1, 0)
    spent.settle(first, 50, 10)
    assert spent.usd == pytest.approx(0.07 + 0.6)
    spent.settle(second, 0, 0)
    assert spent.counts == {"calls": 2, "input_tokens": 50, "output_tokens": 10, "usd": 0.07}


def test_at_the_limit_calls_under_way_are_waited_for(tmp_path: Path) -> None:
    spent = ledger(tmp_path, 1.0)
    first = spent.book(500, 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spent.book, 600, 0)
        time.sleep(0.05)
        assert not waiting.done()
        spent.settle(first, 100, 0)
        spent.end(first)
        assert waiting.result(5) == 1
    assert spent.usd == pytest.approx(0.7)


def test_a_later_start_knows_what_was_spent_and_booked(tmp_path: Path) -> None:
    spent = ledger(tmp_path, None)
    spent.settle(spent.book(100, 100), 10, 5)
    spent.book(100, 100)  # killed before its answer
    with (tmp_path / "spend.jsonl").open("ab") as stream:
        stream.write(b'\n{"call": 2, "inpu')  # cut off
    again = ledger(tmp_path, 0.5)
    assert again.usd == pytest.approx(0.02 + 0.3)
    assert again.book(10, 0) == 2
    assert ledger(tmp_path, None).usd == pytest.approx(0.33)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone/spend.jsonl: cannot be written: No such file or directory"):
        ledger(tmp_path / "gone", None).book(1, 1)


def test_a_limit_needs_a_price() -> None:
    with pytest.raises(ValueError, match="max_usd: expected usd_per_1k_input or usd_per_1k_output beside it"):
        JudgeConfig.model_validate({"endpoint": ENDPOINT, "max_usd": 1})
