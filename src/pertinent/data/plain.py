"""Plain text of a stranger's: control characters, and where sentences end."""

from __future__ import annotations

import re

# Without tab and line feed, which are spaces; with zero-width space, word joiner and byte order mark.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s)|[。！？][」』”’）]*")


def one_line(text: str) -> str:
    """The text without control characters, its white space as single spaces."""
    return " ".join(CONTROL.sub(" ", text).split())


def sentence_ends(text: str) -> list[int]:
    """Positions in the text before which a sentence is over, its closing quotes with it; ascending."""
    return [found.end() for found in _SENTENCE_END.finditer(text)]
