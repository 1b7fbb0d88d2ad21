from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.data.trec import read_qrels, read_trec_run, write_qrels, write_trec_run
from pertinent.errors import DataError

QRELS = pl.DataFrame({"query_id": ["q1", "q1", "q2"], "item_id": ["a", "b", "a"], "grade": [4, 0, 2]})


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_qrels_of_any_white_space_are_read(tmp_path: Path) -> None:
    found = read_qrels(write(tmp_path / "qrels", "q1 0 a 4\n\n  q1\t0\tb   0\r\nq2 Q0 a -2\n"))
    assert found.rows() == [("q1", "a", 4), ("q1", "b", 0), ("q2", "a", -2)]


def test_runs_are_read_in_their_order_whatever_their_ranks(tmp_path: Path) -> None:
    text = "q1 Q0 a 7 1.5 my tag\nq1 Q0 b 1 -2e-3 t\nq1 Q0 c 0 .5 t\nq2 Q0 ü/1 1 3 t\nq2 Q0 x 1 NaN t\n"
    found = read_trec_run(write(tmp_path / "run.txt", text))
    assert found["item_id"].to_list() == ["a", "b", "c", "ü/1", "x"]
    assert found["score"].to_list()[:4] == [1.5, -0.002, 0.5, 3.0]
    assert np.isnan(found["score"][4])  # told by what measures it, with its query and item


def test_what_is_written_is_read_again_to_the_last_digit(tmp_path: Path) -> None:
    write_qrels(QRELS, tmp_path / "new" / "qrels.txt")
    assert read_qrels(tmp_path / "new" / "qrels.txt").equals(QRELS)
    scores = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    run = pl.DataFrame({"query_id": ["q"] * 50, "item_id": [f"i{k:02d}" for k in range(50)], "score": scores})
    write_trec_run(run, tmp_path / "x.run", "tag")
    assert read_trec_run(tmp_path / "x.run").sort("item_id").equals(run)


def test_ranks_are_by_score_and_equal_ones_by_item(tmp_path: Path) -> None:
    run = pl.DataFrame(
        {"query_id": ["b", "a", "a", "a"], "item_id": ["x", "z", "y", "w"], "score": [1.0, 2.0, 2.0, 3.0]}
    )
    write_trec_run(run, tmp_path / "x.run", "t")
    expected = "a Q0 w 1 3.0 t\na Q0 y 2 2.0 t\na Q0 z 3 2.0 t\nb Q0 x 1 1.0 t\n"
    assert (tmp_path / "x.run").read_text() == expected


def test_ir_measures_reads_what_is_written(tmp_path: Path) -> None:
    import ir_measures

    write_qrels(QRELS, tmp_path / "qrels.txt")
    write_trec_run(QRELS.with_columns(score=pl.col("grade") * 0.5), tmp_path / "x.run", "t")
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "x.run")))
    assert [(q.query_id, q.doc_id, q.relevance) for q in qrels] == QRELS.rows()
    assert {(r.query_id, r.doc_id): r.score for r in run} == {("q1", "a"): 2.0, ("q1", "b"): 0.0, ("q2", "a"): 1.0}


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (
            read_qrels,
            "q1 0 a 4\nq1 0 a\n",
            r"qrels:2: expected QUERY 0 ITEM GRADE, the grade a whole number, got 'q1 0 a'",
        ),
        (read_qrels, "q1 0 a 1.5\n", "qrels:1: expected QUERY 0 ITEM GRADE"),
        (read_qrels, "q1 0 a 4\n\nq1 0 a 3\n", "qrels:3: item a of query q1 is judged twice, first on line 1"),
        (read_qrels, " \n", "qrels: empty file"),
        (read_trec_run, "q1 0 a 4\n", "qrels:1: expected QUERY Q0 ITEM RANK SCORE TAG"),
        (read_trec_run, "q1 Q0 a 1 high t\n", "qrels:1: expected QUERY Q0 ITEM RANK SCORE TAG, rank and score numbers"),
        (
            read_trec_run,
            "q Q0 a 1 1 t\nq Q0 a 2 1 t\n",
            "qrels:2: item a of query q is retrieved twice, first on line 1",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, reader, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        reader(write(tmp_path / "qrels", text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file"):
        read_qrels(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: write_qrels(QRELS.with_columns(item_id=pl.lit("a b")), f),
            "item_id must not be empty or hold a space",
        ),
        (lambda f: write_qrels(QRELS.with_columns(query_id=pl.lit("")), f), "query_id must not be empty"),
        (lambda f: write_trec_run(QRELS.with_columns(score=1.0), f, "a b"), "a tag without spaces, found 'a b'"),
        (lambda f: write_trec_run(QRELS.with_columns(score=float("nan")), f, "t"), "scores must be finite"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, call, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call(tmp_path / "out")
    assert not (tmp_path / "out").exists()
