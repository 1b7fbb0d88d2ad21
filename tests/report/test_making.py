from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pertinent.report.making import curves, stage_rows, total_seconds, versions
from pertinent.report.run_files import read_run


def test_losses_share_a_plot_and_the_axis_is_the_epoch_where_no_step_is_told(make_run: Callable[..., Path]) -> None:
    run = make_run(n_queries=30)
    rows = [
        {"epoch": 1, "loss": 1.5, "dev_loss": 1.2, "dev_auroc": 0.6},
        {"epoch": 2, "loss": 1.1, "dev_loss": None, "dev_auroc": 0.7},
    ]
    (run / "student" / "history.json").write_text(json.dumps(rows))
    found = {curve.title: curve for curve in curves(read_run(run))}
    losses = found["Student: loss and dev loss"]
    assert losses.axis == "epoch"
    assert losses.series == {"loss": [(1, 1.5), (2, 1.1)], "dev_loss": [(1, 1.2)]}
    assert found["Student: dev auroc"].series == {"dev_auroc": [(1, 0.6), (2, 0.7)]}
    assert found["Teacher: dev auroc 4+"].axis == "step"


def test_stages_tell_what_their_manifests_say(run: Path) -> None:
    files = read_run(run)
    data = stage_rows(files)[0]
    assert data.counts == (("pairs", "12,345"), ("split / test", "120"), ("split / train", "900"))
    assert data.quarantined == (("grade off the scale", "3"), ("unknown item", "11"))
    assert (data.seconds, data.seed, data.warnings) == ("1 min 23 s", "13", ("2 queries were merged",))
    assert "max_tokens: 64" in data.config
    assert total_seconds(files) == pytest.approx(6 * 83.4)
    assert versions(files) == "0.1.0"
