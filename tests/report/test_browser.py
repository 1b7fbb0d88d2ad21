"""The page in a real browser, at a phone's width and a desk's: nothing but tables may scroll sideways."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

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
    assert n_plots == 15
    subprocess.run([*shared, f"--screenshot={screenshot}", frame.as_uri()], capture_output=True, timeout=60, check=True)
    assert screenshot.stat().st_size > 50_000
