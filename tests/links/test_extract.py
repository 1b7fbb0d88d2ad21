from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pertinent.links.config import LinksConfig
from pertinent.links.extract import PageError, cut_text, read_page

CONFIG = LinksConfig.model_validate({"pages": {"folder": "."}})
SENTENCES = "One small box stands on the table. Another box stands beside it on the floor. "


def config(**changes: object) -> LinksConfig:
    return CONFIG.model_copy(update=changes)


def test_the_parts_come_in_the_stated_order(product_page: str) -> None:
    found = read_page(product_page.encode(), CONFIG)
    assert found.link_title == "Harrow trestle table"
    assert found.link_description is not None
    order = [
        "Nook, natural oak, oak.",  # brand, colour, material
        "Trestle table in oiled oak, 240 cm.",  # the product's description
        "A dining table for eight in solid oak.",  # og:description
        "Buy the Harrow dining table online.",  # the meta description
        "The Harrow dining table seats eight people",  # the lead
    ]
    assert [found.link_description.index(part) for part in order] == sorted(
        found.link_description.index(part) for part in order
    )
    assert found.link_description.startswith(order[0])
    for absent in ("Cookies", "Home", "Harrow bench", "1290"):
        assert absent not in found.link_description
    assert found.lead is not None
    assert found.lead.startswith("The Harrow dining table seats")  # not the heading once more
    assert found.metadata.thing is not None
    assert (found.metadata.thing.price, found.metadata.thing.currency) == ("1290", "EUR")


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<title>Oak table | Shop</title><meta property='og:site_name' content='Shop'>", "Oak table"),
        ("<title>SHOP - Oak table</title><meta property='og:site_name' content='Shop'>", "Oak table"),
        ("<title>Oak table | Shop</title>", "Oak table | Shop"),  # nothing says that this is the site
        ("<title>Shop</title><meta property='og:site_name' content='Shop'>", "Shop"),
        ("<title>A</title><meta property='og:title' content='B'>", "B"),
        ("", "Heading"),
    ],
)
def test_titles(head: str, title: str) -> None:
    assert read_page(f"<html><head>{head}</head><body><h1>Heading</h1></body></html>", CONFIG).link_title == title


@pytest.mark.parametrize("first", ["An oak table for eight, oiled.", "AN OAK TABLE FOR EIGHT, oiled."])
def test_a_shorter_part_after_a_longer_one_is_left_out(first: str) -> None:
    head = (
        f"<meta property='og:description' content='{first}'><meta name='description' content='An oak table for eight…'>"
    )
    assert read_page(f"<html><head><title>T</title>{head}</head></html>", CONFIG).link_description == first


def test_a_part_that_an_earlier_one_holds_is_not_said_twice() -> None:
    head = "<meta property='og:description' content='An oak table for…'><meta name='description' content='An oak table for eight.'>"
    found = read_page(f"<html><head><title>T</title>{head}</head><body></body></html>", CONFIG)
    assert found.link_description == "An oak table for eight."


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"", "page must not be empty, got no text"),
        (b" \n\0 ", "page must not be empty, got no text"),
        (b"just words", "page must be HTML, got a text without a tag"),
        (b"%PDF-1.7 <x>", "page must be HTML, got a PDF"),
        (b"\x1f\x8b\x08\x00broken", "page must be a whole gzip file, got a damaged one"),
        ("<title>Just a moment...</title>", "page must be the one that was asked for, got 'Just a moment...'"),
        ("<title>404 Not Found</title><h1>404</h1>", "page must be the one that was asked for, got '404 Not Found'"),
        ("<title>Access denied | Shop</title>", "page must be the one that was asked for, got 'Access denied | Shop'"),
        (
            "<title>Shop – Error 503: Service unavailable</title>",
            "page must be the one that was asked for, got 'Shop – Error 503: Service unavailable'",
        ),
        ("<div></div>", "page must have a title, a description or a main text, got none"),
    ],
)
def test_a_page_without_text_says_why(page: bytes | str, reason: str) -> None:
    with pytest.raises(PageError) as error:
        read_page(page, CONFIG)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    "title", ["403 Main Street lofts", "Not found in nature: ten colours", "Log in cabin style bed frame of solid pine"]
)
def test_titles_that_begin_like_an_error_are_kept_where_they_go_on(title: str) -> None:
    assert read_page(f"<title>{title}</title><p>x</p>", CONFIG).link_title == title


@pytest.mark.parametrize(
    "source",
    [
        "<title>Oak</title><body><p>unclosed <b>bold <table><tr><td>cell",
        "</div></p><title>Oak</title></head></html><p>after the end",
        '<?xml version="1.0" encoding="utf-16"?><html><head><title>Oak</title></head></html>',
        "<html><head><title>Oak</title><script>if (a<b && c>d) {</head><body>",
        "<title>Oak</title>" + "<div>" * 20_000,
        "\x00<ti\x00tle>Oak</title>",
    ],
)
def test_broken_html_gives_what_it_has(source: str) -> None:
    assert read_page(source, CONFIG).link_title == "Oak"


def test_a_page_of_many_megabytes_is_read_to_the_limit() -> None:
    page = b"<title>Oak</title><p>" + b"word " * 1_000_000 + b"</p><h1>end</h1>"
    limited = config(pages=CONFIG.pages.model_copy(update={"max_bytes": 10_000}))
    found = read_page(page, limited)
    assert (found.link_title, found.cut) == ("Oak", True)
    assert found.metadata.heading is None
    assert read_page(gzip.compress(page), limited).cut
    assert not read_page(gzip.compress(b"<title>Oak</title>"), limited).cut


def test_a_gzip_bomb_is_unpacked_to_the_limit_only() -> None:
    bomb = gzip.compress(b"<title>Oak</title>" + b"\0" * 20_000_000, compresslevel=1)
    limited = config(pages=CONFIG.pages.model_copy(update={"max_bytes": 10_000}))
    assert read_page(bomb, limited).link_title == "Oak"


def test_lengths() -> None:
    page = f"<title>{'long title ' * 50}</title><meta name=description content='{SENTENCES * 20}'>"
    found = read_page(page, config(max_title_chars=40, max_description_chars=100))
    assert found.link_title == "long title long title long title long…"
    assert found.link_description == SENTENCES.strip()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (200, SENTENCES.strip()),
        (60, "One small box stands on the table."),  # a whole sentence of over half of the limit
        (20, "One small box…"),
        (9, "One…"),
    ],
)
def test_cut_text(limit: int, expected: str) -> None:
    found = cut_text(SENTENCES.strip(), limit)
    assert len(found) <= limit
    if limit != 9:
        assert found == expected


def test_no_lead_is_asked_for(product_page: str) -> None:
    found = read_page(product_page, config(lead_chars=0))
    assert found.lead is None
    assert "seats eight" not in str(found.link_description)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet="<>/ab=\"' &;!-[]{}\n", max_size=200).map(lambda t: t.encode()))
)
def test_whatever_the_bytes_only_a_page_error_comes(data: bytes) -> None:
    try:
        found = read_page(data, CONFIG)
    except PageError as error:
        assert str(error).startswith("page must ")  # noqa: PT017
    else:
        assert found.link_title or found.link_description
