from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.config import parse_config
from pertinent.data.config import DataConfig
from pertinent.data.languages import Detector
from pertinent.errors import ConfigError

SENTENCES = {
    "en": "A large sofa of red velvet for the living room",
    "de": "Ein großes Sofa aus rotem Samt für das Wohnzimmer",
    "fr": "Un grand canapé en velours rouge pour le salon",
    "es": "Un sofá grande de terciopelo rojo para el salón",
    "ja": "リビングルームのための大きな赤いソファ",
    "zh": "客厅用的大型红色天鹅绒沙发",
    "ar": "أريكة كبيرة من المخمل الأحمر لغرفة المعيشة",
    "ru": "Большой диван из красного бархата для гостиной",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_known_among_all_languages(language: str) -> None:
    found, confidence = Detector(min_confidence=0.55).answer(SENTENCES[language])
    assert found == language
    assert 0.55 <= confidence <= 1


@pytest.mark.parametrize("text", ["", "12 x 24", "!!", "👍"])
def test_a_text_without_letters_is_undetermined(text: str) -> None:
    assert Detector().answer(text)[0] == "und"


def test_an_unsure_answer_is_undetermined_and_told_languages_make_it_surer() -> None:
    sure = Detector(("en", "ja"), 0.55).answer("sofa")
    assert sure[0] == "en"
    unsure = Detector(("en", "de", "es", "fr", "it", "pt", "nl"), 0.55).answer("sofa")
    assert unsure[0] == "und"
    assert 0 < unsure[1] < 0.55 < sure[1]


def folder_of(tmp_path: Path, judgments: list[dict[str, Any]], log: list[dict[str, Any]]) -> Path:
    items = [{"item_id": f"i{k}", "title": text} for k, text in enumerate(SENTENCES.values())]
    items[0] |= {"language": "xx"}
    for name, rows in (("items", items), ("judgments", judgments), ("log", log)):
        pl.DataFrame(rows).write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [
        {"query": f"{text} {n}", "item_id": f"i{(n + k) % 8}", "grade": k, "language": "yy" if n == 3 else None}
        for n in range(12)
        for text in SENTENCES.values()
        for k in range(2)
    ]
    seen = [
        {"query": row["query"], "item_id": "i1", "action": "click", "position": 1, "timestamp": "2026-01-01T00:00:00Z"}
        for row in rows[:40]
    ]
    return folder_of(folder, rows, seen)


def test_what_is_not_given_is_detected_and_one_query_has_one_language(source: Path, build: Any) -> None:
    languages = list(SENTENCES)
    dataset, _, _ = build(source, languages=languages, detect={})
    judgments = dataset.judgments.with_columns(sentence=pl.col("query").str.replace(r" \d+$", ""))
    due = {text: language for language, text in SENTENCES.items()}
    for row in judgments.to_dicts():
        if row["query"].endswith(" 3"):
            assert (row["language"], row["language_confidence"]) == ("yy", None)  # given: kept
        else:
            assert row["language"] == due[row["sentence"]]
            assert row["language_confidence"] >= 0.55
    assert dataset.items["language"].to_list() == ["xx", *languages[1:]]
    assert dataset.items["language_confidence"].is_null().to_list() == [True, *[False] * 7]
    log = dataset.log.collect()
    of_query = dict(judgments.select("query", "language").unique().iter_rows())
    again = [row for row in log.to_dicts() if not row["query"].endswith(" 3")]
    assert again
    assert all(row["language"] == of_query[row["query"]] for row in again)


def test_a_single_language_or_no_section_leaves_nothing_to_detect(source: Path, build: Any) -> None:
    single, _, _ = build(source, languages=["en"], detect={})
    assert set(single.judgments["language"]) == {"en", "yy"}
    assert "language_confidence" not in single.judgments.columns
    off, _, _ = build(source)
    assert set(off.judgments["language"]) == {None, "yy"}


def test_nothing_declared_leaves_all_languages_and_und_is_none_of_the_set(source: Path, build: Any) -> None:
    dataset, _, _ = build(source, detect={"min_confidence": 1.0})
    assert "und" in set(dataset.judgments["language"])
    assert "und" not in dataset.languages


def test_a_language_that_cannot_be_detected_is_a_config_error(source: Path, build: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.languages: expected languages .* found klingon; switch data\.detect off"
    ):
        build(source, languages=["en", "klingon"], detect={})
    with pytest.raises(ConfigError, match=r"min_confidence"):
        parse_config(DataConfig, {"path": ".", "detect": {"min_confidence": 2}}, "x")
