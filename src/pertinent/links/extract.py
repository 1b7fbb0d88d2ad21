"""One saved page -> the title and description of a link."""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pertinent.data.plain import sentence_ends
from pertinent.links.config import LinksConfig
from pertinent.links.decoding import decode_page
from pertinent.links.metadata import Metadata, Thing, read_metadata

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_GZIP = b"\x1f\x8b"
_NOT_HTML = (
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"GIF8", "a GIF"),
    (b"PK\x03\x04", "a ZIP"),
)
# Titles of pages that stand in for the one that was asked for.
_BLOCKED = re.compile(
    r"(?:just a moment|attention required!?|access (?:to this page has been )?denied|(?:page )?not found|forbidden"
    r"|(?:(?:http )?error )?(?:40[0-9]|410|429|50[0-4])(?: error)?(?:[ :,-]+(?:page )?(?:not found|forbidden|unauthori[sz]ed"
    r"|access denied|bad request|gone|too many requests|internal server error|bad gateway|service unavailable|gateway time-?out))?"
    r"|are you (?:a )?(?:human|robot)|robot check|security check|please verify you are (?:a )?human|captcha"
    r"|pardon our interruption|(?:internal )?server error|service unavailable|bad gateway|under maintenance|log ?in|sign ?in)[\s.!?…]*",
    re.IGNORECASE,
)
_PARTS_OF_TITLE = re.compile(r"\s+[|·»–—-]\s+")
_SEPARATORS = (" | ", " - ", " – ", " — ", " · ", " : ", ": ", " » ")


class PageError(Exception):
    """A page gives no text. Its text is a quarantine reason: "page must be EXPECTED, got FOUND"."""


@dataclass(frozen=True)
class LinkText:
    """What a page gives. cut: whether bytes over the limit were left. lead: the beginning of its main text."""

    link_title: str | None
    link_description: str | None
    metadata: Metadata
    lead: str | None
    encoding: str
    cut: bool


def read_page(page: bytes | str, config: LinksConfig, declared: str | None = None) -> LinkText:
    """Read a page. declared: the encoding that its HTTP header named.

    link_title: the first of the product's name (JSON-LD), og:title, <title>, another thing's name (JSON-LD), the first
    <h1>; a site's name at its end is taken off. link_description: these parts in this order, each left out where the
    ones before it say the same: facts of the product (brand, colour, material, category), its description, og:description,
    the meta description, another thing's description, the lead of the main text.
    Raises PageError for an empty page, one that is no HTML, and a page that stands in for another ("Access denied").
    """
    text, encoding, cut = _text_of(page, config.pages.max_bytes, declared)
    tree = _parse(text)
    metadata = read_metadata(tree)
    parts = _PARTS_OF_TITLE.split(metadata.title or "")
    if metadata.thing is None and (_BLOCKED.fullmatch(parts[0]) or _BLOCKED.fullmatch(parts[-1])):
        raise PageError(f"page must be the one that was asked for, got {str(metadata.title)[:80]!r}")
    lead = _lead(text, metadata, config.lead_chars)
    title, description = _title(metadata, config.max_title_chars), _description(metadata, lead, config)
    if title is None and description is None:
        raise PageError("page must have a title, a description or a main text, got none")
    return LinkText(title, description, metadata, lead, encoding, cut)


def _text_of(page: bytes | str, max_bytes: int, declared: str | None) -> tuple[str, str, bool]:
    """Text, encoding, and whether the page was cut."""
    if isinstance(page, str):
        data = page.encode("utf-8", "replace")
        cut = len(data) > max_bytes
        return (data[:max_bytes].decode("utf-8", "ignore") if cut else page), "utf-8", cut
    if page.startswith(_GZIP):
        page = _unpacked(page, max_bytes + 1)
    kind = next((name for mark, name in _NOT_HTML if page.startswith(mark)), None)
    if kind is not None:
        raise PageError(f"page must be HTML, got {kind}")
    text, encoding = decode_page(page[:max_bytes], declared)
    return text, encoding, len(page) > max_bytes


def _unpacked(page: bytes, max_bytes: int) -> bytes:
    """What a gzip file holds, as far as it can be read."""
    parts: list[bytes] = []
    with gzip.GzipFile(fileobj=io.BytesIO(page)) as stream:
        try:
            while max_bytes > 0 and (part := stream.read(min(max_bytes, 65_536))):
                parts.append(part)
                max_bytes -= len(part)
        except (OSError, EOFError, zlib.error):
            if not parts:
                raise PageError("page must be a whole gzip file, got a damaged one") from None
    return b"".join(parts)


