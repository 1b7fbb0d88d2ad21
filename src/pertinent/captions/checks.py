"""Whether what a captioner said is a caption: empty, a refusal, a model running in a circle, far too long."""

from __future__ import annotations

import re
import unicodedata

from pertinent.captions.config import ChecksConfig
from pertinent.data.plain import one_line, sentence_ends


class CaptionError(Exception):
    """A text is no caption. Its text is a quarantine reason: "caption must be EXPECTED, got FOUND"."""


_THING = r"(?:photo(?:graph|graphy)?|picture|image|pic|shot|view|close[- ]?up|illustration|drawing|rendering)"
_KIND = r"(?:(?:black and white|colou?r(?:ed)?|stock|product|close[- ]?up|digital|vector|small|large|beautiful)\s+)*"
_VERB = r"(?:shows?|depicts?|features?|displays?|contains?|presents?|captures?|is of|showing|depicting|featuring)"
# "a picture of a ...", "this image shows ...", "in this photo, there is ...", "here is a picture of", "caption: ..."
_OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:image |photo )?(?:caption|description|answer)\s*:\s*",
        rf"(?:(?:here(?: is|'s)|this is|it(?: is|'s)|there is)\s+)?(?:an?|the|this)?\s*{_KIND}{_THING}\s+of\s+",
        rf"(?:the|this|an?)\s+{_KIND}{_THING}\s+{_VERB}\s+",
        rf"(?:in|on)\s+(?:the|this)\s+{_KIND}{_THING}\s*,?\s*(?:there (?:is|are)|(?:you|we) (?:can )?see)?\s*",
        r"(?:here (?:is|are)|there (?:is|are)|this is|arafed|araffe)\s+",  # the last two: words that BLIP makes up
    )
)
_REFUSAL = re.compile(
    r"^(?:i['’]?m (?:sorry|unable|not able)|i am (?:sorry|unable|not able)|sorry\b|i apologi[sz]e"
    r"|i (?:cannot|can['’]?t|can not|could not|couldn['’]?t) (?:see|view|assist|help|describe|process|identify|provide|access|open)"
    r"|as an ai\b|unable to (?:view|see|process|describe)|no image (?:was |is )?(?:provided|attached|found|available)"
    r"|please (?:provide|upload|share) (?:the|an|a)\b)",
    re.IGNORECASE,
)
_WRAPPERS = "\"'“”‘’`*_ "
_PHRASE_WORDS, _PHRASE_CHARS = 8, 24


def check_caption(text: str, config: ChecksConfig) -> str:
    """The caption in what a model said: NFKC, one line, without wrapping quotes, openings and sentences over length.

    Raises CaptionError, its reason fit for the quarantine.
    """
    caption = one_line(unicodedata.normalize("NFKC", text)).strip(_WRAPPERS)
    if _REFUSAL.match(caption):
        raise CaptionError(f"caption must describe the image, got a refusal {caption[:80]!r}")
    if config.strip_openings:
        caption = strip_openings(caption)
    if not any(character.isalnum() for character in caption):
        raise CaptionError(f"caption must not be empty, got {text[:80]!r}")
    if (phrase := repeated_phrase(caption, config.max_repeats)) is not None:
        raise CaptionError(
            f"caption must not repeat a phrase over {config.max_repeats} times in a row, got {phrase[:80]!r}"
        )
    return _cut(caption, config.max_chars)


def strip_openings(caption: str) -> str:
    """The caption without what many models begin with: "a picture of", "this image shows", "there is"."""
    before = None
    while caption != before:
        before = caption
        for opening in _OPENINGS:
            if (found := opening.match(caption)) is not None and caption[found.end() :].strip():
                caption = caption[found.end() :].lstrip(" ,:-")
    return caption


def repeated_phrase(caption: str, max_repeats: int) -> str | None:
    """A phrase that stands more than ``max_repeats`` times in a row; None where there is none.

    A phrase: 1 to 8 words, or 2 to 24 characters where no spaces part the words (Chinese, Japanese), which must then
    stand at least three times: "哈哈" is no circle. An only letter or digit in a row ("a a a", "000") counts as a word.
    """
    words = re.findall(r"\w+", caption.casefold())
    for n in range(1, _PHRASE_WORDS + 1):
        run = 1
        for start in range(n, len(words) - n + 1):
            # A run of phrases of n words is one of equal words n apart.
            run = run + 1 if words[start : start + n] == words[start - n : start] else 1
            if run > (max_repeats - 1) * n + 1:
                return " ".join(words[start : start + n])
    times = max(max_repeats, 2)
    found = re.search(rf"([^\W\d_a-z]{{2,{_PHRASE_CHARS}}}?)\1{{{times},}}", caption.casefold())
    return found.group(1) if found else None


def _cut(caption: str, max_chars: int) -> str:
    """The caption, or its first whole sentences within the limit."""
    if len(caption) <= max_chars:
        return caption
    ends = [end for end in sentence_ends(caption) if end <= max_chars]
    if not ends:
        raise CaptionError(
            f"caption must have a first sentence of at most {max_chars} characters, got {caption[:80]!r}"
        )
    return caption[: ends[-1]].rstrip()
