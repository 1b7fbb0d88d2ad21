"""What labelling will take, before anything is spent: the labeller is timed on real pairs of every length.

The pairs, sorted by length as they will be labelled, are cut into strata of equal number. From the middle of each, pairs
that stand together are labelled and timed, more of them until the clock tells; a stratum's time is that of its pairs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pertinent.labelling.config import EngineName, LabelsConfig
from pertinent.labelling.engine import EncodingLabeller, Labeller
from pertinent.labelling.plan import TEXT_ROW, Chosen, choose_pairs
from pertinent.progress import say
from pertinent.teacher.saving import load_teacher, teacher_id_of

_STRATA = 16
_FIRST, _MOST = 64, 4096  # pairs of a stratum that are timed
_ENOUGH_S = 0.5


@dataclass(frozen=True)
class Block:
    """Pairs from the middle of a stratum of n_pairs, whose lengths add up to ``length``. lengths: of these pairs."""

    queries: list[str]
    texts: list[str]
    lengths: list[int]
    n_pairs: int
    length: int


@dataclass(frozen=True)
class Timed:
    """The first n pairs of a block: how long the labeller took, and how many tokens it read."""

    n: int
    seconds: float
    tokens: int


def estimate_labels(
    config: LabelsConfig,
    data: Path,
    text: Path,
    teacher: Path,
    *,
    engines: Sequence[EngineName],
    price_per_hour_usd: float | None = None,
    seed: int,
) -> dict[str, Any]:
    """What `label_pairs` with these arguments will take on each engine; nothing is written.

    Returns {"rows", "cached", "to_label", "tokens": of the pairs to label, "engines": {name: {"workers", "start_s",
    "pairs_per_s", "hours", "cost_usd"}}}. start_s: choosing the pairs and opening the teacher. hours: start and all.
    price_per_hour_usd: of the machines that the engine runs on, together; without it cost_usd is None.
    Raises what `label_pairs` raises before it labels.
    """
    started = time.monotonic()
    chosen = choose_pairs(config, data, text, teacher_id_of(teacher), seed)
    choosing_s = time.monotonic() - started
    blocks = blocks_of(chosen)
    found: dict[str, Any] = {}
    tokens = 0
    for name in engines:
        say(f"labels: timing the engine {name}")
        opening_s, timed = _timed_by(name, config, teacher, blocks)
        start_s, label_s = choosing_s + opening_s, total_seconds(blocks, timed)
        hours = (start_s + label_s) / 3600
        tokens = total_tokens(blocks, timed[0])
        found[name] = {
            "workers": len(timed),
            "start_s": round(start_s, 1),
            "pairs_per_s": round(chosen.pairs.height / label_s, 2) if label_s else None,
            "hours": round(hours, 6),
            "cost_usd": None if price_per_hour_usd is None else round(hours * price_per_hour_usd, 2),
        }
    n_cached = chosen.cached.height
    rows = {"rows": chosen.pairs.height + n_cached, "cached": n_cached, "to_label": chosen.pairs.height}
    return {**rows, "tokens": tokens, "price_per_hour_usd": price_per_hour_usd, "engines": found}


def blocks_of(chosen: Chosen, n_strata: int = _STRATA, most: int = _MOST) -> list[Block]:
    """A block of at most ``most`` pairs a stratum; strata are of equal number, and fewer where there are few pairs."""
    pairs, texts = chosen.pairs, chosen.texts.rows["text"]
    n_strata = min(n_strata, max(pairs.height // _FIRST, 1))
    edges = [pairs.height * k // n_strata for k in range(n_strata + 1)]
    blocks = []
    for low, high in pairwise(edges):
        n = min(high - low, most)
        middle = pairs[low + (high - low - n) // 2 :][:n]
        blocks.append(
            Block(
                middle["query"].to_list(),
                texts.gather(middle[TEXT_ROW]).to_list(),
                middle["length"].to_list(),
                high - low,
                int(pairs["length"][low:high].sum()),
            )
        )
    return [block for block in blocks if block.n_pairs]


def time_blocks(blocks: Sequence[Block], labeller: Labeller) -> list[Timed]:
    """The labeller on each block: on more of its pairs until they take half a second."""
    if blocks:  # what is done once, at the first pairs
        labeller.score(blocks[-1].queries[:8], blocks[-1].texts[:8])
    return [_time_block(block, labeller) for block in blocks]


def _time_block(block: Block, labeller: Labeller) -> Timed:
    n = min(_FIRST, len(block.queries))
    while True:
        queries, texts = block.queries[:n], block.texts[:n]
        started = time.perf_counter()
        labeller.score(queries, texts)
        seconds = time.perf_counter() - started
        if seconds >= _ENOUGH_S or n == len(block.queries):
            return Timed(n, seconds, _tokens_of(block, n, labeller))
        n = min(4 * n, len(block.queries))


def _tokens_of(block: Block, n: int, labeller: Labeller) -> int:
    if isinstance(labeller, EncodingLabeller):
        return int(labeller.encode(block.queries[:n], block.texts[:n]).n_tokens)
    return sum(block.lengths[:n])


def total_seconds(blocks: Sequence[Block], timed: Sequence[Sequence[Timed]]) -> float:
    """Seconds for all pairs of the strata. timed: by each worker; their rates add up."""
    per_block = zip(*timed, strict=True)
    seconds = [
        block.n_pairs / sum(one.n / one.seconds for one in of_workers)
        for block, of_workers in zip(blocks, per_block, strict=True)
    ]
    return float(sum(seconds))


def total_tokens(blocks: Sequence[Block], timed: Sequence[Timed]) -> int:
    """Tokens of all pairs of the strata: their lengths, by what a length turned out to be among the timed pairs."""
    return round(
        sum(
            block.length * one.tokens / max(sum(block.lengths[: one.n]), 1)
            for block, one in zip(blocks, timed, strict=True)
        )
    )


def _timed_by(
    name: EngineName, config: LabelsConfig, teacher: Path, blocks: list[Block]
) -> tuple[float, list[list[Timed]]]:
    """Seconds until an engine could label, and what each of its workers took when all worked at once."""
    started = time.monotonic()
    if name == "local":
        labeller = load_teacher(teacher)
        return time.monotonic() - started, [time_blocks(blocks, labeller)]
    from pertinent.labelling.ray_engine import RayEngine

    engine = RayEngine(partial(load_teacher, teacher.resolve()), config.ray)
    return engine.on_every_worker(partial(time_blocks, blocks))
