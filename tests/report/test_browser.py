"""The page in a real browser: it fits a phone and a desk, prints whole, and axe finds no fault in light or in dark."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pertinent.report import write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
]
# The page reports its widths to the frame around it: a browser window cannot be as narrow as a phone.
PROBE = """<script>addEventListener("load", () => parent.postMessage(
  [document.documentElement.scrollWidth, innerWidth, document.querySelectorAll("svg.plot").length].join(" "), "*"))</script>"""
FRAME = """<!doctype html><body style="margin:0"><p id="said"></p>
<script>addEventListener("message", e => document.getElementById("said").textContent = e.data)</script>
<iframe src="probed.html" style="border:0;width:{width}px;height:3000px"></iframe></body>"""

# Contrast cannot be told on a gradient or out of sight: nothing scrolls sideways here, and closed parts are opened. Of a
# single character, a sign, text within a drawing or cells that overlap when laid out so, axe never tells it: their
# colours are those of the text that it does tell of.
AXE = """<style>.scroll { background: none !important; overflow: visible !important; width: max-content }
th:first-child { position: static !important }</style><script>%s</script><script>
addEventListener("load", async () => {
  document.querySelectorAll("details").forEach(part => part.open = true);
  const found = await axe.run(document, {resultTypes: ["violations", "incomplete"]});
  const untold = ["shortTextContent", "nonBmp", "imgNode", "bgOverlap", "pseudoContent", "elmPartiallyObscured",
    "elmPartiallyObscuring"];
  const reason = node => ((node.any[0] || {}).data || {}).messageKey || "";
  const told = list => list.map(rule => [rule.id, rule.nodes.filter(node => !untold.includes(reason(node)))
    .map(node => node.target.join(" ") + " " + reason(node))]).filter(([_, nodes]) => nodes.length)
    .map(([id, nodes]) => [id, nodes.length, nodes.slice(0, 3)]);
  const said = document.createElement("pre");
  said.id = "axe";
  said.textContent = JSON.stringify({violations: told(found.violations), incomplete: told(found.incomplete),
    n_passes: found.passes.length, dark: matchMedia("(prefers-color-scheme: dark)").matches});
  document.body.append(said);
})</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window(run: Path, tmp_path: Path, width: int) -> None:
    page = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "probed.html").write_text(page.replace("</head>", PROBE + "</head>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    screenshot = tmp_path / f"report_{width}.png"
    shared = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={max(width, 500)},3000"]
    dumped = subprocess.run(
        [*shared, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    said = re.search(r'id="said">(\d+) (\d+) (\d+)<', dumped.stdout)
    assert said, dumped.stdout[:500]
    scroll_width, window_width, n_plots = map(int, said.groups())
    assert window_width == width
    assert scroll_width <= width
    assert n_plots == 18
    subprocess.run([*shared, f"--screenshot={screenshot}", frame.as_uri()], capture_output=True, timeout=60, check=True)
    assert screenshot.stat().st_size > 50_000


def axe() -> str:
    """The source of axe-core as its Python package has it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("no axe-core: pip install 'pertinent[dev]'")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def checked_by_axe(page: str, folder: Path, width: int, *flags: str) -> dict[str, Any]:
    probed = folder / "probed.html"
    probed.write_text(page.replace("</head>", AXE % axe() + "</head>"), encoding="utf-8")
    window = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},3000"]
    command = [str(CHROMIUM), *FLAGS, "--virtual-time-budget=60000", *flags, *window, "--dump-dom", probed.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    said = re.search(r'<pre id="axe">(.*?)</pre>', dumped, re.DOTALL)
    assert said, dumped[:500]
    found: dict[str, Any] = json.loads(html.unescape(said.group(1)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (520, True)])
def test_axe_finds_no_fault(run: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    found = checked_by_axe(page, tmp_path, width, *flags)
    assert found["dark"] == dark
    assert found["violations"] == []
    assert found["incomplete"] == []
    assert found["n_passes"] > 20


@pytest.mark.slow
def test_axe_finds_the_faults_that_are_there(run: Path, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    broken = page.replace('<html lang="en">', "<html>").replace("--muted: #5a5f66", "--muted: #c8c8c8")
    assert {rule for rule, *_ in checked_by_axe(broken, tmp_path, 1280)["violations"]} >= {
        "html-has-lang",
        "color-contrast",
    }


def test_the_page_prints_whole(run: Path, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "report.html")
    sheet = tmp_path / "report.pdf"
    options = [f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer", f"--print-to-pdf={sheet}"]
    subprocess.run([str(CHROMIUM), *FLAGS, *options, page.as_uri()], capture_output=True, timeout=90, check=True)
    n_pages = len(re.findall(rb"/Type\s*/Page\b", sheet.read_bytes()))
    assert 8 <= n_pages <= 60
