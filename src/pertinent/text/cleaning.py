"""Plain text out of what catalogues hold: HTML, odd Unicode, stray whitespace."""

from __future__ import annotations

import html
import re
import unicodedata

from pertinent.data.plain import CONTROL

# The elements of HTML, so that "a <b and c> d" written by people stays once entities are decoded.
_ELEMENTS = (
    "a|abbr|address|article|aside|audio|b|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|"
    "details|div|dl|dt|em|embed|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|"
    "label|li|link|main|mark|meta|nav|noscript|object|ol|option|p|param|picture|pre|q|s|script|section|select|small|"
    "source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|tfoot|th|thead|title|tr|u|ul|var|video|wbr"
)
# A value in quotes may hold ">". Possessive, so that no input makes the search slow.
_INSIDE = r"""(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+"""
_BLOCK = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<!\[CDATA\[|\]\]>|<[!?][a-zA-Z][^<>]*>", re.DOTALL)
_TAG = re.compile(rf"</?[a-zA-Z]{_INSIDE}>|</?[a-zA-Z][^<>]*>")
_KNOWN_TAG = re.compile(rf"</?(?:{_ELEMENTS})(?:\s{_INSIDE}|\s[^<>]*)?/?>", re.IGNORECASE)
_OPEN_END = re.compile(rf"</?(?:{_ELEMENTS})\s[^<>]*=[^<>]*\Z", re.IGNORECASE)  # a tag that a length limit cut
_SPACE = re.compile(r"\s+")
_MARK = re.compile(r"\s*\|[\s|]*")


def clean(text: str) -> str:
    """Text without HTML (tags, comments, scripts, styles, entities) or control characters; NFKC; single spaces.

    HTML that was escaped once more ("&lt;p&gt;Oak&lt;/p&gt;") is stripped too, of known elements alone; entities are
    decoded once. The mark that parts fields in an item's text, "|", becomes a dash: "Sofas | Shop" -> "Sofas - Shop".
    A bare ``<`` that opens no tag ("3 < 5") stays.
    """
    if "<" in text:
        text = _without_tags(text, _TAG)
    if "&" in text:
        text = html.unescape(text)
        if "<" in text:
            text = _without_tags(text, _KNOWN_TAG)
    text = unicodedata.normalize("NFKC", text)
    return _SPACE.sub(" ", _MARK.sub(" - ", CONTROL.sub(" ", text))).strip()


def _without_tags(text: str, tag: re.Pattern[str]) -> str:
    return _OPEN_END.sub(" ", tag.sub(" ", _COMMENT.sub(" ", _BLOCK.sub(" ", text))))
