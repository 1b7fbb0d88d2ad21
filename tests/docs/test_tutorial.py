"""Every command of the tutorial, typed as it stands; what the page says it prints, it prints."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import pertinent.cli
from pertinent.cli.app import app

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Typed:
    command: str
    output: tuple[str, ...]  # lines in their order; "..." stands for any others


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def typed(block: str) -> list[Typed]:
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    lines = [part.strip("\n").split("\n") for part in parts]
    return [Typed(first, tuple(line for line in rest if line != "...")) for first, *rest in lines]


def apply_diff(file: Path, diff: str) -> None:
    """Lines with - go, those with + come in their place, or after the context line before them."""
    text = file.read_text(encoding="utf-8")
    anchor = ""
    for line in diff.splitlines():
        sign, content = line[:1], line[1:]
        if sign == "+":
            assert anchor in text, anchor
            text = text.replace(anchor, f"{anchor}{content}\n", 1)
        else:
            assert f"{content}\n" in text, content
            anchor = f"{content}\n"
            if sign == "-":
                text = text.replace(anchor, "\x00\n", 1)
                anchor = "\x00\n"
    file.write_text(text.replace("\x00\n", ""), encoding="utf-8")


def said(command: str, folder: Path) -> str:
    name, *arguments = shlex.split(command)
    argv = {
        "pertinent": [sys.executable, "-m", "pertinent"],
        "python": [sys.executable],
        "head": ["head"],
    }[name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}
    done = subprocess.run(
        [*argv, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(tmp_path: Path, tiny_backbone: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    n_commands = 0
    for kind, block in blocks("tutorial.md"):
        if kind == "diff":
            apply_diff(tmp_path / "shop" / "pertinent.yaml", block)
        for each in typed(block) if kind == "console" else ():
            quick = f" --set teacher.backbone={tiny_backbone} --set teacher.epochs=1 --set student.epochs=2 --set student.dimensions=16"
            output = said(each.command + (quick if each.command.startswith("pertinent run") else ""), tmp_path)
            place = 0
            for line in each.output:
                found = output.find(line, place)
                assert found >= 0, f"$ {each.command}\n{line}\n--- printed:\n{output}"
                place = found + len(line)
            n_commands += 1
    assert n_commands == 7


@pytest.mark.parametrize(
    "page", ["quickstart.md", "tutorial.md", "own-data.md", "stages.md", "metrics.md", "mining.md"]
)
def test_commands_and_their_options_exist(page: str) -> None:
    lines = [
        line for kind, block in blocks(page) if kind != "python" for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("pertinent ")]
    assert commands or page == "stages.md"
    for module in pkgutil.iter_modules(pertinent.cli.__path__):
        importlib.import_module(f"pertinent.cli.{module.name}")  # each registers its command
    for line in commands:
        node: object = typer.main.get_command(app)
        words = shlex.split(line.partition("  #")[0])[1:]
        while hasattr(node, "commands"):
            assert words, line
            assert words[0] in node.commands, line
            node = node.commands[words.pop(0)]
        known = {option for parameter in node.params for option in parameter.opts}  # type: ignore[attr-defined]
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line
