"""What a page says of itself: <title>, meta tags, Open Graph, and JSON-LD of schema.org."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pertinent.data.plain import one_line

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_MAX_DEPTH = 12
_MAX_NODES = 5_000
# Kinds of things that a page may be about, the best first.
PRODUCTS = ("product", "productgroup", "individualproduct", "productmodel", "vehicle", "car")
_OTHERS = ("recipe", "movie", "book", "event", "tvseries", "course", "softwareapplication", "localbusiness", "hotel", "restaurant",
           "article", "newsarticle", "blogposting", "howto", "creativework", "videoobject")  # fmt: skip
# What stands under these is another thing than the page's own.
_ELSEWHERE = ("isrelatedto", "issimilarto", "isaccessoryorsparepartfor", "itemlistelement", "review", "reviews", "author",
              "publisher", "seller", "breadcrumb", "hasvariant", "isconsumablefor")  # fmt: skip
_COMMENT = re.compile(
    r"^\s*(?:<!--|//\s*<!\[CDATA\[|/\*\s*<!\[CDATA\[\s*\*/|<!\[CDATA\[)|(?:-->|//\s*\]\]>|/\*\s*\]\]>\s*\*/|\]\]>)\s*;?\s*$"
)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Thing:
    """What JSON-LD says the page is about; a product where it says so of any. Texts are plain, one line each."""

    kind: str
    name: str | None = None
    description: str | None = None
    brand: str | None = None
    category: str | None = None
    color: str | None = None
    material: str | None = None
    price: str | None = None
    currency: str | None = None

    @property
    def is_product(self) -> bool:
        """Whether it is a product."""
        return self.kind in PRODUCTS


@dataclass(frozen=True)
class Metadata:
    """What a page says of itself; None where it does not."""

    title: str | None
    description: str | None
    og_title: str | None
    og_description: str | None
    site_name: str | None
    heading: str | None
    thing: Thing | None


def read_metadata(tree: HtmlElement) -> Metadata:
    """The metadata of a parsed page."""
    meta = _meta(tree)
    titles = tree.xpath("//title[not(ancestor::svg)]")
    headings = tree.xpath("//h1")
    return Metadata(
        title=next((text for one in titles if (text := plain(one.text_content()))), None),
        description=meta.get("description"),
        og_title=meta.get("og:title") or meta.get("twitter:title"),
        og_description=meta.get("og:description") or meta.get("twitter:description"),
        site_name=meta.get("og:site_name"),
        heading=next((text for one in headings if (text := plain(one.text_content()))), None),
        thing=_thing(tree),
    )


def plain(value: Any) -> str | None:
    """A text without tags, entities and control characters, on one line; None where nothing is left or it is no text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
        if "<" in text:  # tags that were escaped, as shops export them
            text = _TAG.sub(" ", text)
    return one_line(text) or None


def _meta(tree: HtmlElement) -> dict[str, str]:
    """name, property or itemprop of each meta tag, lower case -> its content; the first non-empty one counts."""
    found: dict[str, str] = {}
    for tag in tree.iter("meta"):
        name = tag.get("property") or tag.get("name") or tag.get("itemprop")
        content = plain(tag.get("content"))
        if name and content:
            found.setdefault(name.strip().lower(), content)
    return found


def _thing(tree: HtmlElement) -> Thing | None:
    nodes: list[tuple[str, dict[str, Any]]] = []
    for script in tree.iter("script"):
        if (script.get("type") or "").partition(";")[0].strip().lower() == "application/ld+json":
            for node in _nodes(parse_json_ld(script.text or ""), 0):
                nodes += [(kind, node) for kind in _kinds(node)]
                if len(nodes) > _MAX_NODES:
                    break
    for wanted in (PRODUCTS, *((kind,) for kind in _OTHERS)):
        for kind, node in nodes:
            if kind in wanted and (thing := _read_thing(kind, node)) is not None:
                return thing
    return None


def parse_json_ld(text: str) -> Any:
    """JSON as pages hold it: in comments, with raw line breaks in strings, trailing commas; None where it is none."""
    text = _COMMENT.sub("", _COMMENT.sub("", text.strip())).strip().rstrip(";")
    for attempt in (text, _TRAILING_COMMA.sub(r"\1", text), html.unescape(text)):
        try:
            return json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _nodes(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The objects in a document, outer ones first, without those of related things, lists and reviews."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for one in value:
            yield from _nodes(one, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key, one in value.items():
            if isinstance(one, dict | list) and key.lower() not in _ELSEWHERE:
                yield from _nodes(one, depth + 1)


def _kinds(node: dict[str, Any]) -> list[str]:
    """The types of a node without namespace, lower case."""
    types = node.get("@type")
    listed = types if isinstance(types, list) else [types]
    return [re.split(r"[/#:]", kind)[-1].lower() for kind in listed if isinstance(kind, str)]


def _read_thing(kind: str, node: dict[str, Any]) -> Thing | None:
    offer = _first(node.get("offers"))
    thing = Thing(
        kind=kind,
        name=_text(node.get("name")) or _text(node.get("headline")),
        description=_text(node.get("description")),
        brand=_text(node.get("brand")) or _text(node.get("manufacturer")),
        category=_text(node.get("category")),
        color=_text(node.get("color")),
        material=_text(node.get("material")),
        price=_price(offer),
        currency=_text(offer.get("priceCurrency"))
        or _text(_first(offer.get("priceSpecification")).get("priceCurrency")),
    )
    told = [getattr(thing, one.name) for one in fields(thing) if one.name != "kind"]
    return thing if any(told) else None


def _price(offer: dict[str, Any]) -> str | None:
    return (
        _text(offer.get("price"))
        or _text(offer.get("lowPrice"))
        or _text(_first(offer.get("priceSpecification")).get("price"))
    )


def _first(value: Any) -> dict[str, Any]:
    """The first object in a value; an empty one where there is none."""
    listed = value if isinstance(value, list) else [value]
    return next((one for one in listed if isinstance(one, dict)), {})


def _text(value: Any) -> str | None:
    """A property as text: of a list its first value, of an object its name, of a language-tagged one its @value."""
    if isinstance(value, list):
        return next((text for one in value if (text := _text(one)) is not None), None)
    if isinstance(value, dict):
        return _text(value.get("name")) or plain(value.get("@value"))
    return plain(value)
