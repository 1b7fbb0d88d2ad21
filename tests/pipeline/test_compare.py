"""`pertinent teacher compare` on tiny models: one split, one table, resumed; a broken config does not stop the others."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
import yaml

from pertinent.cli import main
from pertinent.errors import ConfigError
from pertinent.evaluation import compare
from pertinent.files import read_json
from pertinent.pipeline import RunConfig, load_run_config
from pertinent.pipeline.compare import compare_teachers
from pertinent.teacher.saving import load_teacher
from pertinent.types import Scale


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> dict[str, Path]:
    """Config files of two teachers on a small data set, and of one whose backbone is nowhere."""
    folder = tmp_path_factory.mktemp("compare")
    write_source(folder / "source")
    backbones = {"bert": str(tiny_folder("bert")), "t5": str(tiny_folder("t5")), "broken": str(folder / "nowhere")}
    made = {}
    for name, backbone in backbones.items():
        teacher = {"backbone": backbone, "max_tokens": 48, "epochs": 1, "learning_rate": 0.003, "precision": "float32"}
        data = {"reader": "folder", "path": str(folder / "source"), "languages": ["en"]}
        text = {"fields": [{"name": "title", "tokens": 12}], "max_tokens": 16}
        sections = {"data": data, "text": text, "teacher": teacher, "evaluation": {"resamples": 50}}
        made[name] = folder / f"{name}.yaml"
        made[name].write_text(yaml.safe_dump({"name": name, "output": str(folder / "runs"), **sections}))
    return made


def write_source(folder: Path) -> None:
    """120 queries of 4 judged items each; the grade counts the words in common."""
    folder.mkdir()
    titles = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("sofa", "lamp", "rug", "table")]
    items = [{"item_id": str(k), "title": title} for k, title in enumerate(titles)]
    queries = [
        f"{title}{rest}"
        for rest in ("", " small", " large", " modern", " oak", " in", " ft", " 12", " 24", " easy")
        for title in titles
    ]
    judged = [
        {"query": query, "item_id": str(k), "grade": 2 * len(set(query.split()) & set(titles[k].split()))}
        for q, query in enumerate(queries)
        for k in ((q + step) % 12 for step in (0, 1, 4, 7))
    ]
    for name, rows in (("items", items), ("judgments", judged)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def configs_of(files: dict[str, Path], *names: str, changes: tuple[str, ...] = ()) -> list[RunConfig]:
    return [load_run_config(files[name], changes) for name in names]


@pytest.fixture(scope="module")
def compared(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("comparison")
    return out, compare_teachers(configs_of(files, "bert", "t5"), out)


def test_both_teachers_are_in_one_table_on_the_same_pairs(
    files: dict[str, Path], compared: tuple[Path, dict[str, Any]]
) -> None:
    out, document = compared
    assert orjson.loads(orjson.dumps(document)) == read_json(out / "comparison.json")
    assert document["system_order"] == ["random", "majority", "bert", "t5"]
    assert (document["reference"], document["failed"]) == ("bert", {})
    assert document["seconds"].keys() == {"bert", "t5"}
    scores = pl.read_parquet(out / "scores.parquet")
    assert set(scores["split"]) == {"dev", "test"}
    for config in configs_of(files, "bert", "t5"):
        texts = dict(pl.read_parquet(config.folder / "text" / "items.parquet").select("item_id", "text").iter_rows())
        teacher = load_teacher(config.folder / "teacher")
        probs = teacher.score(scores["query"].to_list(), [texts[item] for item in scores["item_id"]])
        found = scores.select(f"{config.name}.p_{k}" for k in range(1, 6)).to_numpy()
        assert found == pytest.approx(probs, abs=1e-6)


def test_a_difference_is_that_of_the_two_figures(compared: tuple[Path, dict[str, Any]]) -> None:
    _, document = compared
    systems = document["systems"]
    assert document["differences"].keys() == {"t5"}
    for metric, paired in document["differences"]["t5"].items():
        if paired["difference"] is not None:
            assert paired["difference"] == pytest.approx(systems["t5"][metric] - systems["bert"][metric], abs=1e-6)
            low, high = paired["interval"]
            assert low <= high
    assert np.isfinite(document["differences"]["t5"]["auroc_3+"]["difference"])


def test_finished_teachers_are_taken_as_they_are(
    files: dict[str, Path], compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    made = {name: file.parent / "runs" / name / "teacher" / "manifest.json" for name, file in files.items()}
    before = {name: made[name].read_bytes() for name in ("bert", "t5")}
    again = compare_teachers(configs_of(files, "bert", "t5"), tmp_path)
    assert {name: made[name].read_bytes() for name in before} == before
    assert again["systems"] == compared[1]["systems"]


def test_a_broken_config_is_left_out_and_told_and_the_others_are_measured(
    files: dict[str, Path],
    compared: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first one, which the others would be compared with."""
    named = [str(files[name]) for name in ("broken", "bert", "t5")]
    command = ["pertinent", "teacher", "compare", *named, "--out", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr()
    assert exit_.value.code == 2
    document = orjson.loads(told.out)
    said = f"no folder named {files['broken'].parent / 'nowhere'}"
    assert document["failed"].keys() == {"broken"}
    assert said in document["failed"]["broken"]
    assert "teacher compare: broken: " in told.err.splitlines()[-1]
    assert said in told.err.splitlines()[-1]
    assert document["systems"] == compared[1]["systems"]
    assert document["reference"] == "bert"
    assert "t5 less bert" in told.err


def test_where_no_teacher_can_be_trained_the_first_reason_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no teacher could be trained: broken: teacher\.backbone: no folder named"):
        compare_teachers(configs_of(files, "broken"), tmp_path)


def test_configs_of_one_name_or_of_other_data_are_refused(
    files: dict[str, Path], compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"expected a different name in each config.*found bert, bert"):
        compare_teachers(configs_of(files, "bert", "bert"), tmp_path)
    shutil.copytree(files["t5"].parent / "source", tmp_path / "source")
    with (tmp_path / "source" / "items.jsonl").open("a") as stream:
        stream.write('{"item_id": "another", "title": "rug"}\n')
    other = load_run_config(files["t5"], [f"data.path={tmp_path / 'source'}", "name=other", f"output={tmp_path}"])
    with pytest.raises(ConfigError, match="expected the same data, seed and split, found others in other"):
        compare_teachers([*configs_of(files, "bert"), other], tmp_path / "out")


def test_the_differences_are_those_of_the_paired_tests(compared: tuple[Path, dict[str, Any]]) -> None:
    out, found = compared
    assert found["correction"] == "holm"
    paired = found["differences"]["t5"]["auroc_3+"]
    scores = pl.read_parquet(out / "scores.parquet")
    alone = compare(scores, Scale(), "t5", "bert", "auroc_3+", resamples=50)
    assert paired["difference"] == alone.difference
    assert tuple(paired["interval"]) == alone.interval
    assert paired["p_value"] == alone.p_value == paired["p_adjusted"]
