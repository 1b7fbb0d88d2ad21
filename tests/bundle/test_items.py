from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.rows import encoding_of, read_records
from pertinent.errors import DataError, ModelError
from pertinent.files import write_parquet
from pertinent.text.sources import read_sources
from shops import ITEMS, QUERIES, Shop, make_shop

EVERY = np.arange(len(ITEMS))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_backbone / "tokenizer.json")


@pytest.fixture(scope="module")
def scorer(shop: Shop) -> Scorer:
    return open_bundle(shop.bundle)


@pytest.fixture(scope="module")
def encoder(shop: Shop, scorer: Scorer) -> ItemEncoder:
    return ItemEncoder.of(scorer, shop.bundle)


def test_raw_items_are_encoded_as_at_the_export_to_the_last_bit(encoder: ItemEncoder, scorer: Scorer) -> None:
    assert {len(side.values(EVERY)[0]) for side in scorer.sides} == {1, 2, 3}
    assert encoder.encode(encoder.clean(ITEMS)).records() == scorer.items_at(EVERY).records()
    # One at a time, and from the data stage's own table, it is the same.
    one = [encoder.encode(encoder.clean([item])).records()[0] for item in ITEMS]
    assert one == scorer.items_at(EVERY).records()


def test_the_data_stages_parquet_is_encoded_the_same(encoder: ItemEncoder, scorer: Scorer, shop: Shop) -> None:
    rows = pl.read_parquet(shop.data / "items.parquet")
    items, broken = encoder.clean_frame("items", rows, pl.Series(range(rows.height), dtype=pl.Int64))
    assert broken.height == 0
    assert encoder.encode(items).records() == scorer.items_at(EVERY).records()


def test_records_give_the_inputs_of_the_bundles_own_rows(scorer: Scorer) -> None:
    records = scorer.items_at(EVERY).records()
    items, places = read_records(records, scorer.encoder.dimensions, scorer.sides)
    assert places.tolist() == EVERY.tolist()
    back = np.array([4, 0, 0, 2])
    for query in QUERIES:
        for ours, theirs in zip(scorer.inputs(query, EVERY), scorer.inputs_of(query, items), strict=True):
            assert (ours == theirs).all()
        for ours, theirs in zip(scorer.inputs(query, back), scorer.inputs_of(query, items.take(back)), strict=True):
            assert (ours == theirs).all()
    assert len(read_records([], scorer.encoder.dimensions, scorer.sides)[0]) == 0


def test_a_record_that_is_not_whole_is_left_out_and_never_read_as_another(scorer: Scorer) -> None:
    first, second, third = scorer.items_at(np.arange(3)).records()
    negative = first[:16] + struct.pack("<i", -1) + first[20:]
    broken = [first[:-4], first + b"\0\0\0\0", first[:-1], b"", b"x" * 40, negative]
    items, places = read_records([second, *broken, third], scorer.encoder.dimensions, scorer.sides)
    assert places.tolist() == [0, len(broken) + 1]
    assert items.records() == [second, third]


def test_a_digest_tells_whether_anything_changed(encoder: ItemEncoder) -> None:
    def digest(**changes: object) -> bytes:
        return encoder.encode(encoder.clean([{**ITEMS[0], **changes}])).records()[0][:16]

    assert digest() == digest(image="another.png")  # which nothing reads
    changes = [{"title": "Red sofa"}, {"tags": ["large"]}, {"numeric": {"price": 241}}, {"color": "green"}]
    assert len({digest(), *(digest(**change) for change in changes)}) == 5


def test_what_was_given_is_read_again_and_what_was_learned_from_logs_stays(
    encoder: ItemEncoder, scorer: Scorer
) -> None:
    new = {"item_id": "new", "title": "Blue couch", "color": "green", "numeric": {"price": 7}}
    items = encoder.encode(encoder.clean([new, {**new, "item_id": "sofa"}]))
    columns, rates, interest, graph = (side.values(np.arange(2)) for side in items.sides)
    assert columns.tolist() == [[7, 0, 0], [7, 0, 0]]
    assert interest[0] == interest[1] == scorer.sides[2].values(np.array([2]))[0]  # green, as the rug
    assert (rates[1] == scorer.sides[1].values(np.array([0]))[0]).all()
    assert (graph[1] == scorer.sides[3].values(np.array([0]))[0]).all()
    assert rates[0].tolist() == pytest.approx([spec.default for spec in scorer.sides[1].specs])
    assert graph[0].tolist() == [0, 0]


def test_an_attribute_is_a_list_or_a_text_as_it_was_at_the_export(encoder: ItemEncoder) -> None:
    def records(**changes: object) -> list[bytes]:
        return encoder.encode(encoder.clean([{**ITEMS[2], **changes}])).records()

    assert records(tags="large|modern") == records(tags=["large", "modern"])
    assert records(color="oak|red") == records(color="oak - red")  # a text, cleaned as any


def test_fields_of_other_stages_are_laid_over_the_items(
    encoder: ItemEncoder, shop: Shop, tmp_path: Path, tiny_backbone: Path
) -> None:
    captions = pl.DataFrame({"item_id": ["rug"], "text_version": [-1], "captions": [["oak and velvet"]]})
    write_parquet(tmp_path / "fields.parquet", captions)
    sources, _ = read_sources([tmp_path])
    laid = encoder.encode(encoder.clean(ITEMS[2:3]), sources)
    said = encoder.encode(encoder.clean([{**ITEMS[2], "captions": ["oak and velvet"]}]))
    assert laid.records() == said.records()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"title": "no id"}, "expected the column item_id"),
        ({"item_id": " ", "title": "a"}, "items.0: item_id must not be empty"),
        ({"item_id": "a", "colour": "red"}, "items.0: unknown field colour; did you mean color?"),
        ({"item_id": "a", "boards": [{"count": 3}]}, "items.0: boards must be a list of"),
        ({"item_id": "a", "numeric": {"price": "dear"}}, "items.0: numeric.price must be a finite number, got dear"),
        ({"item_id": "a", "embedding": [1.0]}, "embedding: expected 2 numbers, found 1"),
    ],
)
def test_a_broken_item_is_told_in_one_line(encoder: ItemEncoder, item: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        encoder.encode(encoder.clean([item]))


def test_another_network_or_features_have_another_encoding(shop: Shop, tmp_path: Path, tiny_backbone: Path) -> None:
    description = open_bundle(shop.bundle).description
    same = {
        **description,
        "files": {**description["files"], "items/ids.rows.npy": "other", "items/probe.parquet": "other"},
    }
    assert encoding_of(same) == encoding_of(description)
    for file in ("token_vectors.npy", "tokenizer.json", "corpus/terms.rows.npy", "sides/sides.json", "student.onnx"):
        changed = {**description, "files": {**description["files"], file: "other"}}
        assert encoding_of(changed) != encoding_of(description), file
    assert encoding_of({**description, "item_text": None}) != encoding_of(description)
    vectors = {**description["vectors"], "precision": "int8"}  # no file but the store's tells it from float32
    assert encoding_of({**description, "vectors": vectors}) != encoding_of(description)


def test_a_bundle_that_does_not_tell_its_texts_is_refused(whole_bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"item_text\), found none; export it again"):
        ItemEncoder.of(open_bundle(whole_bundle), whole_bundle)