def _parse(text: str) -> HtmlElement:
    """The tree of a page, broken or not: lxml's parser recovers as browsers of old did."""
    from lxml import etree, html

    text = text.replace("\0", "")
    if not text.strip():
        raise PageError("page must not be empty, got no text")
    if "<" not in text:
        raise PageError("page must be HTML, got a text without a tag")
    # As bytes, for a text that names an encoding in an XML declaration is refused. huge_tree stays off: it bounds depth.
    parser = html.HTMLParser(encoding="utf-8", recover=True, remove_comments=True)
    try:
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.LxmlError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PageError(f"page must be HTML that can be parsed, got {reason[:80]}") from None
    return tree


def _lead(text: str, metadata: Metadata, lead_chars: int) -> str | None:
    """The beginning of the main text, without menus, footers and cookie notices, and without the title once more."""
    if lead_chars == 0:
        return None
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it would tell of each page without a main text
    try:
        found = trafilatura.extract(
            text, fast=True, favor_precision=True, include_comments=False, include_tables=False, deduplicate=False
        )
    except Exception:  # an extractor's fault costs the lead alone; what the page says of itself is read already
        return None
    lines = [" ".join(line.split()) for line in (found or "").splitlines()]
    titles = {title.casefold() for title in (metadata.title, metadata.og_title, metadata.heading) if title}
    while lines and (not lines[0] or lines[0].casefold() in titles):
        lines.pop(0)
    paragraphs = " ".join(line for line in lines if line)
    return cut_text(paragraphs, lead_chars) if paragraphs else None


def _title(metadata: Metadata, max_chars: int) -> str | None:
    thing = metadata.thing
    product = thing.name if thing is not None and thing.is_product else None
    other = thing.name if thing is not None else None
    ranked = (product, metadata.og_title, metadata.title, other, metadata.heading)
    title = next((title for title in ranked if title), None)
    return cut_text(_without_site(title, metadata.site_name), max_chars, sentences=False) if title else None


def _without_site(title: str, site: str | None) -> str:
    """ "Oak table | Shop" -> "Oak table", where the page says that the site is called "Shop"."""
    if site is None:
        return title
    for separator in _SEPARATORS:
        end, start = f"{separator}{site}".casefold(), f"{site}{separator}".casefold()
        if title.casefold().endswith(end) and len(title) > len(end):
            return title[: -len(end)].rstrip()
        if title.casefold().startswith(start) and len(title) > len(start):
            return title[len(start) :].lstrip()
    return title


def _description(metadata: Metadata, lead: str | None, config: LinksConfig) -> str | None:
    thing = metadata.thing
    product = thing is not None and thing.is_product
    parts = [
        _facts(thing) if thing is not None and product else None,
        thing.description if thing is not None and product else None,
        metadata.og_description,
        metadata.description,
        thing.description if thing is not None and not product else None,
        lead,
    ]
    said: list[str] = []
    for part in parts:
        if part and not any(_says(earlier, part) for earlier in said):
            # A part that says all of an earlier one, and more, takes its place.
            said = [earlier for earlier in said if not _says(part, earlier)] + [part]
    return cut_text(" ".join(said), config.max_description_chars) if said else None


def _facts(thing: Thing) -> str | None:
    facts = dict.fromkeys(fact for fact in (thing.brand, thing.color, thing.material, thing.category) if fact)
    return ", ".join(facts) + "." if facts else None


def _says(longer: str, shorter: str) -> bool:
    """Whether a text holds another one, but for case, spaces, and an ellipsis where that was cut."""
    end = shorter.casefold().rstrip(" .…")
    return bool(end) and end in longer.casefold()


def cut_text(text: str, max_chars: int, *, sentences: bool = True) -> str:
    """The text, or its beginning: whole sentences where these make half of the limit, else whole words with "…"."""
    if len(text) <= max_chars:
        return text
    ends = [end for end in sentence_ends(text) if max_chars / 2 <= end <= max_chars]
    if sentences and ends:
        return text[: ends[-1]].rstrip()
    head = text[: max_chars - 1]
    space = head.rfind(" ")
    return (head[:space] if space >= max_chars / 2 else head).rstrip(" ,;:-–") + "…"
