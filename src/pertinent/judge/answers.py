"""What a chat completion says of a pair: its grade, and the log-probabilities of all grades where it has them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_ANSWER = re.compile(r"(?:the\s+)?(?:grade|answer)?(?:\s+is)?[^\w-]*(?:L(?=\d))?([A-Z0-9])\W*", re.IGNORECASE)


class AnswerError(Exception):
    """An answer is no grade. Its text is a quarantine reason."""


def grade_of(text: str, symbols: Sequence[str]) -> int:
    """Stored grade that an answer names: its symbol alone, or as in "Grade: 4." or "**4**". Raises AnswerError."""
    found = _ANSWER.fullmatch(_THOUGHT.sub("", text, count=1).strip())
    if found is None or found[1].upper() not in symbols:
        raise AnswerError(f"the answer must be one of {', '.join(symbols)}, got {text[:60]!r}")
    return list(symbols).index(found[1].upper())


def grade_probs(logprobs: Any, symbols: Sequence[str]) -> NDArray[np.float32] | None:
    """(n,) probabilities of the grades at the answer's last token that is one, or None where the server gives none.

    logprobs: of a choice, as the server sent it. A grade's tokens ("4", " 4") are added up and the grades divided by
    their sum; a grade that is not among the most likely tokens has 0.
    """
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    for token in reversed(content if isinstance(content, list) else []):
        if not isinstance(token, dict) or _symbol(token.get("token"), symbols) is None:
            continue
        top = token.get("top_logprobs")
        likely = top if isinstance(top, list) and top else [token]
        probs = np.zeros(len(symbols))
        for one in likely:
            grade = _symbol(one.get("token"), symbols) if isinstance(one, dict) else None
            if grade is not None and isinstance(value := one.get("logprob"), int | float) and not math.isnan(value):
                probs[grade] += math.exp(min(value, 0.0))
        return (probs / probs.sum()).astype(np.float32) if probs.sum() > 0 else None
    return None


def usage_of(document: dict[str, Any]) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer, as the server counted them; None where it does not say."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    inputs, outputs = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(inputs, int) and isinstance(outputs, int) and min(inputs, outputs) >= 0:
        return inputs, outputs
    return None


def _symbol(token: Any, symbols: Sequence[str]) -> int | None:
    bare = token.strip(" \t\r\n*_\"'▁Ġ").upper() if isinstance(token, str) else ""
    return list(symbols).index(bare) if bare in symbols else None
