from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pertinent.errors import ConfigError, ModelError
from pertinent.teacher.pairs import PairEncoder, load_tokenizer, pad_batch

QUERIES = ["red sofa", "oak", "", "12 in lamp"]
TEXTS = ["title: red velvet sofa", "title: oak table | color: green", "rug", ""]
CLS, SEP = 2, 3


@pytest.fixture
def tokenizer(tiny_backbone: Path) -> Tokenizer:
    return load_tokenizer(tiny_backbone / "tokenizer.json")


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "t5", "llama"])
def test_short_pairs_are_encoded_as_the_tokenizer_itself_does(tiny_folder: Callable[[str], Path], kind: str) -> None:
    # Their templates differ: two separators (XLM-R), none in front (T5), none behind (Llama's).
    tokenizer = load_tokenizer(tiny_folder(kind) / "tokenizer.json")
    expected = [tokenizer.encode(query, text).ids for query, text in zip(QUERIES, TEXTS, strict=True)]
    found = PairEncoder.of_encoder(tokenizer, 32, 16).encode(QUERIES, TEXTS)
    assert found.rows == expected
    assert found.n_cut == 0


def test_a_tokenizer_without_special_tokens_joins_the_two_texts(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    (row,) = PairEncoder.of_encoder(tokenizer, 32, 16).encode(["red sofa"], ["oak"]).rows
    assert row == [*ids_of(tokenizer, "red sofa"), *ids_of(tokenizer, "oak")]


def test_a_tokenizer_that_swaps_the_texts_is_refused(tokenizer: Tokenizer) -> None:
    special = [("[CLS]", CLS), ("[SEP]", SEP)]
    swapped = processors.TemplateProcessing(single="$A", pair="[CLS] $B [SEP] $A", special_tokens=special)
    tokenizer.post_processor = swapped
    with pytest.raises(
        ModelError, match=r"tokenizer\.json: expected a template that keeps both texts of a pair as they are, found \["
    ):
        PairEncoder.of_encoder(tokenizer, 32, 16)


def test_a_decoder_reads_the_template_after_the_tokenizers_first_token(tiny_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_folder("llama") / "tokenizer.json")
    encoder = PairEncoder.of_decoder(tokenizer, "table: {query} | {text} easy", 32, 16)
    (row,) = encoder.encode(["red sofa"], ["title: oak"]).rows
    assert row == [CLS, *ids_of(tokenizer, "table: red sofa | title: oak easy")]


def test_a_decoder_without_a_first_token_reads_the_template_alone(tiny_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_folder("llama") / "tokenizer.json")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", SEP)])
    (row,) = PairEncoder.of_decoder(tokenizer, "{query}: {text}", 32, 16).encode(["red"], ["oak"]).rows
    assert row == ids_of(tokenizer, "red: oak")


@pytest.mark.parametrize("template", ["{text} {query}", "{query} only", "{text} only", "neither"])
def test_a_template_that_lacks_a_place_or_swaps_them_is_a_config_error(tokenizer: Tokenizer, template: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.template: expected \{query\} and then \{text\}, found"):
        PairEncoder.of_decoder(tokenizer, template, 32, 16)


def test_a_template_that_leaves_no_room_is_a_config_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.max_tokens: the template alone takes 21 of 16"):
        PairEncoder.of_decoder(tokenizer, "red " * 20 + "{query} {text}", 16, 8)


def test_long_pairs_are_cut_to_the_budget_query_first(tokenizer: Tokenizer) -> None:
    found = PairEncoder.of_encoder(tokenizer, max_tokens=16, max_query_tokens=5).encode(["red " * 20], ["oak " * 20])
    red, oak = tokenizer.token_to_id("red"), tokenizer.token_to_id("oak")
    # 16 less three special tokens: 5 of the query leave 8 for the text.
    assert found.rows == [[CLS, *[red] * 5, SEP, *[oak] * 8, SEP]]


def test_a_decoders_suffix_survives_the_cut(tokenizer: Tokenizer) -> None:
    encoder = PairEncoder.of_decoder(tokenizer, "{query}: {text} easy", max_tokens=16, max_query_tokens=5)
    (row,) = encoder.encode(["red " * 20], ["oak " * 20]).rows
    red, oak, colon, easy = (tokenizer.token_to_id(word) for word in ("red", "oak", ":", "easy"))
    assert row == [CLS, *[red] * 5, colon, *[oak] * 8, easy]


def test_pairs_that_did_not_fit_whole_are_counted(tokenizer: Tokenizer) -> None:
    # Room for 13: 5 of a query and 8 of a text, or what a shorter query leaves.
    queries = ["red " * 5, "red " * 6, "red " * 5, "red"]
    texts = ["oak " * 8, "oak", "oak " * 9, "oak " * 12]
    assert PairEncoder.of_encoder(tokenizer, 16, 5).encode(queries, texts).n_cut == 2


@pytest.mark.parametrize(("max_tokens", "max_query_tokens"), [(16, 64), (20, 16), (16, 13)])
def test_no_pair_is_longer_than_the_budget(tokenizer: Tokenizer, max_tokens: int, max_query_tokens: int) -> None:
    encoder = PairEncoder.of_encoder(tokenizer, max_tokens, max_query_tokens)
    rows = encoder.encode(["red " * 40, "red"], ["oak " * 40] * 2).rows
    assert max(len(row) for row in rows) == max_tokens


def test_a_batch_is_padded_to_its_longest_row() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_tokenizers_own_truncation_and_padding_are_put_aside(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    opened = load_tokenizer(tmp_path / "tokenizer.json")
    assert len(opened.encode("red " * 9).ids) == 11
    assert len(opened.encode("").ids) == 2


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_short_decoder_pair_is_what_the_tokenizer_makes_of_the_whole_text() -> None:
    # As Llama's and Qwen's: a word takes the space before it along.
    template = "Query: {query}\nItem: {text}\nRelevance:"
    whole = template.format(query="red sofa", text="oak")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces = [piece for piece, _ in byte_level.pre_tokenize_str(whole)]
    assert "Ġred" in pieces
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(["?", *pieces])}, unk_token="?"))
    tokenizer.pre_tokenizer = byte_level
    encoder = PairEncoder.of_decoder(tokenizer, template, max_tokens=32, max_query_tokens=8)
    assert encoder.encode(["red sofa"], ["oak"]).rows == [tokenizer.encode(whole).ids]
