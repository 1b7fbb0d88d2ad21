from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from pertinent.data.config import DataConfig
from pertinent.data.splits import split_of
from pertinent.data.validate import validate_dataset
from pertinent.errors import DataError


def test_the_report_counts_everything_and_writes_nothing(write) -> None:
    folder: Path = write(extra=["q 1,i1,9", "q 1,i2,8", "q 1,zz,1"])
    before = sorted(folder.parent.rglob("*"))
    report = validate_dataset(DataConfig(path=folder, languages=["en"]))
    assert sorted(folder.parent.rglob("*")) == before
    assert report.ok
    assert report.counts["judgments"] == 240
    assert report.quarantine["grade must be one of 0, 1, 2, 3, 4"] == {
        "rows": 2,
        "examples": [
            "judgments.csv:242: grade must be one of 0, 1, 2, 3, 4, got 9",
            "judgments.csv:243: grade must be one of 0, 1, 2, 3, 4, got 8",
        ],
    }
    assert report.languages == {"en": {"judgments": 240, "queries": 60}}
    assert report.fill_rates == {"item_id": 1.0, "title": 1.0, "language": 1.0}
    assert orjson.loads(orjson.dumps(report.to_dict()))["ok"] is True


def test_every_problem_is_listed_not_only_the_first(write) -> None:
    judgments = "query,item_id,grade\n" + "q 0,i1,1\n" * 2 + "q 0,i1,9\n"
    report = validate_dataset(DataConfig(path=write(judgments=judgments)))
    assert not report.ok
    assert [problem.split(";")[0].split(" to fall")[0] for problem in report.problems] == [
        "judgments.csv:4: grade must be one of 0, 1, 2, 3, 4, got 9",
        "judgments.csv: no judgments in split dev: expected at least one of the 1 queries",
        "judgments.csv: no judgments in split test: expected at least one of the 1 queries",
        "judgments.csv: expected at least two different grades in train, found only L2",
    ]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_split_with_a_single_grade_is_told_before_any_training(write, split: str) -> None:
    rows = [f"q {q},i{k},{2 if split_of(f'q {q}') == split else (q + k) % 5}" for q in range(60) for k in range(4)]
    report = validate_dataset(DataConfig(path=write(judgments="\n".join(["query,item_id,grade", *rows]))))
    assert report.problems == [f"judgments.csv: expected at least two different grades in {split}, found only L3"]


@pytest.mark.parametrize("empty", ["train", "dev", "test"])
def test_a_split_without_judgments_is_told_before_any_training(write, empty: str) -> None:
    rows = [f"q {q},i{k},{(q + k) % 5}" for q in range(60) for k in range(4) if split_of(f"q {q}") != empty]
    report = validate_dataset(DataConfig(path=write(judgments="\n".join(["query,item_id,grade", *rows]))))
    assert [problem.split(":")[1] for problem in report.problems] == [f" no judgments in split {empty}"]


def test_what_cannot_be_read_at_all_is_raised(write) -> None:
    with pytest.raises(DataError, match="empty file"):
        validate_dataset(DataConfig(path=write(items="")))
