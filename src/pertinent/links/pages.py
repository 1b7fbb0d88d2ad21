"""Where saved pages come from: files, a column, or WARC files."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pertinent.data.columns import Entry
from pertinent.errors import DataError
from pertinent.files import reason_of
from pertinent.links.config import PagesConfig
from pertinent.links.extract import PageError

_ENDINGS = (".html", ".htm", ".html.gz", ".htm.gz")
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Page:
    """The content of one saved page. declared: the encoding of its HTTP header."""

    content: bytes | str
    declared: str | None = None


def load_page(entry: Entry, config: PagesConfig) -> Page | None:
    """The page of an entry; None where its item has no page by its name. Raises PageError."""
    if config.holds == "html":
        return Page(entry.value)
    assert config.folder is not None
    if config.holds == "name":
        # An id may hold a slash: it is written as in a URL.
        names = [
            f"{stem}{end}" for stem in dict.fromkeys((quote(entry.item_id, safe=""), entry.item_id)) for end in _ENDINGS
        ]
        files = [file for name in names if (file := _inside(config.folder, name)) is not None and file.is_file()]
        return Page(_read(files[0], config.max_bytes)) if files else None
    file = _inside(config.folder, entry.value) if isinstance(entry.value, str) else None
    if file is None:
        raise PageError(f"page must be a file inside pages.folder, got {entry.value[:100]!r}")
    return Page(_read(file, config.max_bytes))


def pages_of_warc(file: Path, wanted: Mapping[str, Any], max_bytes: int) -> Iterator[tuple[str, Page | PageError]]:
    """(key of the URL, page or why there is none) of each response whose ``url_key`` is in ``wanted``.

    Responses with status 200 and HTML are pages; a page that was compressed in transfer is unpacked. Raises DataError
    at a damaged record, from which on nothing can be told apart: what came before has been given then.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    try:
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream):
                if record.rec_type != "response":
                    continue
                key = url_key(record.rec_headers.get_header("WARC-Target-URI") or "")
                if key in wanted:
                    yield key, _page_of_record(record, max_bytes)
    except (ArchiveLoadFailed, EOFError, zlib.error):
        raise DataError(
            f"{file}: expected a whole WARC file, found a damaged record; what follows it is not read"
        ) from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {reason_of(error)}") from None


def require_warc(file: Path) -> None:
    """Raise DataError where a file does not begin as WARC."""
    try:
        with file.open("rb") as stream:
            head = stream.read(2)
            stream.seek(0)
            head = gzip.GzipFile(fileobj=stream).read(5) if head == b"\x1f\x8b" else head + stream.read(5)[2:]
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "a damaged gzip file"
        raise DataError(f"{file}: cannot be read as WARC: {reason}") from None
    if head != b"WARC/":
        raise DataError(f"{file}: expected a WARC file, found one that begins with {head!r}")


def url_key(url: str) -> str:
    """The form under which a URL is looked up: lower-case scheme and host, no default port, no fragment, "/" for no path."""
    try:
        parts = urlsplit(url.strip().strip("<>"))
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return url
    name = host if port in (None, _DEFAULT_PORTS.get(parts.scheme.lower())) else f"{host}:{port}"
    return urlunsplit((parts.scheme.lower(), name, parts.path or "/", parts.query, ""))


def _page_of_record(record: Any, max_bytes: int) -> Page | PageError:
    headers = record.http_headers
    status = headers.get_statuscode() if headers is not None else "none"
    if status != "200":
        return PageError(f"page must be archived with status 200, got {status}")
    kind, _, options = (headers.get_header("Content-Type") or "").partition(";")
    if kind.strip() and kind.strip().lower() not in _HTML_TYPES:
        return PageError(f"page must be HTML, got {kind.strip()[:60]}")
    declared = next((o.partition("=")[2] for o in options.split(";") if o.strip().lower().startswith("charset")), None)
    try:
        stream, parts, left = record.content_stream(), [], max_bytes + 1
        while left > 0 and (part := stream.read(min(left, 65_536))):
            parts.append(part)
            left -= len(part)
    except Exception as error:  # a damaged transfer encoding fails in many ways
        return PageError(
            f"page must be archived whole, got {(str(error).splitlines() or [type(error).__name__])[0][:80]}"
        )
    if left > 0 and getattr(record.raw_stream, "limit", 0) > 0:
        return PageError("page must be archived whole, got a record that is cut off")
    return Page(b"".join(parts), declared)


def _inside(folder: Path, name: str) -> Path | None:
    """The file of a name in the folder; None where it lies outside. By its name alone: links are followed."""
    if "\0" in name:
        return None
    top = os.path.normpath(folder.absolute())
    file = Path(os.path.normpath(Path(top) / name))
    return file if file.is_relative_to(top) else None


def _read(file: Path, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(max_bytes + 1)
    except OSError as error:
        raise PageError(f"page must be a readable file, got {reason_of(error)}") from None
