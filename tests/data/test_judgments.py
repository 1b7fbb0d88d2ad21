from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pertinent.data.config import DataConfig
from pertinent.data.folder import read_folder
from pertinent.data.items import clean_items
from pertinent.data.judgments import JUDGMENTS_SCHEMA, clean_judgments, grade_lookup
from pertinent.data.splits import query_id_of, split_of

Cleaned = tuple[list[dict[str, object]], list[tuple[int, str]], dict[str, int]]


def clean(tmp_path: Path, text: str, **settings: object) -> Cleaned:
    (tmp_path / "items.csv").write_text("item_id\na\nb\nc\n")
    (tmp_path / "judgments.csv").write_text(text)
    config = DataConfig.model_validate({"path": tmp_path, **settings})
    source = read_folder(tmp_path, config)
    items, _, _ = clean_items(source)
    frame, quarantine, counts = clean_judgments(source, items["item_id"], config.split)
    assert frame.schema == JUDGMENTS_SCHEMA
    return frame.to_dicts(), quarantine.select("line", "reason").rows(), counts


def test_a_row_becomes_a_judgment_keyed_and_split_by_its_query(tmp_path: Path) -> None:
    rows, quarantine, _ = clean(tmp_path, "query,item_id,grade,language\n Rain Shower ,a,3,EN\n")
    assert rows == [
        {
            "query_id": query_id_of("rain shower"),
            "query": "Rain Shower",
            "item_id": "a",
            "grade": 3,
            "grade_mean": 3.0,
            "n_ratings": 1,
            "grade_counts": None,
            "language": "en",
            "split": split_of("rain shower"),
        }
    ]
    assert quarantine == []


def test_each_broken_row_is_quarantined_with_its_line_and_reason(tmp_path: Path) -> None:
    text = "query,item_id,grade\nq,a,1\n  ,a,1\nq,,1\nq,b,9\nq,b,\nq,z,1\nq,c,good\n"
    rows, quarantine, _ = clean(tmp_path, text, judgments={"grades": [1, 2, 3, 4]})
    assert [row["item_id"] for row in rows] == ["a"]
    assert quarantine == [
        (3, "query must not be empty"),
        (4, "item_id must not be empty"),
        (5, "grade must be one of 1, 2, 3, 4, got 9"),
        (6, "grade must be one of 1, 2, 3, 4, got nothing"),
        (7, "item_id must name a known item, got z"),
        (8, "grade must be one of 1, 2, 3, 4, got good"),
    ]


@pytest.mark.parametrize(
    ("grades", "written", "stored"),
    [
        (["I", "C", "S", "E"], "S", 2),
        ([1, 2, 3, 4], "3.0", 2),
        ([1, 2, 3, 4], " 04 ", 3),
        ([0.0, 0.5, 1.0], ".5", 1),
        ([False, True], "Yes", 1),  # YAML reads a bare no/yes as truth values
        (["not relevant", "relevant"], "not relevant", 0),
    ],
)
def test_the_files_own_grades_become_stored_ones(
    tmp_path: Path, grades: list[object], written: str, stored: int
) -> None:
    rows, _, _ = clean(tmp_path, f"query,item_id,grade\nq,a,{written}\n", judgments={"grades": grades})
    assert rows[0]["grade"] == stored


def test_grade_lookup_gives_every_written_form() -> None:
    assert grade_lookup((1, "x")) == {"1.0": 0, "x": 1}


def test_a_repeated_judgment_is_dropped_and_counted(tmp_path: Path) -> None:
    rows, _, counts = clean(tmp_path, "query,item_id,grade\nRed Shoe,a,4\nred  shoe,a,4\nred shoe,b,4\n")
    assert [(row["query"], row["item_id"], row["n_ratings"]) for row in rows] == [
        ("Red Shoe", "a", 1),
        ("Red Shoe", "b", 1),
    ]
    assert counts["duplicate_judgments"] == 1
    assert counts["conflicting_pairs"] == 0


