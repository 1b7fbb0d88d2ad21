from __future__ import annotations

import io

import pytest

from pertinent import progress
from pertinent.progress import Progress


def test_rate_and_time_left_count_only_this_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    bar = Progress("label", total=1000, unit="pairs", done=400, stream=stream)
    now[0] += 20.0
    bar.advance(200)  # 200 pairs in 20 s: 10/s, 400 left: 40 s
    assert stream.getvalue() == "label:  60% 600/1,000 pairs · 10/s · 40 s left\n"
    now[0] += 105.0
    bar.close()
    assert stream.getvalue().endswith("label: 600 pairs in 2 min 05 s\n")
