from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pertinent.errors import DataError
from pertinent.pipeline.lock import run_lock

HOLD = """
import sys
from pathlib import Path
from pertinent.pipeline.lock import run_lock

with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_folder_is_refused_naming_the_first_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DataError, match=f"found process {holder.pid} at work"), run_lock(folder):
        pass
    holder.kill()  # SIGKILL: the file stays, the lock does not
    holder.communicate()
    assert (folder / ".lock").exists()
    with run_lock(folder):
        assert (folder / ".lock").read_text() == str(os.getpid())
    assert list(folder.iterdir()) == []


def test_a_lock_that_was_taken_away_meanwhile_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder ends, and takes its file away, between our opening of the file and our lock of it."""
    file, real, opened = tmp_path / ".lock", os.open, []

    def opening(*arguments: object) -> int:
        descriptor = real(*arguments)  # type: ignore[arg-type]
        opened.append(descriptor)
        if len(opened) == 1:
            file.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    with run_lock(tmp_path):
        assert len(opened) == 2
        assert file.read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), run_lock(tmp_path / "file" / "run"):
        pass
