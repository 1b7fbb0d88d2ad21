from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pertinent.config import parse_config
from pertinent.errors import ConfigError
from pertinent.text.config import FieldConfig, TextConfig
from pertinent.text.representation import Field, ItemText, entries_of, lay_out, render, split_fields
from pertinent.text.tokens import PhraseTokens


def _word_tokenizer() -> Tokenizer:
    """A token a word or a punctuation mark, so that budgets can be counted by hand."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


TOKENIZER = _word_tokenizer()


def n_tokens(text: str) -> int:
    return len(TOKENIZER.encode(text, add_special_tokens=False).ids)


def rendered(fields: list[Field], max_tokens: int, **budgets: int) -> ItemText:
    return render(fields, PhraseTokens(TOKENIZER), config_of(max_tokens, **budgets))


def config_of(max_tokens: int, drop_repeats: bool = True, **budgets: int) -> TextConfig:
    return TextConfig(
        fields=tuple(FieldConfig(name=name, tokens=tokens) for name, tokens in budgets.items()),
        max_tokens=max_tokens,
        drop_repeats=drop_repeats,
    )


def test_whole_fields_are_tagged_and_joined_in_order() -> None:
    fields = [Field("title", ["red sofa"]), Field("link_title", ["buy sofas here"])]
    item = rendered(fields, 80, title=8, link_title=8)
    # Tags: "title:" is 2 tokens, "link title:" is 3; values 2 and 3; the mark between them 1.
    assert item == ItemText("title: red sofa | link title: buy sofas here", 11, 0)
    assert split_fields(item.text) == ["title: red sofa", "link title: buy sofas here"]


def test_a_field_leaves_the_others_their_budgets() -> None:
    # 8 tokens for two values of 6 and budgets of 3: 3 each, and the 2 left over to the first.
    fields = [Field("a", ["p q r s t u"]), Field("b", ["v w x y z z"])]
    assert rendered(fields, 13, a=3, b=3) == ItemText("a: p q r s t | b: v w x", 13, 2)


def test_a_field_is_cut_and_the_others_stay_whole() -> None:
    # 9 tokens are left after title (2 + 2): the mark takes 1, the tag of body 2 and its value the other 6 of 10.
    fields = [Field("title", ["red sofa"]), Field("body", ["a b c d e f g h i j"])]
    item = rendered(fields, 13, title=8, body=6)
    assert item == ItemText("title: red sofa | body: a b c d e f", 13, 1)


def test_tokens_left_over_go_to_the_first_cut_field() -> None:
    # Grants by budget: a 2 of 5, b 1 of 1, c 2 of 4; tags 2 each, 2 marks. 16 - 6 - 2 - 5 leaves 3: all go to a.
    fields = [Field("a", ["p q r s t"]), Field("b", ["u"]), Field("c", ["v w x y"])]
    item = rendered(fields, 16, a=2, b=5, c=2)
    assert item == ItemText("a: p q r s t | b: u | c: v w", 16, 1)


def test_a_list_is_cut_at_a_whole_entry() -> None:
    # The tag and "two words" cost 2 each, ", four more words here" 4 + 1: together 9, and ", x" makes it 11.
    field = Field("captions", ["two words", "four more words here", "x"])
    assert rendered([field], 8, captions=5) == ItemText("captions: two words", 4, 1)
    assert rendered([field], 10, captions=5) == ItemText("captions: two words, four more words here", 9, 1)
    assert rendered([field], 11, captions=5) == ItemText("captions: two words, four more words here, x", 11, 0)


def test_a_first_entry_that_does_not_fit_is_cut_like_a_text() -> None:
    field = Field("captions", ["one two three four five six seven eight", "x"])
    assert rendered([field], 8, captions=3) == ItemText("captions: one two three four five six", 8, 1)


def test_a_field_without_entries_or_room_leaves_no_tag() -> None:
    fields = [Field("title", ["a b c d e f g h"]), Field("body", []), Field("more", ["x y"])]
    assert rendered(fields, 10, title=8, body=4, more=4) == ItemText("title: a b c d e f g h", 10, 1)
    assert rendered([], 10, title=4) == ItemText("", 0, 0)


def test_what_an_earlier_field_says_is_left_out_and_its_tokens_go_to_others() -> None:
    fields = [
        Field("title", ["red sofa"]),
        Field("body", ["Red sofa: p q r s t u v"], is_text=True),
        Field("boards", ["sofa", "q r", "oak"]),
    ]
    # Values: title 2 of 2; body 7 once its title is gone, in a budget of 4; boards 1. Tags 2 each, marks 1 each.
    item = rendered(fields, 8 + 2 + 7 + 1, title=2, body=4, boards=4)
    assert item == ItemText("title: red sofa | body: p q r s t u v | boards: oak", 18, 0, 3)
    whole = render(fields, PhraseTokens(TOKENIZER), config_of(99, drop_repeats=False, title=2, body=4, boards=4))
    assert whole.text == "title: red sofa | body: Red sofa: p q r s t u v | boards: sofa, q r, oak"


def test_only_what_a_field_is_sure_to_write_counts_as_said() -> None:
    # body is sure of two tokens, "p q": "r s" stands in its cut part, and so stays in boards.
    fields = [Field("body", ["p q r s"], is_text=True), Field("boards", ["q", "r s"])]
    # "q" stays too: the word that a cut ends with may be a part of one.
    assert rendered(fields, 11, body=2, boards=8).text == "body: p q | boards: q, r s"


def test_a_field_that_is_all_said_leaves_no_tag() -> None:
    fields = [
        Field("title", ["red sofa"]),
        Field("link_title", ["RED SOFA"], is_text=True),
        Field("captions", ["sofa"]),
    ]
    assert rendered(fields, 80, title=8, link_title=8, captions=8) == ItemText("title: red sofa", 4, 0, 2)


def test_the_layout_tells_tokens_budgets_cuts_and_repeats() -> None:
    fields = [Field("title", ["a b c d e"], is_text=True), Field("boards", ["b c", "x", "y z y z"])]
    title, boards = lay_out(fields, PhraseTokens(TOKENIZER), config_of(12, title=4, boards=8))
    # 12 - 2 (tag) - 4 - 3 (tag and mark) leaves 3 of the 6 that boards needs; none are left over.
    assert (title.value, title.n_tokens, title.budget, title.granted, title.cut) == ("a b c d", 4, 4, 4, ("e",))
    assert (boards.value, boards.n_tokens, boards.granted) == ("x", 1, 3)
    assert (boards.cut, boards.repeated, boards.n_fixed) == (("y z y z",), ("b c",), 3)


WORDS = st.lists(st.sampled_from(["red", "oak", "sofa", "of", "velvet"]), min_size=1, max_size=12).map(" ".join)
FIELDS = st.lists(st.lists(WORDS, max_size=4, unique=True), min_size=1, max_size=4)


@given(FIELDS, st.integers(8, 60), st.integers(1, 20))
def test_the_text_is_within_max_tokens(entries: list[list[str]], max_tokens: int, budget: int) -> None:
    fields = [Field(f"f{i}", entry) for i, entry in enumerate(entries)]
    item = rendered(fields, max_tokens, **{field.name: budget for field in fields})
    assert n_tokens(item.text) == item.n_tokens <= max_tokens
    assert (item.n_cut == item.n_repeated == 0) == (
        item.text == " | ".join(f"{f.name}: {', '.join(f.entries)}" for f in fields if f.entries)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("  <b>Red</b> sofa ", ["Red sofa"]),
        ("", []),
        (["sofa", None, " ", "sofa", "chair"], ["sofa", "chair"]),
        (
            [
                {"title": "b", "count": 2},
                {"title": "a", "count": 9},
                {"title": "c", "count": None},
                {"title": None, "count": 5},
            ],
            ["a", "b", "c"],
        ),
        (
            [{"query": "y", "weight": 1.0}, {"query": "x", "weight": 1.0}, {"query": "z", "weight": 1.5}],
            ["z", "x", "y"],
        ),
        ([], []),
    ],
)
def test_entries_are_clean_distinct_and_best_first(value: object, expected: list[str]) -> None:
    assert entries_of(value) == expected


def test_a_field_named_twice_is_a_config_error() -> None:
    tree = {"fields": [{"name": "title", "tokens": 4}, {"name": "title", "tokens": 8}]}
    with pytest.raises(ConfigError, match="text: fields: a field is named twice in title, title"):
        parse_config(TextConfig, tree, "text")
