from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.captions.checks import CaptionError, check_caption, repeated_phrase, strip_openings
from pertinent.captions.config import ChecksConfig

CONFIG = ChecksConfig()


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("a picture of a red sofa", "a red sofa"),
        ("A photo of a dog", "a dog"),
        ("This image shows a red sofa in a room.", "a red sofa in a room."),
        ("The image depicts two chairs", "two chairs"),
        ("an image of a picture of a cat", "a cat"),
        ("There is a lamp on the table", "a lamp on the table"),
        ("In this photo, there are three mugs", "three mugs"),
        ("Here is a close-up of an oak grain", "an oak grain"),
        ("a black and white photograph of a bridge", "a bridge"),
        ("Caption: a blue rug", "a blue rug"),
        ('"A blue rug."', "A blue rug."),
        ("arafed man in a suit", "man in a suit"),  # a word that BLIP makes up
        ("a picture frame on a wall", "a picture frame on a wall"),
        ("a photographer of weddings", "a photographer of weddings"),
        ("image of", "image of"),  # nothing would be left
        ("  two\n lines\u200b ", "two lines"),
        ("红色的沙发", "红色的沙发"),
    ],
)
def test_openings_are_taken_off(said: str, caption: str) -> None:
    assert check_caption(said, CONFIG) == caption


def test_openings_stay_where_the_config_says_so() -> None:
    config = ChecksConfig(strip_openings=False)
    assert check_caption("a picture of a red sofa", config) == "a picture of a red sofa"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "caption must not be empty, got ''"),
        (" ... \n", "caption must not be empty, got ' ... \\n'"),
        ("I'm sorry, but I can't help with that.", "caption must describe the image, got a refusal"),
        ("I cannot see the image.", "caption must describe the image, got a refusal"),
        ("As an AI model, I have no eyes", "caption must describe the image, got a refusal"),
        ("Please provide the image.", "caption must describe the image, got a refusal"),
        ("a red red red sofa", "caption must not repeat a phrase over 2 times in a row, got 'red'"),
        ("a dog and a cat and " * 3, "caption must not repeat a phrase over 2 times in a row, got 'a dog and a cat and'"),
        ("红色红色红色沙发", "caption must not repeat a phrase over 2 times in a row, got '红色'"),
    ],
)  # fmt: skip
def test_what_is_no_caption(said: str, reason: str) -> None:
    with pytest.raises(CaptionError) as error:
        check_caption(said, CONFIG)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(
    ("caption", "phrase"),
    [
        ("a sofa", None),
        ("new york new york", None),  # twice may be
        ("very very large", None),
        ("one two one two one two", "one two"),
        ("one two one two one", None),
        ("x one two one two one two y", "one two"),
        ("a b c d e f g h " * 3, "a b c d e f g h"),
        ("哈哈", None),
        ("size 1000000 mm", None),
    ],
)
def test_a_phrase_that_comes_three_times_in_a_row(caption: str, phrase: str | None) -> None:
    assert repeated_phrase(caption, 2) == phrase


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 3))
def test_repeats_are_those_that_counting_finds(words: list[str], max_repeats: int) -> None:
    def counted() -> bool:
        times = max_repeats + 1
        return any(
            words[start : start + n] * times == words[start : start + n * times] and len(words[start : start + n]) == n
            for n in range(1, 9)
            for start in range(len(words))
        )

    assert (repeated_phrase(" ".join(words), max_repeats) is not None) == counted()


def test_a_long_caption_is_cut_to_whole_sentences() -> None:
    config = ChecksConfig(max_chars=40)
    assert (
        check_caption("One box on a table. It is red. Behind it stands a lamp of brass.", config)
        == "One box on a table. It is red."
    )
    assert (
        check_caption(
            "桌上有一个红色的盒子。" + "后面有一盏黄铜灯和两把旧椅子。" + "墙上挂着画" * 2 + "，" + "窗外下着雨。",
            config,
        )
        == "桌上有一个红色的盒子。后面有一盏黄铜灯和两把旧椅子。"
    )
    with pytest.raises(CaptionError, match="caption must have a first sentence of at most 40 characters, got 'one box"):
        check_caption("one box with a lid and a second box and a third one without any end", config)


@given(st.text(max_size=80))
def test_any_text_gives_a_caption_or_a_reason(text: str) -> None:
    try:
        caption = check_caption(text, CONFIG)
    except CaptionError as error:
        assert str(error).startswith("caption must ")  # noqa: PT017
    else:
        assert caption == " ".join(caption.split())
        assert len(caption) <= CONFIG.max_chars
        assert strip_openings(caption) == caption
