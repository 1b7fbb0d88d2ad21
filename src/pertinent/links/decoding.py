"""The text of a page's bytes, whatever encoding it claims. Pages lie: the bytes go first where they are clear."""

from __future__ import annotations

import codecs
import re

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta\b[^>]{0,400}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml\b[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.\-]{2,40})", re.IGNORECASE)
_META_BYTES = 4_096  # browsers look at 1,024, but pages put scripts before it
# As browsers take them: a name stands for the larger encoding. Source: the WHATWG Encoding Standard.
_LARGER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
_STATEFUL = ("iso2022_jp", "hz")  # all their bytes are ASCII, so any of them is valid UTF-8 too


def decode_page(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """The text and the name of the encoding it was read in.

    declared: what the HTTP header said. The order: a byte order mark; UTF-16 by its zero bytes; UTF-8 where the bytes
    are valid UTF-8, which no other encoding's text is by chance; the header's, then the page's own declaration where
    the bytes are valid in it; a guess from the bytes (charset-normalizer); at last the declaration, or cp1252, with a
    replacement character for each wrong byte. The last bytes may be the beginning of a character: they are left out.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding, "replace"), encoding
    names = [name for name in (_known(declared), _known(_stated(data))) if name is not None]
    if (zeros := _zeros(data)) is not None:
        return _decoded(data, zeros, "replace"), zeros
    first = names if names and names[0] in _STATEFUL and (b"\x1b" in data or b"~{" in data) else ["utf-8", *names]
    for encoding in first:
        try:
            return _decoded(data, encoding, "strict"), encoding
        except UnicodeDecodeError:
            continue
    guess = _guessed(data)
    encoding = guess or (names[0] if names else "cp1252")
    return _decoded(data, encoding, "replace"), encoding


def _decoded(data: bytes, encoding: str, errors: str) -> str:
    return codecs.getincrementaldecoder(encoding)(errors).decode(data)  # not final: a cut-off character is no error


def _stated(data: bytes) -> str | None:
    head = data[:_META_BYTES]
    found = _XML.search(head) or _META.search(head)
    return found.group(1).decode("ascii") if found else None


def _known(name: str | None) -> str | None:
    """Python's name of an encoding, the larger one where browsers take it so; None for an unknown one."""
    if name is None:
        return None
    name = name.strip().strip("\"'")
    try:
        "a".encode(name)  # some names are of no text encoding: base64, rot13
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    if found.startswith(("utf-16", "utf-32", "utf-7", "idna", "punycode")):
        return None  # a page that could be read so far to find the name is in none of these
    return _LARGER.get(found, found)


def _zeros(data: bytes) -> str | None:
    """UTF-16 without a mark: of mostly Latin text every other byte is zero."""
    head = data[:_META_BYTES]
    if len(head) < 16:
        return None
    even, odd = head[0::2].count(0) / (len(head) / 2), head[1::2].count(0) / (len(head) / 2)
    if odd > 0.4 > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 > 4 * odd else None


def _guessed(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:65_536]).best()
    return None if best is None else _known(best.encoding)
