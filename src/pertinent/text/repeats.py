"""What an item's text has said already, so that a later field does not say it again.

The rule. Two phrases say the same if their words are the same: case, punctuation and spaces do not count, and each
character of a script without spaces is a word. An earlier field says a phrase if the phrase's words stand in it, together
and in order, within what that field is sure to write (its own budget).

- An entry of a list that an earlier field, or an earlier entry of its list with the same words, says is left out.
- Of a text, the item's title at the very start is left out where a mark of punctuation or the end follows it ("Red sofa:
  large" -> "large"; "Red sofas are in" keeps its subject), and every sentence of three words or more that an earlier field
  or an earlier sentence says. Shorter ones stay: there the tag tells something ("color: red").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_LEAST_WORDS = 3  # of a sentence that may be left out
_KEPT_MARKS = "#%&@"  # C# is not C
_UNSPACED = (  # first and last code point: Thai and Lao, Burmese, Khmer, kana, Han
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_SENTENCE_END = re.compile(r"((?<=[.!?…])\s+|(?<=[。！？])\s*)")
_AFTER_TITLE = re.compile(r"\s*[:;,.!?](?:\s+|$)|\s*[。、]\s*|\s+[-–—•]\s+|\s*$")
_BETWEEN = "\x1f"


class _WordCharacters(dict[int, int | str]):
    """code point -> itself, a space, or itself between spaces: made as characters are met."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        if any(first <= code <= last for first, last in _UNSPACED):
            # A vowel sign or a tone mark belongs to the letter before it.
            made: int | str = code if unicodedata.category(character)[0] == "M" else f" {character}"
        elif character == "|" or (unicodedata.category(character)[0] in "PZC" and character not in _KEPT_MARKS):
            made = " "
        else:
            made = code
        self[code] = made
        return made


_WORDS = _WordCharacters()


def words_of(text: str) -> str:
    """The words of a text, case-folded, with one space between two; equal for phrases that say the same."""
    return " ".join(text.casefold().translate(_WORDS).split())


class Said:
    """What the fields before the present one are sure to write."""

    def __init__(self) -> None:
        self._text = _BETWEEN

    def add(self, phrase: str, *, whole: bool = True) -> None:
        """Note a written phrase. whole: whether its last word is not cut short."""
        words = words_of(phrase)
        if not whole:
            words = words.rpartition(" ")[0]
        self._text += f" {words} {_BETWEEN}"

    def says(self, words: str) -> bool:
        """Whether the words stand together in a phrase that was noted."""
        return bool(words) and f" {words} " in self._text

    def new_entries(self, entries: Sequence[str]) -> tuple[list[str], list[str]]:
        """The entries of a list that are not said yet, and those that are."""
        new, repeated, seen = [], [], set()
        for entry in entries:
            words = words_of(entry)
            if words and (words in seen or self.says(words)):
                repeated.append(entry)
            else:
                new.append(entry)
                seen.add(words)
        return new, repeated

    def new_text(self, text: str, title: str) -> tuple[str, list[str]]:
        """A text without what is said already, and the parts left out. title: the item's own, "" where it has none."""
        repeated = []
        start = self._after_title(text, title)
        if start:
            repeated.append(text[: len(title)])
            text = text[start:]
        parts = _SENTENCE_END.split(text)  # sentences at even places, the space after each at odd ones
        kept, seen = [], set()
        for i in range(0, len(parts), 2):
            words = words_of(parts[i])
            if words.count(" ") >= _LEAST_WORDS - 1 and (words in seen or self.says(words)):
                repeated.append(parts[i])
            else:
                kept += parts[i : i + 2]
                seen.add(words)
        return ("".join(kept).strip(), repeated) if repeated else (text, repeated)

    def _after_title(self, text: str, title: str) -> int:
        """Where the text goes on after a title that it begins with; 0 where it does not, or the title was cut."""
        if not title or text[: len(title)].casefold() != title.casefold() or not self.says(words_of(title)):
            return 0
        found = _AFTER_TITLE.match(text, len(title))
        return found.end() if found else 0
