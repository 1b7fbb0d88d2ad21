from __future__ import annotations

import json
from typing import Any

import pytest
from lxml import html

from pertinent.links.metadata import Metadata, Thing, parse_json_ld, plain, read_metadata


def read(source: str) -> Metadata:
    return read_metadata(html.document_fromstring(source))


def thing_of(*documents: Any) -> Thing | None:
    scripts = "".join(f'<script type="application/ld+json">{json.dumps(one)}</script>' for one in documents)
    return read(f"<html><head>{scripts}</head><body><p>x</p></body></html>").thing


def test_title_meta_and_open_graph() -> None:
    found = read(
        "<html><head><title>\n Oak  &amp; more </title><meta name=DESCRIPTION content='A &lt;b&gt;table&lt;/b&gt;'>"
        "<meta property='og:title' content=''><meta property='og:title' content='Second counts'>"
        "<meta name='twitter:description' content='Said to a bird'><meta property='og:site_name' content='Shop'>"
        "</head><body><svg><title>icon</title></svg><h1> </h1><h1>Head <i>line</i></h1></body></html>"
    )
    assert found == Metadata("Oak & more", "A table", "Second counts", "Said to a bird", "Shop", "Head line", None)


def test_the_title_of_a_drawing_is_not_the_pages() -> None:
    assert read("<html><body><svg><title>icon</title></svg><p>x</p></body></html>").title is None


def test_a_product_with_all_its_fields() -> None:
    offers = {"@type": "AggregateOffer", "lowPrice": "9.50", "priceCurrency": "GBP"}
    brand = {"@type": "Brand", "name": ["Nook", "Other"]}
    node = {
        "@type": "https://schema.org/Product",
        "name": "Mug",
        "description": "<p>Glazed&nbsp;mug</p>",
        "offers": offers,
    }
    node |= {"brand": brand, "color": {"@value": "blue"}, "material": "clay", "category": ["Mugs", "Cups"]}
    assert thing_of(node) == Thing("product", "Mug", "Glazed mug", "Nook", "Mugs", "blue", "clay", "9.50", "GBP")


@pytest.mark.parametrize(
    ("offers", "price", "currency"),
    [
        ([{"price": 1290.0, "priceCurrency": "EUR"}, {"price": 5}], "1290", "EUR"),
        ({"priceSpecification": [{"price": 3.25, "priceCurrency": "CHF"}]}, "3.25", "CHF"),
        ("none", None, None),
        (None, None, None),
    ],
)
def test_prices_in_their_several_forms(offers: Any, price: str | None, currency: str | None) -> None:
    thing = thing_of({"@type": "Product", "name": "Mug", "offers": offers})
    assert thing is not None
    assert (thing.price, thing.currency) == (price, currency)


def test_a_product_goes_before_the_other_things_wherever_it_stands() -> None:
    page = {"@type": "WebPage", "mainEntity": {"@type": "Product", "name": "Mug"}}
    assert thing_of({"@type": "Article", "headline": "Ten mugs"}, {"@graph": [page]}) == Thing("product", "Mug")
    assert thing_of({"@type": "NewsArticle", "headline": "Ten mugs"}) == Thing("newsarticle", "Ten mugs")


@pytest.mark.parametrize("key", ["isRelatedTo", "isSimilarTo", "itemListElement", "review"])
def test_the_products_of_lists_and_recommendations_are_not_the_pages(key: str) -> None:
    assert thing_of({"@type": "WebPage", key: [{"@type": "Product", "name": "Other"}]}) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '<!-- {"a": 1} -->',
        '//<![CDATA[\n{"a": 1}\n//]]>',
        '/* <![CDATA[ */ {"a": 1} /* ]]> */',
        '{"a": 1,}',
        "{&quot;a&quot;: 1}",
        ' {"a": 1}; ',
    ],
)
def test_json_ld_is_read_as_pages_hold_it(text: str) -> None:
    assert parse_json_ld(text) == {"a": 1}


def test_raw_line_breaks_in_strings_are_taken() -> None:
    assert parse_json_ld('{"a": "one\ntwo"}') == {"a": "one\ntwo"}


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "window.x = 1", '{"a": ' * 5_000])
def test_what_is_no_json_is_nothing(text: str) -> None:
    assert parse_json_ld(text) is None


def test_a_document_nested_without_end_is_left_at_some_depth() -> None:
    node: Any = {"@type": "Product", "name": "deep"}
    for _ in range(100):
        node = {"x": node}
    assert thing_of(node) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\u200b \n b", "a b"),
        ("3 < 5", "3 < 5"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        (True, None),
        (None, None),
        ("<br>", None),
        (7, "7"),
        (7.5, "7.5"),
    ],
)
def test_plain_text(value: Any, expected: str | None) -> None:
    assert plain(value) == expected
