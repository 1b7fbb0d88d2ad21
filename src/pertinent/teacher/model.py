"""A teacher that can score: one or several trained networks, each with its own pairs, calibration and arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pertinent.progress import Progress
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.engines import LogitsEngine
from pertinent.teacher.pairs import PairEncoder

_BLOCK_PAIRS = 16_384  # encoded and sorted at a time: bounds memory, and hardly lengthens the padding


@dataclass(frozen=True)
class Member:
    """One trained network. batch_tokens: padded tokens of a batch when scoring."""

    engine: LogitsEngine
    pairs: PairEncoder
    calibration: Calibration
    pad_id: int
    batch_tokens: int


@dataclass(frozen=True)
class EncodedUnit:
    """Pairs as a teacher reads them. index: (N,) int64, of each pair among the distinct. rows: their token ids, by member.

    n_cut: the most distinct pairs that one member's token budgets cut.
    """

    index: NDArray[np.int64]
    rows: tuple[list[list[int]], ...]
    n_cut: int

    @property
    def n_tokens(self) -> int:
        """Tokens of all pairs, as the first member reads them."""
        lengths = np.array([len(row) for row in self.rows[0]], dtype=np.int64)
        return int(lengths[self.index].sum())


@dataclass(frozen=True)
class Teacher:
    """Scores pairs of query and item text. teacher_id: hash of weights and calibrations: names it in a label."""

    members: tuple[Member, ...]
    n_grades: int
    teacher_id: str

    def uncalibrated(self) -> Teacher:
        """The same networks with the probabilities of their own heads."""
        members = tuple(
            replace(member, calibration=Calibration.none(member.calibration.kind, self.n_grades))
            for member in self.members
        )
        return replace(self, members=members)

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Calibrated grade probabilities, (N, n) float32, in the order given; the mean over the members.

        queries, texts: N each; a text is what the text stage wrote. Identical pairs are scored once. A pair's
        probabilities do not depend on the others (to 1e-5 in float32).
        """
        return self.score_counted(queries, texts, progress)[0]

    def score_counted(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], int]:
        """What ``score`` gives, and how many distinct pairs are longer than a member's token budgets and were cut."""
        distinct, index = distinct_pairs(queries, texts)
        if not distinct:
            return np.zeros((0, self.n_grades), dtype=np.float32), 0
        found, n_cut = [], 0
        for block in self._blocks(distinct):
            found.append(self.score_encoded(block, progress))
            n_cut += block.n_cut
        if progress is not None:
            progress.advance(index.size - len(distinct))
        return np.concatenate(found)[index], n_cut

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> EncodedUnit:
        """What `score_encoded` takes of N >= 1 pairs: the part of `score` that needs no network."""
        distinct, index = distinct_pairs(queries, texts)
        return self._encoded(distinct, index)

    def score_encoded(self, encoded: EncodedUnit, progress: Progress | None = None) -> NDArray[np.float32]:
        """`score` of pairs that `encode` has read; they are held in memory at once."""
        total = np.zeros((len(encoded.rows[0]), self.n_grades))
        for member, rows in zip(self.members, encoded.rows, strict=True):
            shown = progress if member is self.members[-1] else None
            logits = score_rows(member.engine, rows, member.pad_id, member.batch_tokens, shown)
            total += member.calibration.probabilities(logits)
        probs: NDArray[np.float32] = (total / len(self.members)).astype(np.float32)
        if progress is not None:
            progress.advance(encoded.index.size - len(encoded.rows[0]))
        return probs[encoded.index]

    def _encoded(self, pairs: Sequence[tuple[str, str]], index: NDArray[np.int64]) -> EncodedUnit:
        queries, texts = [query for query, _ in pairs], [text for _, text in pairs]
        encoded = [member.pairs.encode(queries, texts) for member in self.members]
        return EncodedUnit(index, tuple(found.rows for found in encoded), max(found.n_cut for found in encoded))

    def _blocks(self, pairs: list[tuple[str, str]]) -> Iterator[EncodedUnit]:
        """One block after the other; the next one is encoded while the caller works on this one."""

        def encode(start: int) -> EncodedUnit:
            block = pairs[start : start + _BLOCK_PAIRS]
            return self._encoded(block, np.arange(len(block)))

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(encode, 0)
            for start in range(_BLOCK_PAIRS, len(pairs) + _BLOCK_PAIRS, _BLOCK_PAIRS):
                block = coming.result()
                if start < len(pairs):
                    coming = pool.submit(encode, start)
                yield block


def distinct_pairs(queries: Sequence[str], texts: Sequence[str]) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
    """The distinct pairs in order of appearance, and which of them each pair is, (N,) int64."""
    pairs = list(zip(queries, texts, strict=True))
    place: dict[tuple[str, str], int] = {}
    index = [place.setdefault(pair, len(place)) for pair in pairs]
    return list(place), np.array(index, dtype=np.int64)


def score_rows(
    engine: LogitsEngine,
    rows: Sequence[Sequence[int]],
    pad_id: int,
    batch_tokens: int,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Logits (N, n or n - 1) float32 of N >= 1 rows of token ids, in the order given; batches hold like lengths."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    logits: NDArray[np.float32] | None = None
    for batch in token_batches(order, rows, batch_tokens):
        found = engine.logits([rows[i] for i in batch], pad_id)
        if logits is None:
            logits = np.empty((len(rows), found.shape[1]), dtype=np.float32)
        logits[batch] = found
        if progress is not None:
            progress.advance(len(batch))
    assert logits is not None, "no rows to score"
    return logits


def token_batches(
    order: NDArray[np.int64], rows: Sequence[Sequence[int]], batch_tokens: int
) -> list[NDArray[np.int64]]:
    """Consecutive runs of a length-sorted order whose padded size stays within batch_tokens; a longer row is alone."""
    batches, start = [], 0
    for end, i in enumerate(order):
        if end > start and (end - start + 1) * len(rows[i]) > batch_tokens:
            batches.append(order[start:end])
            start = end
    batches.append(order[start:])
    return batches
