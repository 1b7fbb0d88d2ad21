from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pertinent.errors import DataError
from pertinent.pipeline import load_run_config, run_pipeline
from pertinent.pipeline.follow import follow_teacher, is_follower
from pertinent.teacher.saving import load_teacher

QUERIES = ["red sofa", "blue lamp", "oak table modern"]
TEXTS = ["title: red sofa", "title: red lamp", "title: green table | description: oak table"]


def test_only_a_launched_process_after_the_first_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert not is_follower()
    monkeypatch.setenv("RANK", "0")
    assert not is_follower()
    monkeypatch.setenv("RANK", "3")
    assert is_follower()


def test_following_needs_the_stages_before_the_teacher(small_run: Path) -> None:
    with pytest.raises(DataError, match=r"data: expected a finished stage, found none; .* --until text"):
        follow_teacher(load_run_config(small_run))


@pytest.mark.slow
def test_two_processes_train_the_teacher_that_one_trains(small_run: Path, tmp_path: Path) -> None:
    alone = load_run_config(small_run, [f"output={tmp_path / 'alone'}"])
    run_pipeline(alone, until="teacher")
    together = load_run_config(small_run)
    run_pipeline(together, until="text")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "pertinent", "teacher", "train", str(small_run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=300)
    # Each step's gradient is the mean over the same pairs, in two halves.
    expected = load_teacher(alone.folder / "teacher").score(QUERIES, TEXTS)
    found = load_teacher(together.folder / "teacher").score(QUERIES, TEXTS)
    assert np.abs(found - expected).max() < 0.02
