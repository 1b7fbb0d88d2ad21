"""Pinboard: frozen bytes, an honest grade rule, and the faults of real data in known amounts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from pertinent.data.build import build_dataset, load_dataset
from pertinent.data.config import DataConfig, PinboardConfig
from pertinent.data.pinboard import (
    LANGUAGES,
    Pinboard,
    PinboardSize,
    generate_pinboard,
    make_pinboard,
    write_pinboard,
)
from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.items import SHARE_MISSING
from pertinent.data.pinboard.judging import ONE_STEP_OFF, TWO_STEPS_OFF, rating
from pertinent.data.pinboard.queries import with_typo
from pertinent.data.pinboard.truth import Concept, true_grade
from pertinent.data.pinboard.words import load_catalogue, load_words
from pertinent.data.splits import normalise_query, split_of
from pertinent.errors import DataError

FILES = ("items.jsonl", "judgments.jsonl", "log.jsonl", "dataset.yaml")
# Version 1. A change here is a new version: raise PINBOARD_VERSION and log the reason.
FROZEN = {
    "items.jsonl": "42a0ee8bb02d2adacee481d353a5542aaec2df757c76a522c53308e1fa29efce",
    "judgments.jsonl": "e10d9e88cc0e7df6a500731bbc92d51b64ff874e7a263e8cdb469c321adbfa1f",
    "log.jsonl": "cefc6c9a9d55f262bbe17b936b92d9616ffc1ce380a36e2eb4da0c98c7000c15",
    "dataset.yaml": "92a468b69cc9c99c2aa24f0aca66de9ce9f73506236bb5b1e7ddcfd74f56e304",
}


@pytest.fixture(scope="module")
def board() -> Pinboard:
    return make_pinboard()


@pytest.fixture(scope="module")
def folder(board: Pinboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pinboard")
    write_pinboard(board, out)
    return out


def rows_of(folder: Path, name: str) -> list[dict]:
    return [orjson.loads(line) for line in (folder / name).read_bytes().splitlines()]


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def test_the_default_files_are_frozen(folder: Path) -> None:
    assert digests(folder) == FROZEN


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        generate_pinboard(tmp_path / name, seed, PinboardSize.tiny())
        made.append(digests(tmp_path / name))
    assert made[0] == made[1]
    assert all(made[0][name] != made[2][name] for name in ("items.jsonl", "judgments.jsonl", "log.jsonl"))


def concept(thing: str, **values: str) -> Concept:
    groups = {"sofa": "seats", "armchair": "seats", "desk": "tables", "dress": "dresses"}
    return Concept("fashion" if thing == "dress" else "furniture", groups[thing], thing, values)


RED_BOHO_SOFA = concept("sofa", colour="red", style="boho", material="velvet")


@pytest.mark.parametrize(
    ("asked", "item", "grade"),
    [
        (concept("sofa"), RED_BOHO_SOFA, 4),
        (concept("sofa", colour="red", style="boho"), RED_BOHO_SOFA, 4),
        (concept("sofa", colour="blue", style="boho"), RED_BOHO_SOFA, 3),
        (concept("sofa", colour="blue"), RED_BOHO_SOFA, 3),
        (concept("sofa", colour="blue", style="modern"), RED_BOHO_SOFA, 2),
        (concept("armchair"), RED_BOHO_SOFA, 2),
        (concept("armchair", colour="red", style="boho"), RED_BOHO_SOFA, 2),
        (concept("armchair", colour="red", style="modern"), RED_BOHO_SOFA, 1),
        (concept("desk", colour="red"), RED_BOHO_SOFA, 1),
        (concept("dress", colour="red"), RED_BOHO_SOFA, 0),
    ],
)
def test_true_grade_by_hand(asked: Concept, item: Concept, grade: int) -> None:
    assert true_grade(asked, item) == grade


def test_a_phrase_says_the_values_where_the_language_puts_them() -> None:
    catalogue = load_catalogue()
    values = {"style": "boho", "colour": "red", "material": "velvet"}
    said = {code: load_words(code, catalogue) for code in ("en", "es", "zh", "ja")}
    assert said["en"].phrase("sofa", values) == "boho red velvet sofa"
    assert said["es"].phrase("sofá", values) == "sofá de terciopelo en color rojo estilo boho"
    assert said["zh"].phrase("沙发", values) == "波西米亚风红色丝绒沙发"
    assert said["ja"].phrase("ソファ", values) == "ボヘミアン風の赤色のベルベットのソファ"
    assert said["ja"].query_phrase("ソファ", values) == "ボヘミアン風 赤色 ベルベット ソファ"


def test_every_language_has_every_word_once() -> None:
    catalogue = load_catalogue()
    english = load_words("en", catalogue)
    objects = [name for _, names in catalogue.groups.values() for name in names]
    assert len(objects) == 40
    for code in LANGUAGES:
        words = load_words(code, catalogue)
        assert list(words.objects) == objects
        names = [name for own in words.objects.values() for name in own]
        assert len(set(names)) == len(names)
        for kind in catalogue.kinds:
            assert list(words.values[kind]) == list(english.values[kind])
            assert len(set(words.values[kind].values())) == len(words.values[kind])


def test_human_judgments_are_english_in_train_and_dev_and_in_every_language_in_test(folder: Path) -> None:
    queries = defaultdict(set)
    pairs = defaultdict(set)
    for row in rows_of(folder, "judgments.jsonl"):
        key = (split_of(row["query"]), row["language"])
        queries[key].add(row["query"])
        pairs[key].add((row["query"], row["item_id"]))
    expected = {("train", "en"): 200, ("dev", "en"): 30, **{("test", code): 30 for code in LANGUAGES}}
    assert {key: len(found) for key, found in queries.items()} == expected
    assert {key: len(found) for key, found in pairs.items()} == {key: 16 * n for key, n in expected.items()}


def test_grades_are_mixed_and_other_languages_are_among_the_candidates(board: Pinboard) -> None:
    pins = {pin.item_id: pin for pin in board.pins}
    asked = {query.text: query for query in board.queries}
    pairs = sorted({(row["query"], row["item_id"]) for row in board.judgments})
    for code in LANGUAGES:
        own = [(asked[query], pins[item_id]) for query, item_id in pairs if asked[query].language == code]
        grades = [true_grade(query.asked, pin.concept) for query, pin in own]
        assert all(0.1 < grades.count(grade) / len(grades) < 0.3 for grade in range(5))
        foreign = sum(pin.language != code for _, pin in own) / len(own)
        assert (0.05 if code == "en" else 0.2) < foreign < (0.2 if code == "en" else 0.4)


def test_raters_err_as_often_as_stated(board: Pinboard) -> None:
    pins = {pin.item_id: pin for pin in board.pins}
    asked = {query.text: query.asked for query in board.queries}
    raters = defaultdict(set)
    steps = []
    for row in board.judgments:
        raters[row["query"], row["item_id"]].add(row["rater_id"])
        steps.append(abs(row["grade"] - true_grade(asked[row["query"]], pins[row["item_id"]].concept)))
        assert 0 <= row["grade"] <= 4
    assert {len(found) for found in raters.values()} == {2, 3}
    # 20,000 ratings: four standard errors of a share of .12 are .009.
    assert steps.count(1) / len(steps) == pytest.approx(ONE_STEP_OFF, abs=0.01)
    assert steps.count(2) / len(steps) == pytest.approx(TWO_STEPS_OFF, abs=0.004)
    assert max(steps) == 2


def test_a_rating_stays_on_the_scale() -> None:
    draw = Draw(0, "test")
    ratings = {grade: [rating(draw, grade) for _ in range(500)] for grade in (0, 4)}
    assert set(ratings[0]) == {0, 1, 2}
    assert set(ratings[4]) == {2, 3, 4}


def test_no_held_out_or_judged_query_is_told_by_an_item(folder: Path) -> None:
    judged = {normalise_query(row["query"]) for row in rows_of(folder, "judgments.jsonl")}
    logged = {normalise_query(row["query"]) for row in rows_of(folder, "log.jsonl")}
    engaged = [
        normalise_query(found["query"])
        for row in rows_of(folder, "items.jsonl")
        for found in row["engaged_queries"] or []
    ]
    assert len(engaged) > 1000
    assert not judged & set(engaged)
    assert {split_of(query) for query in engaged} == {"train"}
    assert judged & logged  # or the test would be empty: judged queries were clicked too
    assert {split_of(query) for query in logged} == {"train", "dev", "test"}


def test_every_text_field_is_present_and_sometimes_missing(folder: Path) -> None:
    items = rows_of(folder, "items.jsonl")
    assert len(items) == 2400
    assert len({row["item_id"] for row in items}) == 2400
    for name, share in SHARE_MISSING.items():
        # Four standard errors of the largest share are .041.
        assert sum(row[name] is None for row in items) / len(items) == pytest.approx(share, abs=0.041)
    assert 0.1 < sum(row["engaged_queries"] is None for row in items) / len(items) < 0.6
    assert all(row["title"] or row["description"] or row["captions"] for row in items)
    vague = sum((row["title"] or "").lower() in ("so cute!!", "love this", "need this asap") for row in items)
    assert vague > 10


def test_each_language_is_written_in_its_scripts(folder: Path) -> None:
    scripts = {"ru": ["CYRILLIC"], "zh": ["CJK"], "ja": ["HIRAGANA", "KATAKANA", "CJK"], "ar": ["ARABIC"]}
    letters = defaultdict(str)
    for row in rows_of(folder, "items.jsonl"):
        letters[row["language"]] += row["description"] or ""
    assert sorted(letters) == sorted(LANGUAGES)
    for code, text in letters.items():
        found = {unicodedata.name(letter).split(" ")[0] for letter in set(text) if letter.isalpha()}
        assert found >= set(scripts.get(code, ["LATIN"]))
        assert "LATIN" in found or code in scripts


def test_the_catalogue_is_a_third_english(folder: Path) -> None:
    languages = [row["language"] for row in rows_of(folder, "items.jsonl")]
    assert languages.count("en") / len(languages) == pytest.approx(0.35, abs=0.01)
    assert all(languages.count(code) / len(languages) == pytest.approx(0.081, abs=0.01) for code in LANGUAGES[1:])


def test_the_log_has_the_bias_of_position(folder: Path) -> None:
    clicks, shown = defaultdict(int), defaultdict(int)
    for row in rows_of(folder, "log.jsonl"):
        clicks[row["position"]] += row["action"] == "click"
        shown[row["position"]] += row["action"] == "impression"
    rate = {position: clicks[position] / shown[position] for position in shown}
    assert sorted(rate) == list(range(1, 11))
    # Examination alone is 5 to 1 between the first place and the tenth; the ranker adds to it.
    assert rate[1] > 1.5 * rate[2] > 1.5 * rate[5] > 1.5 * rate[10] > 0


def test_the_log_is_large_enough_to_label_from(folder: Path) -> None:
    log = rows_of(folder, "log.jsonl")
    assert 30_000 < len(log) < 45_000
    assert {row["action"] for row in log} == {"impression", "click", "long_click", "save", "hide"}
    assert [row["timestamp"] for row in log if row["position"] == 1 and row["action"] == "impression"] == sorted(
        row["timestamp"] for row in log if row["position"] == 1 and row["action"] == "impression"
    )
    judged = {(row["query"], row["item_id"]) for row in rows_of(folder, "judgments.jsonl")}
    free = {(row["query"], row["item_id"], row["language"]) for row in log if split_of(row["query"]) == "train"}
    free = {found for found in free if found[:2] not in judged}
    assert len(free) > 8_000
    assert all(sum(found[2] == code for found in free) > 500 for code in LANGUAGES)


def test_a_typo_changes_one_letter_but_never_the_first() -> None:
    draw = Draw(0, "test")
    typos = {with_typo(draw, "red sofa") for _ in range(200)}
    assert {"red sfoa", "red sfa", "red soofa"} <= typos
    assert all(typo.startswith("red s") for typo in typos)
    assert with_typo(draw, "rug") == "rug"


def test_draws_are_even_and_in_range() -> None:
    draw = Draw(0, "test")
    assert {draw.whole(2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(draw.shuffled(range(50))) == list(range(50))
    assert len(set(draw.sample(range(50), 10))) == 10
    assert draw.sample(["a"], 3) == ["a"]
    picked = [draw.weighted("ab", (3.0, 1.0)) for _ in range(4000)]
    assert picked.count("a") / 4000 == pytest.approx(0.75, abs=0.03)


def test_the_data_stage_takes_every_row(tmp_path: Path) -> None:
    config = DataConfig(reader="pinboard", pinboard=PinboardConfig(size="tiny"))
    result = build_dataset(config, tmp_path)
    assert result.counts["items"] == 150
    assert result.counts["quarantined"] == 0
    assert all(result.counts["splits"][split]["judgments"] > 0 for split in ("train", "dev", "test"))
    assert all(n > 0 for n in result.counts["grades"].values())
    dataset = load_dataset(tmp_path)
    assert dataset.generated
    assert dataset.languages == LANGUAGES
    assert dataset.attributes == ("category",)
    assert "no quality claim" in dataset.note
    assert {"captions", "boards", "engaged_queries", "numeric.popularity", "category"} <= set(dataset.items.columns)
    assert dataset.log is not None


def test_the_tiny_board_has_test_judgments_in_every_language() -> None:
    board = make_pinboard(size=PinboardSize.tiny())
    found = {(split_of(row["query"]), row["language"]) for row in board.judgments}
    assert found == {("train", "en"), ("dev", "en"), *(("test", code) for code in LANGUAGES)}
    assert 1_000 < len(board.log) < 2_500


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        generate_pinboard(tmp_path / "absent", size=PinboardSize.tiny())