@pytest.mark.parametrize(
    ("grades", "grade", "mean"),
    [((0, 1), 0, 0.5), ((3, 4), 3, 3.5), ((1, 4), 2, 2.5), ((0, 1, 4), 2, 5 / 3), ((1, 2, 4), 2, 7 / 3)],
)
def test_conflicting_grades_count_as_ratings_and_a_half_goes_down(
    tmp_path: Path, grades: tuple[int, ...], grade: int, mean: float
) -> None:
    text = "query,item_id,grade\n" + "".join(f"q,a,{g}\n" for g in grades)
    rows, _, counts = clean(tmp_path, text)
    assert rows[0]["grade"] == grade
    assert rows[0]["grade_mean"] == pytest.approx(mean, abs=1e-6)
    assert rows[0]["n_ratings"] == len(grades)
    assert counts["conflicting_pairs"] == 1


def test_each_rater_has_one_rating_and_the_last_one_counts(tmp_path: Path) -> None:
    # r1 says 0 and then 4, r2 4, r3 3: the mean of 4, 4, 3 is 11/3.
    text = "query,item_id,grade,rater_id\nq,a,0,r1\nq,a,4,r2\nq,a,3,r3\nq,a,4,r1\n"
    rows, _, counts = clean(tmp_path, text)
    assert (rows[0]["grade"], rows[0]["n_ratings"]) == (4, 3)
    assert rows[0]["grade_mean"] == pytest.approx(11 / 3, abs=1e-6)
    assert rows[0]["grade_counts"] == [0, 0, 0, 1, 2]
    assert counts["replaced_ratings"] == 1
    assert counts["duplicate_judgments"] == counts["conflicting_pairs"] == 0


def test_a_mean_rating_of_the_file_is_kept_beside_its_grade(tmp_path: Path) -> None:
    rows, quarantine, _ = clean(
        tmp_path, "query,item_id,grade,grade_mean,n_ratings\nq,a,3,2.5,3\nq,b,3,,\nq,c,3,4.5,3\n"
    )
    assert [(row["grade"], row["grade_mean"], row["n_ratings"]) for row in rows] == [(3, 2.5, 3), (3, 3.0, 1)]
    assert [row["grade_counts"] for row in rows] == [None, None]
    assert quarantine == [(4, "grade_mean must be a number from 0 to 4, got 4.5")]


def test_the_users_query_id_is_kept_and_may_stand_for_one_query_only(tmp_path: Path) -> None:
    text = "query_id,query,item_id,grade\n7,red shoe,a,1\n7,Red  Shoe,b,1\n7,blue shoe,a,1\n,blue shoe,c,1\n"
    rows, quarantine, _ = clean(tmp_path, text)
    assert [(row["query_id"], row["query"], row["item_id"]) for row in rows] == [
        ("7", "red shoe", "a"),
        ("7", "red shoe", "b"),
        (query_id_of("blue shoe"), "blue shoe", "c"),
    ]
    assert quarantine == [(4, "query_id must stand for one query, got 7 for red shoe and blue shoe")]


def test_a_query_under_two_ids_is_one_query(tmp_path: Path) -> None:
    text = (
        "query_id,query,item_id,grade\n,Red Shoe,c,0\n7,red shoe,a,1\n8,red  shoe,a,1\n9,red shoe,b,1\n8,blue shoe,a,1\n"
        "9,red shoe,b,3\n5,hat,a,2\n"
    )
    rows, quarantine, counts = clean(tmp_path, text)
    assert [(row["query_id"], row["query"], row["item_id"], row["grade"]) for row in rows] == [
        ("5", "hat", "a", 2),
        ("7", "Red Shoe", "a", 1),
        ("7", "Red Shoe", "b", 2),
        ("7", "Red Shoe", "c", 0),
    ]
    assert quarantine == [(6, "query_id must stand for one query, got 8 for red shoe and blue shoe")]
    assert counts["queries_with_several_ids"] == 1
    assert counts["duplicate_judgments"] == counts["conflicting_pairs"] == 1


