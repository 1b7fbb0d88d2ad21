from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors

from pertinent.errors import ModelError
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import (
    CrossEncoder,
    encode_pairs,
    load_teacher,
    load_tokenizer,
    new_network,
    pad_batch,
    save_teacher,
)
from pertinent.teacher.score import score_pairs, score_rows

QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", ""]
SETTINGS = {"n_grades": 3, "pooling": "mean", "max_tokens": 32, "max_query_tokens": 8, "temperature": 1.7}


@pytest.fixture
def tokenizer(tiny_backbone: Path) -> Tokenizer:
    return load_tokenizer(tiny_backbone / "tokenizer.json")


@pytest.fixture
def network(tiny_backbone: Path) -> CrossEncoder:
    """With a head of large weights, so that pairs get logits that differ."""
    model = new_network(resolve_backbone(str(tiny_backbone)), TeacherConfig(), 3, seed=1)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 4
            )
    return model


@pytest.fixture
def saved(network: CrossEncoder, tiny_backbone: Path, tmp_path: Path) -> Path:
    save_teacher(network, tmp_path / "teacher", tiny_backbone / "tokenizer.json", SETTINGS)
    return tmp_path / "teacher"


def test_short_pairs_are_encoded_as_the_tokenizer_itself_does(tokenizer: Tokenizer) -> None:
    expected = [tokenizer.encode(query, text).ids for query, text in zip(QUERIES, TEXTS, strict=True)]
    assert encode_pairs(tokenizer, QUERIES, TEXTS, 32, 16) == expected


def test_another_templates_special_tokens_stand_where_it_puts_them(tokenizer: Tokenizer) -> None:
    # As XLM-R has it: two separators between the texts.
    special = [("[CLS]", 2), ("[SEP]", 3)]
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=special
    )
    tokenizer.post_processor = template
    expected = [tokenizer.encode(query, text).ids for query, text in zip(QUERIES, TEXTS, strict=True)]
    assert encode_pairs(tokenizer, QUERIES, TEXTS, 32, 16) == expected


def test_long_pairs_are_cut_to_the_budget_query_first(tokenizer: Tokenizer) -> None:
    (row,) = encode_pairs(tokenizer, ["red " * 20], ["oak " * 20], max_tokens=16, max_query_tokens=5)
    red, oak = tokenizer.token_to_id("red"), tokenizer.token_to_id("oak")
    # 16 less three special tokens: 5 of the query leave 8 for the text.
    assert row == [2, *[red] * 5, 3, *[oak] * 8, 3]


@pytest.mark.parametrize(("max_tokens", "max_query_tokens"), [(16, 64), (20, 16), (16, 13)])
def test_no_pair_is_longer_than_the_budget(tokenizer: Tokenizer, max_tokens: int, max_query_tokens: int) -> None:
    rows = encode_pairs(tokenizer, ["red " * 40, "red"], ["oak " * 40] * 2, max_tokens, max_query_tokens)
    assert max(len(row) for row in rows) <= max_tokens


def test_a_batch_is_padded_to_its_longest_row() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_mean_pooling_ignores_padding_and_first_takes_the_first(network: CrossEncoder) -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1e6, 1e6]]])
    mask = torch.tensor([[1, 1, 0]])
    assert network._pool(states, mask).tolist() == [[2.0, 3.0]]
    network.pooling = "first"
    assert network._pool(states, mask).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_scores_do_not_depend_on_order_or_on_the_rest_of_the_batch(
    network: CrossEncoder, tokenizer: Tokenizer, pooling: str
) -> None:
    network.pooling = pooling
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, 40, size=length).tolist() for length in rng.integers(3, 30, size=25)]
    together = score_rows(network, rows, 0, batch_tokens=128, bfloat16=False)
    alone = np.concatenate([score_rows(network, [row], 0, batch_tokens=64, bfloat16=False) for row in rows])
    order = rng.permutation(len(rows))
    shuffled = score_rows(network, [rows[i] for i in order], 0, batch_tokens=4096, bfloat16=False)
    assert np.ptp(together, axis=0).min() > 0.1
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[order] - shuffled).max() < 1e-5


def test_scoring_leaves_the_network_in_the_mode_it_was_in(network: CrossEncoder) -> None:
    score_rows(network.train(), [[2, 5, 3]], 0, 64, bfloat16=False)
    assert network.training


def test_the_loss_is_the_mean_cross_entropy_to_the_targets(network: CrossEncoder) -> None:
    ids, mask = pad_batch([[2, 5, 3], [2, 6, 7, 3]], 0)
    targets = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    out = network(ids, mask, targets)
    expected = -(targets * out["logits"].log_softmax(1)).sum(1).mean()
    assert out["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_saved_teacher_comes_back_the_same(network: CrossEncoder, saved: Path) -> None:
    teacher = load_teacher(saved)
    rows = teacher.encode(QUERIES, TEXTS)
    before = score_rows(network, rows, 0, 4096, bfloat16=False)
    assert np.abs(score_rows(teacher.model, rows, teacher.pad_id, 4096, bfloat16=False) - before).max() < 1e-5
    assert (teacher.n_grades, teacher.temperature, teacher.pad_id) == (3, 1.7, 0)
    assert len(teacher.teacher_id) == 16


def test_pair_scores_are_the_tempered_softmax_in_the_order_given(saved: Path) -> None:
    teacher = load_teacher(saved)
    queries, texts = [*QUERIES, QUERIES[0]], [*TEXTS, TEXTS[0]]
    probs = score_pairs(teacher, queries, texts, batch_tokens=64, bfloat16=False)
    logits = score_rows(teacher.model, teacher.encode(queries, texts), 0, 4096, bfloat16=False)
    expected = torch.softmax(torch.from_numpy(logits) / 1.7, dim=1).numpy()
    assert np.abs(probs - expected).max() < 1e-5
    assert (probs[0] == probs[-1]).all()


def test_a_folder_that_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a teacher folder with teacher\.json, found none"):
        load_teacher(tmp_path)


def test_a_teacher_without_its_head_is_refused(saved: Path) -> None:
    (saved / "head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"head\.safetensors: the trained head is missing or damaged"):
        load_teacher(saved)


@pytest.mark.parametrize("file", ["head.safetensors", "encoder/model.safetensors"])
def test_a_cut_file_of_weights_is_refused(saved: Path, file: str) -> None:
    (saved / file).write_bytes((saved / file).read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"damaged|cannot load an encoder"):
        load_teacher(saved)


@pytest.mark.parametrize("file", ["head.safetensors", "encoder/model.safetensors"])
def test_other_weights_than_were_saved_are_refused(saved: Path, file: str) -> None:
    weights = load_file(saved / file)
    name = max(weights, key=lambda name: weights[name].numel())
    # Scaled, not shifted: layer norms undo a shift of all weights.
    save_file({**weights, name: weights[name] * 1.5}, saved / file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the stored probe's logits are not reproduced"):
        load_teacher(saved)


def test_a_teacher_of_another_format_is_refused(saved: Path) -> None:
    document = json.loads((saved / "teacher.json").read_text())
    (saved / "teacher.json").write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(ModelError, match=r"teacher\.json: expected format 1, found 99"):
        load_teacher(saved)


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
