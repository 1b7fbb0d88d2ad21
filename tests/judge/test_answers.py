"""Answers read as grades and probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pertinent.judge.answers import AnswerError, grade_of, grade_probs, usage_of

DIGITS, LETTERS = tuple("12345"), tuple("ABCDEFGHIJ")


@pytest.mark.parametrize(
    "text", ["4", " 4\n", "**4**", "4.", "Grade: 4", "grade 4", "L4", "The answer is 4.", "<think>1 or 5?</think>\n\n4"]
)
def test_a_grade_said_in_few_words_is_read(text: str) -> None:
    assert grade_of(text, DIGITS) == 3


@pytest.mark.parametrize("text", ["", "6", "0", "-4", "4.5", "4/5", "45", "1 or 4", "it is relevant", "<think>4", "A"])
def test_anything_else_is_no_grade(text: str) -> None:
    with pytest.raises(AnswerError, match=r"the answer must be one of 1, 2, 3, 4, 5, got "):
        grade_of(text, DIGITS)


def test_letters_are_read_in_either_case() -> None:
    assert (grade_of("J", LETTERS), grade_of("b.", LETTERS)) == (9, 1)


def token(text: str, top: dict[str, float] | None = None) -> dict[str, Any]:
    alternatives = [{"token": name, "logprob": math.log(p)} for name, p in (top or {}).items()]
    return {"token": text, "logprob": -0.1, "top_logprobs": alternatives}


def test_probabilities_are_the_grades_shares_of_the_likely_tokens() -> None:
    # "4" and " 4" are one grade: .4 + .1; "the" is none: .5, .25 and .15 of their sum .9.
    top = {"4": 0.4, " 4": 0.1, "5": 0.25, "1": 0.15, "the": 0.05}
    found = grade_probs({"content": [token("Grade"), token(":"), token("4", top)]}, DIGITS)
    assert found is not None
    assert found == pytest.approx(np.array([0.15, 0, 0, 0.5, 0.25]) / 0.9, abs=1e-6)
    assert found.dtype == np.float32


def test_the_last_grade_token_counts() -> None:
    first, last = token("1", {"1": 1.0}), token("4", {"4": 0.75, "3": 0.25})
    found = grade_probs({"content": [first, token(" or"), last, token(".")]}, DIGITS)
    assert found == pytest.approx([0, 0, 0.25, 0.75, 0])


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, [], {"content": None}, {"content": []}, {"content": [token("so")]}, {"content": [7]}, {"tokens": ["4"]}],
)
def test_without_log_probabilities_there_are_none(logprobs: Any) -> None:
    assert grade_probs(logprobs, DIGITS) is None


def test_damaged_alternatives_are_passed_over() -> None:
    top = [{"token": "4", "logprob": 0.0}, {"token": "5", "logprob": None}, {"token": 5}, "4", {"logprob": -1.0}]
    assert grade_probs({"content": [{"token": "4", "top_logprobs": top}]}, DIGITS) == pytest.approx([0, 0, 0, 1, 0])


def test_usage_is_told_or_not() -> None:
    assert usage_of({"usage": {"prompt_tokens": 7, "completion_tokens": 2}}) == (7, 2)
    for usage in (None, {}, {"prompt_tokens": 7}, {"prompt_tokens": -1, "completion_tokens": 2}, [7, 2]):
        assert usage_of({"usage": usage}) is None