def test_an_own_split_without_dev_gives_training_queries_to_it_by_hash(tmp_path: Path) -> None:
    rows = "".join(f"q {k},{'abc'[k % 3]},1,{'test' if k % 4 == 0 else 'train'}\n" for k in range(60))
    found, _, counts = clean(tmp_path, "query,item_id,grade,split\n" + rows)
    own = {f"q {k}": "test" if k % 4 == 0 else "dev" if split_of(f"q {k}") == "dev" else "train" for k in range(60)}
    assert {row["query"]: row["split"] for row in found} == own
    assert counts["dev_from_train"] == list(own.values()).count("dev") > 0
    _, _, counts = clean(tmp_path, "query,item_id,grade,split\nhat,a,1,dev\n" + rows)
    assert counts["dev_from_train"] == 0


def test_the_data_sets_own_split_goes_first_and_no_query_is_in_two(tmp_path: Path) -> None:
    text = "query,item_id,grade,split\nx,a,1,test\ny,a,1,validation\nz,a,1,train\nZ,b,1,dev\nw,a,1,\nv,a,1,fold7\n"
    rows, quarantine, counts = clean(tmp_path, text)
    assert {(row["query"], row["item_id"]): row["split"] for row in rows} == {
        ("x", "a"): "test",
        ("y", "a"): "dev",
        ("z", "a"): "dev",
        ("z", "b"): "dev",
        ("w", "a"): split_of("w"),
    }
    assert counts["queries_with_several_splits"] == 1
    assert quarantine == [(7, "split must be one of train, dev, test, got fold7")]


def test_rows_are_sorted_and_each_pair_stands_once(tmp_path: Path) -> None:
    text = "query,item_id,grade\n" + "".join(f"q{k % 7},{'cab'[k % 3]},{k % 5}\n" for k in range(60))
    rows, _, _ = clean(tmp_path, text)
    keys = [(row["query_id"], row["item_id"]) for row in rows]
    assert keys == sorted(set(keys))
    assert len(keys) == 21


def test_reordering_the_rows_changes_no_grade(tmp_path: Path) -> None:
    lines = [f"q{k % 7},{'cab'[k % 3]},{(k * k) % 5}" for k in range(60)]
    first, _, _ = clean(tmp_path, "query,item_id,grade\n" + "\n".join(lines))
    second, _, _ = clean(tmp_path, "query,item_id,grade\n" + "\n".join(reversed(lines)))
    assert first == second


def test_all_broken_gives_an_empty_table_of_the_same_schema(tmp_path: Path) -> None:
    for column, value in (("language", "en"), ("split", "train"), ("query_id", "7")):
        rows, quarantine, _ = clean(tmp_path, f"query,item_id,grade,{column}\nq,z,1,{value}\nq,y,1,{value}\n")
        assert rows == []
        assert len(quarantine) == 2


def test_a_single_language_of_the_data_set_fills_the_rows_without_one(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("languages: [EN]\n")
    rows, _, _ = clean(tmp_path, "query,item_id,grade,language\nq,a,1,\nq,b,1,DE\n")
    assert [row["language"] for row in rows] == ["en", "de"]


def test_typed_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    frame = pl.DataFrame({"query": ["q", "q"], "item_id": ["a", "b"], "grade": [3.0, 4.0]})
    (tmp_path / "items.csv").write_text("item_id\na\nb\n")
    frame.write_parquet(tmp_path / "judgments.parquet")
    config = DataConfig(path=tmp_path)
    source = read_folder(tmp_path, config)
    judgments, _, _ = clean_judgments(source, pl.Series(["a", "b"]), config.split)
    assert judgments["grade"].to_list() == [3, 4]
