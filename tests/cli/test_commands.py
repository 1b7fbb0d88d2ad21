"""Every command on good input: its exit code, its JSON on stdout, and what it writes."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import yaml

from pertinent.bundle import open_bundle
from pertinent.cli import main

README = Path(__file__).parents[2] / "README.md"
Command = Callable[..., Any]


@pytest.fixture
def pertinent(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs a command that must exit with 0; returns the JSON document on its stdout, or the text where it is none."""

    def run(*arguments: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["pertinent", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        out, error = capfdbinary.readouterr()
        assert exit_.value.code == 0, error.decode()
        assert b"Traceback" not in error
        try:
            return orjson.loads(out)
        except orjson.JSONDecodeError:
            return out.decode()

    return run


def readme_commands() -> list[list[str]]:
    """The arguments of each ``pertinent`` line of the README's section on own data, in order."""
    section = README.read_text(encoding="utf-8").partition("in ten lines")[2].partition("\n## ")[0]
    block = re.findall(r"```\n(.*?)```", section, re.DOTALL)[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "pertinent"]


def write_shop(folder: Path, source: Path) -> None:
    """The small data set as a shop would export it: CSV, names and grades of its own."""
    folder.mkdir()
    items = pl.read_ndjson(source / "items.jsonl")
    judgments = pl.read_ndjson(source / "judgments.jsonl").with_columns(pl.col("grade") // 2 + 1)
    items.rename({"item_id": "sku", "title": "name"}).write_csv(folder / "catalogue.csv")
    names = {"query": "search", "item_id": "sku", "grade": "rating"}
    judgments.rename(names).write_csv(folder / "ratings.csv")


def test_the_ten_lines_of_the_readme_run(
    pertinent: Command,
    finished_run: Any,
    settings: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_shop(tmp_path / "shop", finished_run.config.parent / "source")
    pl.DataFrame({"query": ["red sofa"], "item_id": ["red-oak-sofa"]}).write_parquet(tmp_path / "pairs.parquet")
    monkeypatch.chdir(tmp_path)
    commands = readme_commands()
    assert [command[0] for command in commands] == ["init", "validate", "run", "score", "score", "doctor"]
    told = [pertinent(*commands[0])]
    # The fourth line, an editor: the small run's sections, for the guessed ones name a teacher of 118M parameters.
    config = tmp_path / "shop" / "pertinent.yaml"
    guessed = yaml.safe_load(config.read_text(encoding="utf-8"))
    sections = {key: settings()[key] for key in ("text", "teacher", "labels", "student", "evaluation")}
    config.write_text(yaml.safe_dump(guessed | sections), encoding="utf-8")
    told += [pertinent(*command) for command in commands[1:]]
    assert told[1]["ok"] is True
    assert told[2]["report"] == "runs/shop/report.html"
    assert (tmp_path / "runs" / "shop" / "report.html").stat().st_size > 10_000
    assert told[2]["metrics"]["n_grades"] == 3
    assert len(told[3]) == 10
    assert told[4] == {"scores": "pairs.scores.parquet", "pairs": 1, "unknown_items": 0}
    assert told[5]["commands"]


def test_a_finished_run_is_told_again_as_json_and_as_a_table(pertinent: Command, finished_run: Any) -> None:
    outcome = pertinent("run", finished_run.config)
    assert outcome["metrics"] == orjson.loads((finished_run.folder / "evaluation" / "metrics.json").read_bytes())
    assert list(outcome["stages"]) == ["data", "text", "teacher", "labels", "student", "evaluation"]


def test_score_of_a_query_shows_the_best_items_with_titles(pertinent: Command, finished_run: Any) -> None:
    rows = pertinent("score", finished_run.folder, "--query", "red sofa", "--top", "5")
    scorer = open_bundle(finished_run.folder)
    every = scorer.score_pairs(pl.DataFrame({"item_id": list(scorer.row_of)}).with_columns(query=pl.lit("red sofa")))
    assert [row["relevance"] for row in rows] == every["relevance"].sort(descending=True).head(5).to_list()
    colours_and_things = [row["item_id"].split("-")[::2] for row in rows]
    assert [row["title"] for row in rows] == [" ".join(words) for words in colours_and_things]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("pairs.a.parquet", "pairs.a.scores.parquet"),
        ("pairs.b.jsonl", "pairs.b.scores.parquet"),
        ("pairs.csv", "pairs.scores.parquet"),
        ("pairs.csv.gz", "pairs.scores.parquet"),
    ],
)
def test_score_of_pairs_writes_beside_them_what_the_bundle_says(
    pertinent: Command, finished_run: Any, tmp_path: Path, name: str, written: str
) -> None:
    pairs = pl.DataFrame({"query": ["red sofa"] * 2, "item_id": ["red-oak-sofa", "nowhere"], "note": ["a", "b"]})
    file = tmp_path / name
    if ".jsonl" in name:
        pairs.write_ndjson(file)
    elif ".csv" in name:
        pairs.write_csv(file, compression="gzip" if name.endswith(".gz") else "uncompressed")
    else:
        pairs.write_parquet(file)
    told = pertinent("score", finished_run.folder, file)
    assert told == {"scores": str(tmp_path / written), "pairs": 2, "unknown_items": 1}
    scored = pl.read_parquet(tmp_path / written)
    assert scored["note"].to_list() == ["a", "b"]
    expected = open_bundle(finished_run.folder).score_pairs(pairs)
    assert scored["relevance"].to_list() == expected["relevance"].to_list()
    assert scored["relevance"][1] is None


def test_numbers_as_item_ids_are_read_as_text(pertinent: Command, finished_run: Any, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"query": "red sofa", "item_id": 12}\n{"query": "red sofa", "item_id": "red-oak-sofa"}\n')
    assert pertinent("score", finished_run.folder, file)["unknown_items"] == 1


def test_report_writes_the_page_where_it_is_told(pertinent: Command, finished_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert pertinent("report", finished_run.folder, "--out", out) == {"report": str(out)}
    assert "Relevance report" in out.read_text(encoding="utf-8")


def test_evaluate_gives_the_student_of_the_run_its_own_figures(
    pertinent: Command, finished_run: Any, tmp_path: Path
) -> None:
    scores = pl.read_parquet(finished_run.folder / "evaluation" / "scores.parquet").filter(pl.col("split") == "test")
    probabilities = [pl.col(f"student.p_{k}").alias(f"p_{k}") for k in range(1, 6)]
    scores.select("query", "item_id", *probabilities).write_parquet(tmp_path / "mine.parquet")
    told = pertinent("evaluate", tmp_path / "mine.parquet", finished_run.folder, "--resamples", "50")
    own = finished_run.outcome["metrics"]
    assert told["systems"]["scores"] == pytest.approx(own["systems"]["student"])
    assert told["intervals"]["scores"]["auroc_4+"] == pytest.approx(own["intervals"]["student"]["auroc_4+"])


def test_import_makes_a_folder_that_validates(pertinent: Command, tmp_path: Path) -> None:
    source, out = tmp_path / "esci", tmp_path / "out"
    source.mkdir()
    numbers = {"price": 1.0, "rating": 4.0, "rating_count": 3, "is_book": False}
    texts = ("title", "description", "bullet_points", "brand", "color", "category", "image")
    items = [{"asin": f"a{k}", **{text: f"{text} {k}" for text in texts}, **numbers} for k in range(6)]
    labels = ("I", "C", "S", "E")
    judgments = [
        {"query": f"query {q}", "asin": f"a{(q + k) % 6}", "label": labels[k]} for q in range(40) for k in range(4)
    ]
    for name, rows in (("ubi_ecommerce_products.json", items), ("judgments.jsonl", judgments)):
        (source / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    told = pertinent("import", "esci", source, out)
    assert told["counts"]["judgments"] == 160
    config = tmp_path / "esci.yaml"
    config.write_text(yaml.safe_dump({"name": "esci", "data": {"path": str(out)}}), encoding="utf-8")
    assert pertinent("validate", config)["ok"] is True


def test_links_and_caption_work_on_a_finished_run(pertinent: Command, finished_run: Any, tmp_path: Path) -> None:
    for item in ("red-oak-sofa", "blue-oak-rug"):
        (tmp_path / f"{item}.html").write_text(f"<title>The {item}</title>")
    (tmp_path / "links.yaml").write_text("pages: {folder: .}")
    told = pertinent("links", tmp_path / "links.yaml", finished_run.folder, "--out", tmp_path / "links")
    assert told["counts"]["items_with_link_text"] == 2
    fields = pl.read_parquet(Path(told["folder"]) / "fields.parquet")
    assert fields["link_title"].to_list() == ["The blue-oak-rug", "The red-oak-sofa"]
    # No call is made, for the only image is not there.
    (tmp_path / "photos.csv").write_text("item_id,image\nred-oak-sofa,nowhere.png\n")
    (tmp_path / "captions.yaml").write_text(
        yaml.safe_dump(
            {
                "endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "none"},
                "images": {"table": "photos.csv", "folder": "."},
                "cache": str(tmp_path / "cache"),
            }
        )
    )
    told = pertinent("caption", tmp_path / "captions.yaml", finished_run.folder, "--out", tmp_path / "captions")
    assert told["counts"]["images"] == 1
    assert told["quarantined"] == {"image must be a readable file": 1}
    assert pl.read_parquet(tmp_path / "captions" / "fields.parquet").height == 0


# As `pertinent run` at work on its first stage, for as long as it is let.
SLOW_RUN = """
import sys, time
from pertinent import pipeline
from pertinent.cli import main

def run_pipeline(config, until):
    print("at work", flush=True)
    time.sleep(600)

pipeline.load_run_config = lambda *arguments: None
pipeline.run_pipeline = run_pipeline
sys.argv = ["pertinent", "run", "x.yaml"]
main()
"""


def test_control_c_ends_a_run_with_one_line_and_its_exit_code() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "pertinent: stopped; the same command continues from here"


def test_control_c_in_another_command_promises_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pertinent.bundle.open_bundle", interrupted)
    monkeypatch.setattr(sys, "argv", ["pertinent", "score", "runs/x", "--query", "sofa"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err.strip() == "pertinent: stopped"


# The data stage needs no training stack; where the teacher needs it, it is not there.
WITHOUT_TORCH = """
import sys
sys.modules |= {"torch": None, "accelerate": None}
sys.argv = ["pertinent", "run", sys.argv[1]]
from pertinent.cli import main
main()
"""


def test_without_the_training_stack_a_run_says_what_to_install(small_run: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(small_run)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert process.returncode == 2, process.stderr
    expected = "run: expected the training stack, found no torch, accelerate: pip install 'pertinent[train]'"
    assert process.stderr.splitlines()[-1] == f"pertinent: {expected}"
    assert "Traceback" not in process.stderr
