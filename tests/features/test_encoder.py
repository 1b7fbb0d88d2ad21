from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pertinent.features.encoder import MAX_TOKENS, StaticEncoder, mean_vectors
from pertinent.features.ragged import Ragged

VECTORS = np.array([[3, 0], [0, 4], [-3, 0], [1, 1]], dtype=np.float32)


def test_a_text_is_the_direction_of_the_sum_of_its_tokens() -> None:
    found = mean_vectors(Ragged.of([[0, 1], [], [3], [0, 2], []]), VECTORS)
    # (3, 4) / 5; nothing; (1, 1) / sqrt 2; a sum of zero stays zero; nothing.
    assert found == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0.5**0.5, 0.5**0.5], [0, 0], [0, 0]]), abs=1e-7)
    assert found.dtype == np.float32
    assert mean_vectors(Ragged.of([[], []]), VECTORS).tolist() == [[0, 0], [0, 0]]


@given(st.lists(st.lists(st.integers(0, 49), max_size=9), min_size=1, max_size=9))
def test_rows_are_of_length_one_and_do_not_depend_on_each_other(rows: list[list[int]]) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    found = mean_vectors(Ragged.of(rows), vectors)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1.0 if row else 0.0 for row in rows], abs=1e-5)
    alone = [mean_vectors(Ragged.of([row]), vectors)[0] for row in rows]
    assert np.abs(found - np.stack(alone)).max() <= 1e-7


def test_texts_are_cut_at_the_limit_and_unknown_words_are_harmless(tiny_backbone: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_backbone / "tokenizer.json"))
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    encoder = StaticEncoder(tokenizer, vectors)
    texts = ["red sofa", "red " * MAX_TOKENS, "red " * (MAX_TOKENS - 1) + "oak", "red " * MAX_TOKENS + "oak", ""]
    assert encoder.dimensions == 8
    assert encoder.tokenise(texts).lengths.tolist() == [2, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, 0]
    found = encoder.encode(texts)
    assert (found[3] == found[1]).all()
    assert not (found[2] == found[1]).all()
    assert not found[4].any()
    assert encoder.encode([]).shape == (0, 8)
