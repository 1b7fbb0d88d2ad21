from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pertinent.progress import Progress
from pertinent.teacher import model
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.model import Member, Teacher, score_rows, token_batches
from pertinent.teacher.pairs import PairEncoder
from pertinent.teacher.saving import Trained

QUERIES = ["red sofa", "oak", "", "12 in lamp", "red sofa"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", "", "title: red velvet sofa"]


class Counting:
    """An engine that notes the batches it is given."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine
        self.batches: list[list[list[int]]] = []

    def logits(self, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float32]:
        self.batches.append([list(row) for row in rows])
        return self._engine.logits(rows, pad_id)


def member_of(made: Trained, calibration: Calibration | None = None, batch_tokens: int = 128) -> Member:
    engine = Counting(TorchEngine(made.network, bfloat16=False))
    return Member(engine, made.pairs, calibration or made.calibration, made.pad_id, batch_tokens)


def teacher_of(*members: Member) -> Teacher:
    return Teacher(members, 3, "0" * 16)


def random_pairs(n_pairs: int, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    words = np.array(["red", "oak", "sofa", "velvet", "lamp", "bracket", "12", "rustic", "unheard"])

    def texts(longest: int) -> list[str]:
        return [" ".join(rng.choice(words, size=rng.integers(0, longest))) for _ in range(n_pairs)]

    return texts(6), texts(30)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "deberta-v2", "modernbert", "t5", "llama"])
def test_a_score_does_not_depend_on_the_order_or_on_what_else_is_scored(
    untrained: Callable[..., Trained], kind: str
) -> None:
    queries, texts = random_pairs(25)
    made = untrained(kind)
    together = teacher_of(member_of(made)).score(queries, texts)
    alone = np.concatenate(
        [teacher_of(member_of(made)).score([query], [text]) for query, text in zip(queries, texts, strict=True)]
    )
    order = np.random.default_rng(1).permutation(25)
    one_batch = teacher_of(member_of(made, batch_tokens=10_000))
    shuffled = one_batch.score([queries[i] for i in order], [texts[i] for i in order])
    assert np.ptp(together, axis=0).min() > 0.05
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[order] - shuffled).max() < 1e-5


def test_scores_are_calibrated_probabilities_in_the_order_given(untrained: Callable[..., Trained]) -> None:
    made = untrained()
    calibration = Calibration("softmax", 1.7, (0.4, 0.0, -0.4))
    probs = teacher_of(member_of(made, calibration)).score(QUERIES, TEXTS)
    assert probs.dtype == np.float32
    engine = TorchEngine(made.network, bfloat16=False)
    for query, text, found in zip(QUERIES, TEXTS, probs, strict=True):
        logits = engine.logits(made.pairs.encode([query], [text]).rows, 0)[0]
        odds = np.exp(logits / 1.7 + [0.4, 0.0, -0.4])
        assert found == pytest.approx(odds / odds.sum(), abs=1e-5)


def test_identical_pairs_are_scored_once(untrained: Callable[..., Trained]) -> None:
    member = member_of(untrained())
    probs = teacher_of(member).score(QUERIES * 3, TEXTS * 3)
    assert isinstance(member.engine, Counting)
    assert sum(len(batch) for batch in member.engine.batches) == 4
    assert (probs[0] == probs[4]).all()
    assert (probs == np.tile(probs[:5], (3, 1))).all()


def test_members_probabilities_are_averaged_each_with_its_own_calibration(untrained: Callable[..., Trained]) -> None:
    # The second member reads another tokenizer's template and has another head.
    first = member_of(untrained("bert", seed=1), Calibration("softmax", 0.5, (0.0, 0.1, 0.0)))
    second = member_of(untrained("t5", seed=2, head="corn"), Calibration("corn", 2.0, (0.3, -0.3)))
    apart = [teacher_of(member).score(QUERIES, TEXTS) for member in (first, second)]
    assert np.abs(apart[0] - apart[1]).max() > 0.1
    assert teacher_of(first, second).score(QUERIES, TEXTS) == pytest.approx((apart[0] + apart[1]) / 2, abs=1e-6)


def test_blocks_change_nothing_but_the_memory(
    untrained: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = untrained()
    queries, texts = random_pairs(23)
    whole = teacher_of(member_of(made)).score(queries, texts)
    encoded: list[int] = []
    encode = PairEncoder.encode

    def noted(self: PairEncoder, queries: Sequence[str], texts: Sequence[str]) -> object:
        encoded.append(len(queries))
        return encode(self, queries, texts)

    monkeypatch.setattr(PairEncoder, "encode", noted)
    monkeypatch.setattr(model, "_BLOCK_PAIRS", 5)
    assert np.abs(teacher_of(member_of(made)).score(queries, texts) - whole).max() < 1e-5
    assert sum(encoded) == len(dict.fromkeys(zip(queries, texts, strict=True)))
    assert max(encoded) == 5


def test_progress_counts_every_pair_once(untrained: Callable[..., Trained]) -> None:
    members = [member_of(untrained(seed=seed)) for seed in (1, 2)]
    bar = Progress("score", 15, "pairs", stream=StringIO())
    teacher_of(*members).score(QUERIES * 3, TEXTS * 3, bar)
    assert bar.done == 15


def test_no_pairs_give_no_scores(untrained: Callable[..., Trained]) -> None:
    assert teacher_of(member_of(untrained())).score([], []).shape == (0, 3)


def test_batches_hold_like_lengths_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, size=300)
    rows = [[7] * length for length in lengths]
    order = np.argsort(lengths, kind="stable")
    batches = token_batches(order, rows, 64)
    assert np.concatenate(batches).tolist() == order.tolist()
    for batch in batches:
        assert lengths[batch].max() * len(batch) <= 64
    # A batch ends only where the next row would not fit.
    for batch, following in pairwise(batches):
        assert lengths[following[0]] * (len(batch) + 1) > 64


def test_a_row_longer_than_the_budget_is_a_batch_alone() -> None:
    rows = [[7] * length for length in (3, 3, 100, 101)]
    batches = token_batches(np.arange(4), rows, 8)
    assert [batch.tolist() for batch in batches] == [[0, 1], [2], [3]]


def test_rows_come_back_in_the_order_given(untrained: Callable[..., Trained]) -> None:
    made = untrained()
    engine = Counting(TorchEngine(made.network, bfloat16=False))
    rows = [[2, 5, 9, 11, 3], [2, 3], [2, 6, 3]]
    logits = score_rows(engine, rows, 0, batch_tokens=5)
    assert engine.batches == [[rows[1]], [rows[2]], [rows[0]]]
    for row, found in zip(rows, logits, strict=True):
        assert found == pytest.approx(engine.logits([row], 0)[0], abs=1e-5)
