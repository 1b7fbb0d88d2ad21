"""Plain text out of what catalogues hold: HTML, odd Unicode, stray whitespace."""

from __future__ import annotations

import html
import re
import unicodedata

_BLOCK = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")
_SPACE = re.compile(r"\s+")
_MARK = re.compile(r"\s*\|[\s|]*")


def clean(text: str) -> str:
    """Text without HTML tags, entities or control characters; NFKC; runs of whitespace are one space.

    The mark that parts fields in an item's text, "|", becomes a dash: "Sofas | Shop" -> "Sofas - Shop". A bare ``<`` that opens no tag ("3 < 5") stays.
    """
    if "<" in text:
        text = _TAG.sub(" ", _BLOCK.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    text = unicodedata.normalize("NFKC", text)
    return _SPACE.sub(" ", _MARK.sub(" - ", _CONTROL.sub(" ", text))).strip()
