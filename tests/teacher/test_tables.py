from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.errors import DataError
from pertinent.teacher import tables
from pertinent.teacher.model import Teacher
from pertinent.teacher.saving import Trained, load_teacher, save_teacher
from pertinent.teacher.tables import score_table

QUERIES = ["red sofa", "oak", "red sofa", ""]
TEXTS = ["title: red velvet sofa", "title: oak table", "title: red velvet sofa", "rug"]


@pytest.fixture(scope="module")
def teacher(untrained: Callable[..., Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(untrained(), folder, "")
    return folder


def written(folder: Path, **columns: list[str | None]) -> Path:
    pl.DataFrame(columns).write_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def test_a_table_keeps_its_rows_and_gains_probabilities_and_expected_gain(teacher: Path, tmp_path: Path) -> None:
    pairs = written(tmp_path, note=["a", "b", "c", "d"], query=QUERIES, text=TEXTS)
    counts = score_table(teacher, pairs, tmp_path / "scores.parquet")
    found = pl.read_parquet(tmp_path / "scores.parquet")
    assert found.columns == ["note", "query", "text", "p_1", "p_2", "p_3", "expected_gain"]
    assert found["note"].to_list() == ["a", "b", "c", "d"]
    opened = load_teacher(teacher)
    probs = found.select("p_1", "p_2", "p_3").to_numpy()
    assert probs == pytest.approx(opened.score(QUERIES, TEXTS), abs=1e-6)
    # Gains 2^grade - 1 of grades 0, 1, 2 are 0, 1, 3.
    assert found["expected_gain"].to_numpy() == pytest.approx(probs[:, 1] + 3 * probs[:, 2], abs=1e-6)
    assert (counts["pairs"], counts["distinct_pairs"], counts["teacher"]) == (4, 3, opened.teacher_id)


def test_items_are_read_from_the_text_stage_or_the_run_it_is_in(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "text").mkdir(parents=True)
    items = pl.DataFrame({"item_id": ["i0", "i1"], "text": TEXTS[:2]})
    items.write_parquet(tmp_path / "run" / "text" / "items.parquet")
    pairs = written(tmp_path, query=QUERIES[:2], item_id=["i1", "i0"])
    expected = load_teacher(teacher).score(QUERIES[:2], TEXTS[1::-1])
    for folder in (tmp_path / "run", tmp_path / "run" / "text"):
        score_table(teacher, pairs, tmp_path / "scores.parquet", text=folder)
        found = pl.read_parquet(tmp_path / "scores.parquet").select("p_1", "p_2", "p_3").to_numpy()
        assert np.abs(found - expected).max() < 1e-6
    pairs = written(tmp_path, query=["oak"], item_id=["i7"])
    with pytest.raises(DataError, match=r"expected items of .*items\.parquet, found i7"):
        score_table(teacher, pairs, tmp_path / "scores.parquet", text=tmp_path / "run")


def test_a_missing_value_is_told_with_its_row(teacher: Path, tmp_path: Path) -> None:
    for column in ("query", "text"):
        values: dict[str, list[str | None]] = {
            "query": ["a", "b", "c"],
            "text": ["a", "b", "c"],
            column: ["a", "b", None],
        }
        with pytest.raises(DataError, match=rf"pairs\.parquet: expected a {column} in every row, found none in row 3"):
            score_table(teacher, written(tmp_path, **values), tmp_path / "scores.parquet")


def test_pairs_that_are_cut_are_counted(teacher: Path, tmp_path: Path) -> None:
    pairs = written(tmp_path, query=["oak"] * 3, text=["oak", "easy " * 100, "easy " * 100])
    counts = score_table(teacher, pairs, tmp_path / "scores.parquet")
    assert (counts["distinct_pairs"], counts["pairs_cut"]) == (2, 1)


def test_a_run_that_was_cut_off_goes_on_after_its_last_block(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_PAIRS", 2)
    pairs, out = written(tmp_path, query=[f"oak {k}" for k in range(5)], text=["rug"] * 5), tmp_path / "s.parquet"
    score_table(teacher, pairs, tmp_path / "whole.parquet")
    scored: list[int] = []
    score = Teacher.score_counted

    def cut_off(self: Teacher, queries: list[str], *rest: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(len(queries))
        return score(self, queries, *rest)

    monkeypatch.setattr(Teacher, "score_counted", cut_off)
    with pytest.raises(KeyboardInterrupt):
        score_table(teacher, pairs, out)
    assert not out.exists()
    scored.clear()
    score_table(teacher, pairs, out)
    assert scored == [1]
    assert "continuing after 4 of 5 distinct pairs" in capsys.readouterr().err
    assert pl.read_parquet(out).equals(pl.read_parquet(tmp_path / "whole.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.parquet", "s.parquet", "whole.parquet"]


def test_blocks_of_other_pairs_are_not_taken(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "s.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_parquet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score_table(teacher, written(tmp_path, query=["red"], text=["rug"]), out)
    score_table(teacher, written(tmp_path, query=["oak"], text=["sofa"]), out)
    found = pl.read_parquet(out).select("p_1", "p_2", "p_3").to_numpy()
    assert found == pytest.approx(load_teacher(teacher).score(["oak"], ["sofa"]), abs=1e-6)


def test_a_table_that_cannot_be_scored_is_a_data_error(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="expected the columns query and text, or query and item_id with --text; found q"
    ):
        score_table(teacher, written(tmp_path, q=["oak"]), tmp_path / "scores.parquet")
    empty = tmp_path / "empty.parquet"
    pl.DataFrame(schema={"query": pl.String, "text": pl.String}).write_parquet(empty)
    with pytest.raises(DataError, match="expected pairs to score, found none"):
        score_table(teacher, empty, tmp_path / "scores.parquet")
    with pytest.raises(DataError, match=r"scores\.parquet: cannot be written"):
        score_table(teacher, written(tmp_path, query=["oak"], text=["rug"]), tmp_path / "absent" / "scores.parquet")
