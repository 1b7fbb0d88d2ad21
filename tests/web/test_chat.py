from __future__ import annotations

import pytest

from pertinent.web.chat import first_choice, text_of
from pertinent.web.request import WebError


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"choices": [{"message": {"content": "a box"}}]}', "a box"),
        (
            b'{"choices": [{"message": {"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "box"}]}}]}',
            "a box",
        ),
        (b'{"choices": [{"message": {"content": null, "refusal": "I cannot see this."}}]}', "I cannot see this."),
    ],
)
def test_answers_in_their_several_forms(answer: bytes, text: str) -> None:
    assert text_of(first_choice(answer)[1]) == text


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": 7}]}',
        b"null",
    ],
)
def test_what_is_no_answer_may_be_tried_again(answer: bytes) -> None:
    with pytest.raises(WebError, match="endpoint's answer must be a chat completion with a text, got ") as error:
        text_of(first_choice(answer)[1])
    assert error.value.transient
