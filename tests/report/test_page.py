from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.evaluation import ndcg, rank
from pertinent.evaluation.metrics import Judgments
from pertinent.report import GENERATED_BANNER, write_report
from pertinent.report.numbers import decimals, signed
from pertinent.report.run_files import read_run
from pertinent.report.worst import worst_queries

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "source"}
MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """Checks nesting while it parses; keeps tags, ids and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"repeated attribute in {tag}: {names}"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes {self.open[-1]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


def page_of(run: Path) -> tuple[str, Page]:
    text = write_report(run).read_text(encoding="utf-8")
    return text, Page(text)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def test_the_page_is_well_formed_and_accessible(run: Path) -> None:
    text, page = page_of(run)
    assert text.lower().startswith("<!doctype html>")
    assert ("html", {"lang": "en"}) in page.tags
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert ids.most_common(1)[0][1] == 1
    targets = {a["href"][1:] for tag, a in page.tags if tag == "a" and a["href"].startswith("#")}
    assert targets
    assert targets <= ids.keys()
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    count = Counter(tag for tag, _ in page.tags)
    assert count["table"] == count["caption"] > 5
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")
    drawings = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) == 4 + 6 + 2 + 2 + 3 + 1  # thresholds, slices, reliability, histograms, curves, gains
    assert all(set(a["aria-labelledby"].split()) <= ids.keys() for a in drawings)


def test_every_number_of_the_headline_table_is_that_of_metrics_json(run: Path) -> None:
    _, page = page_of(run)
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    order = ["accuracy", "auroc_2+", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy"]
    order += ["ndcg@10", "ndcg@20", "sdcg@20", "precision@8", "qwk", "within_1", "ece"]
    rows = {row[0]: row[1:] for row in reversed(page.rows) if len(row) == 1 + len(order)}
    for system, name in (("random", "Random"), ("bm25", "BM25"), ("teacher", "Teacher"), ("student", "Student")):
        for metric, cell in zip(order, rows[name], strict=True):
            low, high = metrics["intervals"][system][metric]
            shown = cell.replace("(best)", "").split(maxsplit=1)
            assert shown[0] == decimals(metrics["systems"][system][metric]), (system, metric)
            assert shown[1].strip() == f"[{decimals(low)}, {decimals(high)}]", (system, metric)


def test_slices_show_their_numbers_and_the_verdict(run: Path) -> None:
    _, page = page_of(run)
    japanese = json.loads((run / "evaluation" / "metrics.json").read_text())["slices"]["language"]["ja"]
    row = next(row for row in page.rows if row[0].startswith("ja"))
    assert "small" in row[0]
    assert row[1] == str(japanese["n_queries"])
    assert row[6].split()[0] == decimals(japanese["systems"]["student"]["auroc_4+"])
    difference = japanese["systems"]["student"]["auroc_4+"] - japanese["systems"]["bm25"]["auroc_4+"]
    assert row[7].split() == [signed(difference), "higher,", "no", "interval"]


def test_a_slice_shows_the_paired_difference_with_its_interval(run: Path) -> None:
    _, page = page_of(run)
    english = json.loads((run / "evaluation" / "metrics.json").read_text())["slices"]["language"]["en"]
    row = next(row for row in page.rows if row[0].startswith("en"))
    for cell, baseline in zip(row[7:9], ("bm25", "embedding"), strict=True):
        found = english["differences"]["student"][baseline]["auroc_4+"]
        low, high = found["interval"]
        said = "▲ above" if low > 0 else "higher, interval includes 0"
        shown = f"{signed(found['difference'])} [{decimals(low)}, {decimals(high)}] {said}"
        assert " ".join(cell.split()) == shown
    assert row[7].endswith("▲ above")


def test_the_chosen_bm25_and_the_rule_of_splits_are_told(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)
    text, _ = page_of(run)
    assert "on the item&#39;s text: title and body, chosen on dev among title, body and their sum" in text
    assert "A query has the split that the data set gives it, else one by a hash of its normalised text" in text
    edit(run / "evaluation" / "manifest.json", lambda m: m["counts"].clear())
    assert "text: best on dev of title, body and their sum" in page_of(run)[0]


def test_nothing_is_loaded_from_afar_and_nothing_runs(run: Path) -> None:
    text, page = page_of(run)
    assert not re.search(r"url\(|@import|@font-face", text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")}
        assert not re.match(r"(?i)\s*(\w+:|//)", attributes.get("href", "")), attributes
    assert "https://" not in text
    assert "http://" not in text


def test_links_lead_to_the_files_of_the_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "some where" / "r.html"
    assert write_report(run, out) == out
    page = Page(out.read_text(encoding="utf-8"))
    links = [a["href"] for tag, a in page.tags if tag == "a" and "/" in a["href"]]
    assert any(link.endswith("evaluation/metrics.json") for link in links)
    assert all((out.parent / link).is_file() for link in links)


def test_hostile_text_is_inert_everywhere(make_run: MakeRun) -> None:
    attack = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\x00\x1b"
    run = make_run(title=attack, n_queries=40)
    evaluation, data = run / "evaluation", run / "data"
    scores = pl.read_parquet(evaluation / "scores.parquet").with_columns(
        pl.lit(attack).alias("query"), pl.lit(attack).alias("language")
    )
    scores.with_columns(pl.col("bm25").alias(attack)).write_parquet(evaluation / "scores.parquet")

    def poison(metrics: Any) -> None:
        metrics["systems"][attack] = metrics["systems"]["bm25"] | {attack: 1.0}
        metrics["slices"] = {attack: {attack: metrics["slices"]["language"]["en"]}}
        metrics["notes"], metrics["counts"] = [attack], {attack: attack}

    edit(evaluation / "metrics.json", poison)
    edit(
        data / "dataset.json", lambda d: d | {"name": attack, "note": attack, "licence": attack, "languages": [attack]}
    )
    more = {
        "config": {attack: attack},
        "warnings": [attack],
        "quarantined": {attack: 1},
        "inputs": {attack: attack},
        "seed": attack,
    }
    edit(data / "manifest.json", lambda m: m | more | {"key": attack, "created_at": attack, "package_version": attack})
    edit(run / "student" / "history.json", lambda h: [{"step": 1, attack: 2.0}])
    text, page = page_of(run)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "&lt;script&gt;" in text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    assert not any("script" in attributes.get("class", "") + attributes.get("lang", "") for _, attributes in page.tags)


def test_generated_data_is_told_at_the_top_and_real_data_is_not(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)
    text, _ = page_of(run)
    assert GENERATED_BANNER == "Generated stand-in data: no quality claim rests on it"
    assert text.index(GENERATED_BANNER) < text.index("The student reaches") < text.index("<main>")
    edit(run / "data" / "dataset.json", lambda d: d | {"generated": False})
    assert GENERATED_BANNER not in page_of(run)[0]


def test_the_same_files_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(n_queries=30)
    first = write_report(run).read_bytes()
    other = tmp_path / "elsewhere" / "demo"
    shutil.copytree(run, other)
    assert write_report(other).read_bytes() == first
    assert write_report(other).read_bytes() == first  # over an older report


@pytest.mark.parametrize(
    "lost",
    [
        "data", "text", "teacher", "labels", "student", "evaluation",
        "data/items.parquet", "data/dataset.json", "evaluation/metrics.json", "evaluation/scores.parquet",
        "evaluation/reliability.json", "evaluation/confusion.json", "student/history.json", "data/manifest.json",
    ],
)  # fmt: skip
def test_a_missing_piece_is_a_marked_gap(make_run: MakeRun, lost: str) -> None:
    run = make_run(n_queries=30)
    if (run / lost).is_dir():
        shutil.rmtree(run / lost)
    else:
        (run / lost).unlink()
    text, _ = page_of(run)
    if lost in ("evaluation", "evaluation/metrics.json"):
        assert "no evaluation yet" in text
    if "history" not in lost and lost.count("/") == 0:
        assert f"{lost}/manifest.json is missing" in text


def test_bins_and_confusion_come_from_scores_where_their_files_are_missing(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)
    with_files = write_report(run).read_text(encoding="utf-8")
    for name in ("reliability.json", "confusion.json"):
        (run / "evaluation" / name).unlink()
    without = write_report(run).read_text(encoding="utf-8")
    part = slice(with_files.index('id="sure"'), with_files.index('id="worst"'))
    assert without[part] == with_files[part]


def test_null_metrics_are_gaps_and_never_numbers(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)

    def nothing(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: nothing(inner) for key, inner in value.items()}
        return value if isinstance(value, str) else None

    edit(
        run / "evaluation" / "metrics.json",
        lambda m: m | {k: nothing(m[k]) for k in ("systems", "intervals", "slices")},
    )
    text, page = page_of(run)
    assert "no AUROC 4+ for the student" in text
    table = [row for row in page.rows if row[0] in ("BM25", "Student") and len(row) == 16]
    assert len(table) == 2
    assert all(cell.startswith("–no number:") for row in table for cell in row[1:])
    assert not re.search(r"\bnan\b|None|null\b", re.sub(r"is null|are null|: null", "", re.sub(r"<[^>]*>", " ", text)))


def test_a_missing_system_is_a_row_of_gaps(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)
    edit(run / "evaluation" / "metrics.json", lambda m: m["systems"].pop("embedding") and None)
    _, page = page_of(run)
    row = next(row for row in page.rows if row[0] == "Embedding" and len(row) == 14)
    assert all("Embedding was not scored here" in cell for cell in row[1:])


@pytest.mark.parametrize("n_grades", [2, 4])
def test_other_scales_have_their_own_thresholds(make_run: MakeRun, n_grades: int) -> None:
    text, _ = page_of(make_run(n_queries=30, n_grades=n_grades))
    assert f"AUROC {n_grades}+" in text
    assert f"AUROC {n_grades + 1}+" not in text
    assert f"Share of L{max(n_grades - 1, 2)} and up in the top 8" in text


def test_one_query_and_equal_scores_and_missing_scores_do_not_break_the_page(make_run: MakeRun) -> None:
    run = make_run(n_queries=30)
    path = run / "evaluation" / "scores.parquet"
    scores = pl.read_parquet(path)
    test = scores.filter(pl.col("split") == "test")
    test.filter(pl.col("query_id") == test["query_id"][0]).with_columns(student=pl.lit(1.0)).write_parquet(path)
    text, _ = page_of(run)
    assert "lowest nDCG@10, 1 of them" in text
    scores.with_columns(student=pl.lit(None, pl.Float64), teacher=pl.lit(float("nan"))).write_parquet(path)
    text, _ = page_of(run)
    assert "A score of the student is missing or not finite" in text


def test_the_worst_queries_are_those_of_the_lowest_ndcg(run: Path) -> None:
    pairs = pl.read_parquet(run / "evaluation" / "scores.parquet").filter(pl.col("split") == "test")
    one_by_one = {}
    for (query_id,), rows in pairs.partition_by("query_id", as_dict=True).items():
        judged = Judgments.of(np.zeros(rows.height), rows["grade"].to_numpy(), 5)
        value = ndcg(rank(judged, rows["student"].to_numpy()), 10).mean
        if value is not None:
            one_by_one[query_id] = value
    expected = sorted(one_by_one.values())[:20]
    found = worst_queries(read_run(run))
    student = found.systems.index("student")
    assert [query.ndcgs[student].text for query in found.queries] == [decimals(value) for value in expected]
    assert found.systems == ("bm25", "embedding", "teacher", "student")


def test_an_item_shows_its_grade_title_and_rank_by_system(run: Path) -> None:
    query = worst_queries(read_run(run), limit=1).queries[0]
    item = query.items[0]
    query_id = "q" + item.item_id[1:4]  # item i012-3 is of query q012
    rows = pl.read_parquet(run / "evaluation" / "scores.parquet").filter(pl.col("query_id") == query_id)
    row = rows.row(by_predicate=pl.col("item_id") == item.item_id, named=True)
    assert item.grade == row["grade"] + 1
    assert item.title.endswith(item.item_id)
    for system, cell in zip(("bm25", "embedding", "teacher", "student"), item.ranks, strict=True):
        assert cell.text == str(1 + (rows[system] > row[system]).sum())
        if f"{system}.p_1" in row:
            probs = [row[f"{system}.p_{k}"] for k in range(1, 6)]
            assert cell.interval == f"L{1 + int(np.argmax(probs))} {100 * max(probs):.0f}%"
        else:
            assert cell.interval == f"{row[system]:.2f}"
    assert len(query.items) + query.n_hidden == rows.height


def test_a_system_that_lacks_a_grade_s_probabilities_shows_its_score(make_run: MakeRun) -> None:
    run = make_run()
    path = run / "evaluation" / "scores.parquet"
    scores = pl.read_parquet(path)
    scores.drop("teacher.p_5").with_columns(pl.lit(None, pl.Float64).alias("student.p_2")).write_parquet(path)
    found = worst_queries(read_run(run))
    said = [cell.interval for query in found.queries for item in query.items for cell in item.ranks]
    assert said
    assert not any(text.startswith("L") for text in said)


def test_wrong_input_is_one_clear_line(tmp_path: Path, make_run: MakeRun) -> None:
    with pytest.raises(DataError, match="expected a run folder with one of data, text"):
        write_report(tmp_path / "nowhere")
    run = make_run(n_queries=30)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the report cannot be written"):
        write_report(run, tmp_path / "file" / "report.html")
    (run / "evaluation" / "metrics.json").write_text("[1]")
    with pytest.raises(DataError, match=r"metrics\.json: expected a JSON object, found a list"):
        write_report(run)
    (run / "evaluation" / "metrics.json").write_text("{}")
    pl.DataFrame({"query_id": ["a"]}).write_parquet(run / "evaluation" / "scores.parquet")
    with pytest.raises(DataError, match=r"scores\.parquet: expected a column 'query', found query_id"):
        write_report(run)
