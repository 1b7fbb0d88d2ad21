"""Phrases in the teacher's own tokens: how many a phrase has, and where it is cut after n of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Encoding, Tokenizer


def load_counting_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of ``file`` (tokenizer.json) without truncation and padding."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class PhraseTokens:
    """Token counts of phrases, each counted once; many at a time (`add`) is several times faster than one by one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._encodings: dict[str, Encoding] = {}

    def add(self, phrases: Iterable[str]) -> None:
        """Count these phrases now."""
        new = sorted({phrase for phrase in phrases if phrase not in self._encodings})
        encodings = self._tokenizer.encode_batch(new, add_special_tokens=False)
        self._encodings.update(zip(new, encodings, strict=True))

    def count(self, phrase: str) -> int:
        """Tokens of a phrase."""
        return len(self._encoding(phrase))

    def cut(self, phrase: str, n_tokens: int) -> tuple[str, int]:
        """The phrase up to its n-th token, and how many tokens that is."""
        encoding = self._encoding(phrase)
        n = min(n_tokens, len(encoding))
        if n <= 0:
            return "", 0
        span = encoding.token_to_chars(n - 1)
        # A token of no character of its own, which some tokenizers put first, is cut off with what comes before it.
        return ("", 0) if span is None else (phrase[: span[1]].rstrip(), n)

    def _encoding(self, phrase: str) -> Encoding:
        found = self._encodings.get(phrase)
        if found is None:
            found = self._encodings[phrase] = self._tokenizer.encode(phrase, add_special_tokens=False)
        return found
