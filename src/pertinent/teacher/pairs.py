"""(query, item text) -> token ids, in the form that the language model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pertinent.errors import ConfigError, ModelError


class SegmentedRow(list[int]):
    """Token ids of a pair for a language model that was taught to tell its two texts apart.

    type_ids: one byte a token, which of the two it belongs to, as the tokenizer's own template for a pair says.
    """

    def __init__(self, ids: Iterable[int], type_ids: bytes) -> None:
        super().__init__(ids)
        self.type_ids = type_ids

    def with_ids(self, ids: Iterable[int]) -> SegmentedRow:
        """Other ids in the same segments."""
        return SegmentedRow(ids, self.type_ids)


@dataclass(frozen=True)
class Segments:
    """The type id of each part of a pair's template; those of prefix, middle and suffix one byte a token."""

    prefix: bytes
    query: int
    middle: bytes
    text: int
    suffix: bytes

    def row(self, ids: Sequence[int], n_query: int, n_text: int) -> SegmentedRow:
        """The pair of n_query and n_text tokens within the template."""
        query, text = bytes([self.query]) * n_query, bytes([self.text]) * n_text
        return SegmentedRow(ids, self.prefix + query + self.middle + text + self.suffix)


@dataclass(frozen=True)
class EncodedPairs:
    """rows: the token ids of each pair, of class SegmentedRow where the encoder has segments.

    n_cut: pairs whose query or text did not fit whole.
    """

    rows: list[list[int]]
    n_cut: int


@dataclass(frozen=True)
class PairEncoder:
    """Writes ``prefix query middle text suffix`` as token ids, at most max_tokens of them.

    The query is cut to max_query_tokens first; the text gets what is left. An encoder's prefix, middle and suffix are
    its special tokens ([CLS], [SEP], [SEP]); a decoder's are the words of a template. query_space, text_space: what is
    written straight before the query and the text, as one piece with them. segments: of a language model that reads
    type ids.
    """

    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    max_tokens: int
    max_query_tokens: int
    query_space: str = ""
    text_space: str = ""
    segments: Segments | None = None

    @classmethod
    def of_encoder(
        cls, tokenizer: Tokenizer, max_tokens: int, max_query_tokens: int, *, segments: bool = False
    ) -> PairEncoder:
        """In the tokenizer's own template for a pair of texts; with ``segments``, the template's type ids too."""
        special, types = _pair_template(tokenizer)
        return cls(tokenizer, *special, max_tokens, max_query_tokens, segments=types if segments else None)

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
        found = cls(tokenizer, *ids, max_tokens, max_query_tokens, query_space=spaces[0], text_space=spaces[1])
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
        rows: list[list[int]] = []
        n_cut = 0
        for query, text in zip(queries, texts, strict=True):
            head, tail = query_ids[query][:query_limit], text_ids[text]
            room = self._budget - len(head)
            n_cut += len(head) < len(query_ids[query]) or room < len(tail)
            row = [*self.prefix, *head, *self.middle, *tail[:room], *self.suffix]
            if self.segments is not None:
                row = self.segments.row(row, len(head), min(room, len(tail)))
            rows.append(row)
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


def batch_inputs(rows: Sequence[Sequence[int]], pad_id: int, *, segments: bool) -> dict[str, Tensor]:
    """What a CrossEncoder reads of a batch: input_ids and attention_mask, and with ``segments`` token_type_ids.

    Each (B, longest) int64; padding has type id 0, as transformers gives it. Rows of a network with segments are
    SegmentedRow.
    """
    ids, mask = pad_batch(rows, pad_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if segments:
        # A row without type ids is a bug of ours, and must not pass for one of zeros.
        types = [list(row.type_ids) for row in rows]  # type: ignore[attr-defined]
        inputs["token_type_ids"] = pad_batch(types, 0)[0]
    return inputs


def marks_segments(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer's own template for a pair gives its two texts different type ids."""
    _, types = _pair_template(tokenizer)
    return types.query != types.text


def _pair_template(
    tokenizer: Tokenizer,
) -> tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], Segments]:
    """The special tokens before, between and after two texts, and the type id of each part."""
    # A probe pair tells where the tokenizer's template puts its special tokens round the two texts.
    first = tokenizer.encode("a", add_special_tokens=False).ids
    second = tokenizer.encode("b", add_special_tokens=False).ids
    pair = tokenizer.encode("a", "b")
    ids, types = pair.ids, bytes(pair.type_ids)
    n_special = len(ids) - len(first) - len(second)
    for n_prefix in range(n_special + 1):
        if ids[n_prefix : n_prefix + len(first)] != first:
            continue
        rest = ids[n_prefix + len(first) :]
        for n_middle in range(n_special - n_prefix + 1):
            if rest[n_middle : n_middle + len(second)] == second:
                query_end = n_prefix + len(first)
                text = query_end + n_middle
                text_end = text + len(second)
                special = (tuple(ids[:n_prefix]), tuple(ids[query_end:text]), tuple(ids[text_end:]))
                parts = (types[:n_prefix], types[n_prefix], types[query_end:text], types[text], types[text_end:])
                return special, Segments(*parts)
    raise ModelError(
        f"tokenizer.json: expected a template that keeps both texts of a pair as they are, found {pair.tokens} for a and b"
    )
