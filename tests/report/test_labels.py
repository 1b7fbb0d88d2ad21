"""The label report: its numbers against hand-worked ones, and its page."""

from __future__ import annotations

import re
import shutil
import subprocess
from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.files import write_json
from pertinent.report import write_label_report
from pertinent.report.label_files import Group, read_labels
from pertinent.report.label_plots import entropy_panel, grade_panel, shade
from pertinent.report.label_tables import MAX_GROUPS, agreement, fates, headline, human_group, shown_groups

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>addEventListener("load", () => parent.postMessage(
  [document.documentElement.scrollWidth, innerWidth, document.querySelectorAll("svg.plot").length].join(" "), "*"))</script>"""
FRAME = """<!doctype html><body style="margin:0"><p id="said"></p>
<script>addEventListener("message", e => document.getElementById("said").textContent = e.data)</script>
<iframe src="probed.html" style="border:0;width:{width}px;height:3000px"></iframe></body>"""

# query, item, language, source, p_1..p_3, human grade (stored) or None, cached, stratum
ROWS = [
    ("sofa", "i1", "en", "judged", [1.0, 0.0, 0.0], 0, False, None),
    ("sofa", "i2", "en", "judged", [0.0, 0.0, 1.0], 2, False, None),
    ("lamp", "i1", "en", "judged", [0.0, 0.5, 0.5], 1, False, None),
    ("rug <b>&", "i3", None, "log", [0.2, 0.3, 0.5], None, True, "1-9 | und"),
    ("tapis", "i3", "fr", "log", [0.25, 0.25, 0.5], None, True, "10-99 | fr"),
    ("سجادة", "i4", "ar", "bm25", [1 / 3, 1 / 3, 1 / 3], None, False, None),
]


def write_labels(run: Path, rows: list[tuple[object, ...]] | None = None) -> Path:
    """A run folder with data/, sample/ and labels/."""
    table = pl.DataFrame(
        ROWS if rows is None else rows,
        schema=["query", "item_id", "language", "source", "p", "grade", "cached", "stratum"],
        orient="row",
    )
    names = ["p_1", "p_2", "p_3"]
    probs = [pl.col("p").list.get(k).cast(pl.Float32).alias(name) for k, name in enumerate(names)]
    shards = table.with_columns(*probs, text_hash=pl.lit("h"), teacher=pl.lit("t1"))
    kept = ["query", "item_id", "language", "source", "text_hash", *names, "teacher"]
    for name in ("data", "labels", "sample"):
        (run / name).mkdir(parents=True)
    shards.filter("cached").select(kept).write_parquet(run / "labels" / "shard-cached.parquet")
    own = shards.filter(~pl.col("cached")).select(kept)
    own.head(2).write_parquet(run / "labels" / "shard-00000.parquet")
    own.slice(2).write_parquet(run / "labels" / "shard-00001.parquet")
    strata = table.select("query", "item_id", "stratum")
    strata.write_parquet(run / "sample" / "pairs.parquet")
    judged = table.filter(pl.col("grade").is_not_null())
    judged = judged.select(pl.col("query").alias("query_id"), "query", "item_id", pl.col("grade").cast(pl.Int8))
    unlabelled = pl.DataFrame([("bed", "bed", "i9", 1)], schema=judged.schema, orient="row")
    pl.concat([judged, unlabelled]).write_parquet(run / "data" / "judgments.parquet")
    failed = {"query": ["bed", "cot", "mat"], "item_id": ["i1"] * 3, "text_hash": ["h"] * 3}
    reasons = ["too <long>", "no grade", "no grade"]
    pl.DataFrame({**failed, "reason": reasons}).write_parquet(run / "labels" / "quarantine.parquet")
    about = {"name": "tiny", "generated": True, "scale": {"guidelines": ["bad", "fair", "good & <best>"]}}
    write_json(run / "data" / "dataset.json", about)
    counts = {"pairs": table.height, "teacher": "t1", "filtered": 1}
    manifest = {"stage": "labels", "counts": counts, "config": {"unit_pairs": 2}, "seconds": 83.4}
    write_json(run / "labels" / "manifest.json", {**manifest, "created_at": "2026-01-02T03:04:05+00:00"})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "shop")


def test_groups_have_the_mean_probabilities_and_entropy(run: Path) -> None:
    labels = read_labels(run)
    whole = labels.groups["all"][0]
    assert whole.n_pairs == labels.n_pairs == 6
    assert whole.shares == pytest.approx(np.mean([row[4] for row in ROWS], axis=0), abs=1e-6)
    log_pairs = {group.value: group for group in labels.groups["source"]}["log"]
    assert log_pairs.n_pairs == 2
    assert log_pairs.shares == pytest.approx([0.225, 0.275, 0.5], abs=1e-6)
    # -(.2 ln .2 + .3 ln .3 + .5 ln .5) = 1.0297; -(.5 ln .25 + .5 ln .5) = 1.0397.
    assert log_pairs.entropy == pytest.approx((1.0297 + 1.0397) / 2, abs=1e-4)
    assert [(g.value, g.n_pairs) for g in labels.groups["language"]] == [("en", 3), ("ar", 1), ("fr", 1), ("und", 1)]
    assert {g.value: g.n_pairs for g in labels.groups["stratum"]} == {"1-9 | und": 1, "10-99 | fr": 1}
    # Two sure labels, one of ln 2 = .693, two of about 1.03, one of ln 3: bins of ln 3 / 24 = .0458.
    assert {int(k): int(labels.entropies[k]) for k in np.flatnonzero(labels.entropies)} == {0: 2, 15: 1, 22: 2, 23: 1}


def test_agreement_is_on_the_pairs_that_both_have(run: Path) -> None:
    labels = read_labels(run)
    assert labels.judged.height == 3
    found = agreement(labels)
    assert found is not None
    assert found.confusion.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    cells = {metric.key: cell.text for metric, cell in zip(found.metrics, found.rows[0].cells, strict=True)}
    assert cells["accuracy"] == cells["qwk"] == cells["auroc_2+"] == cells["auroc_3+"] == "1.000"
    assert (cells["n_pairs"], cells["n_queries"]) == ("3", "2")
    human = human_group(labels)
    assert human is not None
    assert human.shares == pytest.approx([1 / 3] * 3)
    assert "Against people, on 3 pairs: accuracy 1.000, kappa 1.000." in headline(labels, found)


def test_a_wrong_label_shows(tmp_path: Path) -> None:
    wrong = [(*ROWS[0][:4], [0.0, 0.0, 1.0], *ROWS[0][5:]), *ROWS[1:]]
    labels = read_labels(write_labels(tmp_path / "shop", wrong))
    found = agreement(labels)
    assert found is not None
    assert found.confusion.counts.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1]]
    cells = {metric.key: cell.text for metric, cell in zip(found.metrics, found.rows[0].cells, strict=True)}
    # Ordered by mean grade: lamp 1.5 (grade 1), then the two of 2 (grades 0 and 2) tied.
    assert cells["accuracy"] == ".667"
    assert cells["auroc_3+"] == ".750"


def test_languages_with_enough_judged_pairs_have_a_row(tmp_path: Path) -> None:
    sure = np.eye(3).tolist()
    rows = [
        (f"q{k % 20}", f"i{k}", "en" if k % 2 else "de", "judged", sure[k % 3], k % 3, False, None) for k in range(80)
    ]
    rows.append(("q", "i", "fr", "judged", sure[0], 0, False, None))
    found = agreement(read_labels(write_labels(tmp_path / "shop", rows)))  # type: ignore[arg-type]
    assert found is not None
    assert [row.value for row in found.rows] == ["all", "de", "en"]
    assert found.notes == ("1 languages with fewer than 30 such pairs have no row.",)


def test_every_pair_has_one_fate(run: Path) -> None:
    assert fates(read_labels(run)) == [
        ("labelled in this stage", "4", 4 / 9),
        ("taken from earlier labels", "2", 2 / 9),
        ("of these labels, filtered out (weight 0)", "1", 1 / 9),
        ("set aside with a reason", "3", 3 / 9),
    ]
    assert read_labels(run).failed.rows() == [("no grade", 2, "cot"), ("too <long>", 1, "bed")]


def test_many_groups_are_summed_up() -> None:
    groups = [Group(f"g{k}", 100 - k, np.array([k / 50, 1 - k / 50]), k / 50) for k in range(40)]
    shown = shown_groups(groups)
    assert len(shown) == MAX_GROUPS
    others = shown[-1]
    assert others.value == f"{41 - MAX_GROUPS} others"
    assert sum(group.n_pairs for group in shown) == sum(group.n_pairs for group in groups)
    rest = range(MAX_GROUPS - 1, 40)
    expected = sum((100 - k) * k / 50 for k in rest) / sum(100 - k for k in rest)
    assert others.entropy == pytest.approx(expected)
    assert others.shares == pytest.approx([expected, 1 - expected])
    assert [group.value for group in shown_groups(groups[:12])][:3] == ["g0", "g1", "g2"]


def test_bars_fill_the_line_from_light_to_dark() -> None:
    drawn = grade_panel("p", "Grades", [Group("a & b", 4, np.array([0.25, 0.25, 0.5]), 1.0)])
    ends = [float(x) for x in re.findall(r'class="share shade-\d" d="M([\d.]+)', drawn)]
    assert ends == [0, 84, 168]  # of 336 pixels
    assert [shade(k, 3) for k in range(3)] == ["shade-0", "shade-4", "shade-9"]
    assert "a &amp; b: L1 25%, L2 25%, L3 50%" in drawn


def test_the_entropy_plot_tells_its_median() -> None:
    pairs = np.zeros(24, dtype=np.int64)
    pairs[[0, 12]] = [1, 3]
    assert f"below {13 / 24 * log(3):.2f} nats" in entropy_panel("p", pairs, 3)


def test_the_page_is_whole_and_escapes_what_strangers_wrote(run: Path) -> None:
    page = write_label_report(run)
    assert page == run / "labels" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "too &lt;long&gt;" in text and "good &amp; &lt;best&gt;" in text and "<long>" not in text  # noqa: PT018
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", text)
    assert text.count('class="plot"') == 5
    idents = re.findall(r' id="([^"]+)"', text)
    assert len(idents) == len(set(idents))
    assert "the teacher was trained on" in text
    first = page.read_bytes()
    assert write_label_report(run / "labels").read_bytes() == first


def test_a_judges_page_says_that_it_has_seen_no_grade(run: Path) -> None:
    manifest = {"counts": {"judge": {"usd": 1.5, "calls": 6}, "teacher": "m@1"}}
    write_json(run / "labels" / "manifest.json", manifest)
    text = write_label_report(run).read_text(encoding="utf-8")
    assert "The judge has seen none of these grades." in text
    assert "judge / usd" in text


def test_labels_without_judgments_or_manifest_have_marked_gaps(run: Path) -> None:
    (run / "labels" / "manifest.json").unlink()
    file = run / "data" / "judgments.parquet"
    pl.read_parquet(file).head(0).write_parquet(file)
    text = write_label_report(run).read_text(encoding="utf-8")
    assert "No labelled pair has a human grade" in text
    assert "The stage has no manifest" in text


def test_what_is_no_folder_of_labels_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels: expected label shards \(shard-\*.parquet\), found none"):
        write_label_report(tmp_path / "nowhere")
    write_json(run / "data" / "dataset.json", {"name": "tiny", "generated": True})
    with pytest.raises(
        DataError, match=r"dataset.json: not written by this version of the data stage: KeyError\('scale'"
    ):
        write_label_report(run)
    write_json(run / "data" / "dataset.json", {"name": "tiny", "scale": {"guidelines": ["bad", "fair", "good"]}})
    (run / "data" / "judgments.parquet").unlink()
    with pytest.raises(DataError, match=r"judgments.parquet: no such file"):
        write_label_report(run)
    pl.DataFrame({"query": ["a"]}).write_parquet(run / "labels" / "shard-00002.parquet")
    with pytest.raises(DataError, match=r"shard-00002.parquet: expected a column item_id, found none"):
        write_label_report(run)
    (run / "labels" / "shard-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"shard-00002.parquet: not a readable Parquet file"):
        write_label_report(run)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window(run: Path, tmp_path: Path, width: int) -> None:
    page = write_label_report(run).read_text(encoding="utf-8")
    (tmp_path / "probed.html").write_text(page.replace("</head>", PROBE + "</head>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    window = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={max(width, 500)},3000", "--hide-scrollbars"]
    command = [str(CHROMIUM), *flags, *window, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = re.search(r'id="said">(\d+) (\d+) (\d+)<', dumped.stdout)
    assert said, dumped.stdout[:500]
    scroll_width, window_width, n_plots = map(int, said.groups())
    assert (window_width, n_plots) == (width, 5)
    assert scroll_width <= width
