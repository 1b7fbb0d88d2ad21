"""(query, item text) -> token ids, in the form that the language model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pertinent.errors import ConfigError, ModelError


@dataclass(frozen=True)
class EncodedPairs:
    """rows: the token ids of each pair. n_cut: pairs whose query or text did not fit whole."""

    rows: list[list[int]]
    n_cut: int


@dataclass(frozen=True)
class PairEncoder:
    """Writes ``prefix query middle text suffix`` as token ids, at most max_tokens of them.

    The query is cut to max_query_tokens first; the text gets what is left. An encoder's prefix, middle and suffix are
    its special tokens ([CLS], [SEP], [SEP]); a decoder's are the words of a template. query_space, text_space: what is
    written straight before the query and the text, as one piece with them.
    """

    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    max_tokens: int
    max_query_tokens: int
    query_space: str = ""
    text_space: str = ""

    @classmethod
    def of_encoder(cls, tokenizer: Tokenizer, max_tokens: int, max_query_tokens: int) -> PairEncoder:
        """In the tokenizer's own template for a pair of texts."""
        return cls(tokenizer, *_special_tokens(tokenizer), max_tokens, max_query_tokens)

    @classmethod
    def of_decoder(cls, tokenizer: Tokenizer, template: str, max_tokens: int, max_query_tokens: int) -> PairEncoder:
        """In a template with the places ``{query}`` and ``{text}``, after the tokenizer's first token if it has one.

        Raises ConfigError when a place is missing or the query comes second.
        """
        before, query, rest = template.partition("{query}")
        between, text, after = rest.partition("{text}")
        if not query or not text or "{text}" in before:
            raise ConfigError(f"teacher.template: expected {{query}} and then {{text}}, found {template!r}")
        probe = tokenizer.encode("a", add_special_tokens=False).ids
        with_specials = tokenizer.encode("a").ids
        first = with_specials[: next((i for i, token in enumerate(with_specials) if token == probe[0]), 0)]
        # A word and the space before it are one token to most decoders: the space goes to the text that follows it.
        kept = [before.removesuffix(" "), between.removesuffix(" "), after]
        spaces = [" " if piece.endswith(" ") else "" for piece in (before, between)]
        pieces = [tokenizer.encode(piece, add_special_tokens=False).ids if piece else [] for piece in kept]
        ids = ((*first, *pieces[0]), tuple(pieces[1]), tuple(pieces[2]))
        found = cls(tokenizer, *ids, max_tokens, max_query_tokens, *spaces)
        if found._budget < 2:
            raise ConfigError(
                f"teacher.max_tokens: the template alone takes {max_tokens - found._budget} of {max_tokens}"
            )
        return found

    @property
    def _budget(self) -> int:
        return self.max_tokens - len(self.prefix) - len(self.middle) - len(self.suffix)

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> EncodedPairs:
        """Token ids of N queries and N texts; each distinct one is tokenised once."""
        query_limit = min(self.max_query_tokens, self._budget)
        query_ids, text_ids = self._ids(queries, self.query_space), self._ids(texts, self.text_space)
        rows, n_cut = [], 0
        for query, text in zip(queries, texts, strict=True):
            head, tail = query_ids[query][:query_limit], text_ids[text]
            room = self._budget - len(head)
            n_cut += len(head) < len(query_ids[query]) or room < len(tail)
            rows.append([*self.prefix, *head, *self.middle, *tail[:room], *self.suffix])
        return EncodedPairs(rows, n_cut)

    def _ids(self, texts: Sequence[str], space: str) -> dict[str, list[int]]:
        distinct = list(dict.fromkeys(texts))
        encodings = self.tokenizer.encode_batch([space + text for text in distinct], add_special_tokens=False)
        return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}


def load_tokenizer(file: Path) -> Tokenizer:
    """A tokenizers file without truncation or padding of its own. Raises ModelError if it cannot be read."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for every fault
        raise ModelError(f"{file}: cannot read the tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pad_batch(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, both (B, longest) int64."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _special_tokens(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    # A probe pair tells where the tokenizer's template puts its special tokens round the two texts.
    first = tokenizer.encode("a", add_special_tokens=False).ids
    second = tokenizer.encode("b", add_special_tokens=False).ids
    ids = tokenizer.encode("a", "b").ids
    n_special = len(ids) - len(first) - len(second)
    for n_prefix in range(n_special + 1):
        if ids[n_prefix : n_prefix + len(first)] != first:
            continue
        rest = ids[n_prefix + len(first) :]
        for n_middle in range(n_special - n_prefix + 1):
            if rest[n_middle : n_middle + len(second)] == second:
                return tuple(ids[:n_prefix]), tuple(rest[:n_middle]), tuple(rest[n_middle + len(second) :])
    raise ModelError(f"tokenizer: cannot find its pair template in {ids}")
