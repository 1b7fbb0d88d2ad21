from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from pertinent.pipeline import revision
from pertinent.pipeline.revision import code_revision, revision_of


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A committed package folder in a repository."""
    folder = tmp_path / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return folder


def test_the_revision_is_the_last_commit_that_changed_the_folder(package: Path) -> None:
    first = git(package, "rev-parse", "HEAD")[:12]
    assert revision_of(package) == first
    (package.parent.parent / "README").write_text("about")
    git(package.parent.parent, "add", ".")
    git(package.parent.parent, "commit", "-q", "-m", "docs")
    assert revision_of(package) == first


@pytest.mark.parametrize("name", ["a.py", "new.py"])
def test_files_that_differ_from_the_commit_are_told(package: Path, name: str) -> None:
    clean = revision_of(package)
    (package / name).write_text("a = 2\n")
    assert revision_of(package) == f"{clean}+dirty"


def test_a_folder_that_git_does_not_keep_has_none(package: Path, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("venv/\n")
    (tmp_path / "venv" / "package").mkdir(parents=True)
    assert revision_of(tmp_path / "venv" / "package") == ""


def test_without_git_the_code_is_the_package_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(revision, "code_revision", code_revision.__wrapped__)
    assert revision.code_revision() == version("pertinent")
