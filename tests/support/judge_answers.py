"""What a chat server of a test says of a pair: a grade by the hash of query and item, which anyone can work out."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def pair_of(body: dict[str, Any]) -> tuple[str, str]:
    """Query and item text of a request with the default template."""
    lines = body["messages"][-1]["content"].splitlines()
    return json.loads(lines[0].removeprefix("Query: ")), json.loads(lines[1].removeprefix("Item: "))


def grade_number(query: str, text: str, n_grades: int = 3) -> int:
    """1 to n_grades."""
    return 1 + hashlib.sha256(f"{query}\x1f{text}".encode()).digest()[0] % n_grades


def completion(text: str, probs: dict[str, float] | None = None, usage: tuple[int, int] | None = (100, 1)) -> Any:
    """A whole answer; probs: of the alternatives to its only token."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "logprobs": None}
    if probs is not None:
        top = [{"token": token, "logprob": math.log(p)} for token, p in probs.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": top[0]["logprob"], "top_logprobs": top}]}
    document: dict[str, Any] = {"choices": [choice]}
    if usage is not None:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return document


def certain(body: dict[str, Any]) -> Any:
    """The grade with probability .75, the rest on its neighbour in a ring."""
    grade = grade_number(*pair_of(body))
    return completion(str(grade), {str(grade): 0.75, str(grade % 3 + 1): 0.25})
