"""The documentation: links and anchors lead somewhere, what the paper's map names is there, and the site builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest

import paper_page
import results_page
from pertinent.data.pinboard import make_pinboard
from pertinent.pipeline.config import RunConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MAP = DOCS / "paper-map.md"


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As the site and the usual hosts make them of headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", title)).strip().lower() for title in titles]
    return {re.sub(r"\s+", "-", title) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"
        inside = page.parent != DOCS or target.is_relative_to(DOCS)
        assert inside, f"{link}: the site has pages of docs/ alone"


def test_the_items_that_the_pages_name_are_pinboard_s() -> None:
    known = {pin.item_id for pin in make_pinboard().pins}
    named = {page.name: set(re.findall(r'"(pin-?\d+)"', page.read_text(encoding="utf-8"))) for page in PAGES}
    assert {name for name, items in named.items() if items} == {"quickstart.md", "stages.md"}
    assert all(items <= known for items in named.values())


def test_every_page_is_in_the_index() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


def test_the_site_builds_without_a_warning_and_loads_nothing_from_afar(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install 'pertinent[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text), page.name
        assert not re.search(r'<link[^>]*rel="?(?:stylesheet|preconnect)[^>]*href="?(?:https?:)?//', text), page.name


def test_the_site_refuses_a_broken_anchor(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install 'pertinent[docs]'")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Title\n\n[gone](#nowhere)\n")
    (tmp_path / "mkdocs.yml").write_text(config.partition("nav:\n  - Home")[0] + "nav: [index.md]\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "#nowhere" in done.stdout + done.stderr


def code_in_map() -> Iterator[str]:
    for line in MAP.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield from re.findall(r"`([^`]+)`", line)


def test_what_the_map_names_is_there() -> None:
    names = list(code_in_map())
    modules = [name for name in names if name.startswith("pertinent.")]
    files = [name for name in names if name.startswith(("benchmarks/", "configs/"))]
    assert len(modules) > 30
    assert len(files) > 20
    for module in modules:
        path = ROOT / "src" / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module
    for file in files:
        assert (ROOT / file).is_file(), file


def fields_of(annotation: Any) -> dict[str, Any]:
    """The settings of a config model, of one that may be None, or of one of several."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    found: dict[str, Any] = {}
    for part in get_args(annotation):
        found |= fields_of(part)
    return found


def test_the_settings_that_the_map_names_are_known() -> None:
    sections = RunConfig.model_fields.keys()
    settings = [name for name in code_in_map() if re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", name)]
    settings = [name for name in settings if name.partition(".")[0] in sections]
    assert len(settings) > 20
    for setting in settings:
        known = fields_of(RunConfig)
        for part in setting.split("."):
            assert part in known, setting
            known = fields_of(known[part])


@pytest.mark.parametrize(("name", "module"), [("results.md", results_page), ("paper.md", paper_page)])
def test_the_pages_of_figures_are_what_the_results_give(name: str, module: Any) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == module.page(ROOT / "benchmarks" / "results"), "python benchmarks/paper.py --page"
