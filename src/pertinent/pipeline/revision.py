"""Which code is at work: the commit of a checkout, marked where files differ from it; else the package version."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def code_revision() -> str:
    """The revision of the package's source tree when this process first asked; the package version without a checkout."""
    return revision_of(PACKAGE) or version("pertinent")


def revision_of(folder: Path) -> str:
    """The last commit that changed ``folder``, 12 digits, with ``+dirty`` where its files differ from that commit.

    Empty where git is absent or keeps nothing of the folder, such as a package installed below another project.
    """
    commit = _git(folder, "log", "-1", "--format=%H", "--", ".")[:12]
    return commit + ("+dirty" if _git(folder, "status", "--porcelain", "--", ".") else "") if commit else ""


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
