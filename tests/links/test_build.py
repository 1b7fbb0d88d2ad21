from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pertinent.config import parse_config
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json
from pertinent.links import LinksConfig, link_inputs, read_links
from pertinent.links import build as build_module
from pertinent.links.pages import url_key
from pertinent.types import StageResult


def page(title: str, text: str = "") -> str:
    return f"<html><head><title>{title}</title><meta name='description' content='{text or title}'></head><body></body></html>"


def write_data(folder: Path, ids: list[str], **columns: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"item_id": ids, "title": ids, **columns}).write_parquet(folder / "items.parquet")
    judged = {"query_id": ["q"], "query": ["box"], "item_id": [ids[0]], "grade": [1], "split": ["train"]}
    pl.DataFrame(judged).write_parquet(folder / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": []}
    write_json(folder / "dataset.json", {**about, "scale": {"guidelines": ["bad", "good"]}})
    return folder


def config_of(pages: dict[str, Any], **rest: Any) -> LinksConfig:
    return parse_config(LinksConfig, {"pages": pages, **rest}, "links.yaml")


def run(config: LinksConfig, data: Path, out: Path) -> StageResult:
    out.mkdir(exist_ok=True)
    return read_links(config, data, out, seed=0)


def fields(out: Path) -> list[tuple[Any, ...]]:
    return pl.read_parquet(out / "fields.parquet").rows()


def quarantine(out: Path) -> list[tuple[int, str]]:
    return pl.read_parquet(out / "quarantine.parquet").select("line", "reason").rows()


def everything(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def warc(records: list[tuple[str, str, dict[str, str], bytes]], packed: bool = True) -> bytes:
    """A WARC file of (URL, status line, headers, body), written by hand from ISO 28500."""

    def record(kind: str, url: str, content: bytes) -> bytes:
        named = {"WARC-Type": kind, "WARC-Record-ID": "<urn:uuid:0>", "WARC-Date": "2026-01-01T00:00:00Z"}
        named |= {"WARC-Target-URI": url} if url else {}
        media = "application/http; msgtype=response" if url else "application/warc-fields"
        named |= {"Content-Type": media, "Content-Length": str(len(content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        whole = f"WARC/1.0\r\n{head}\r\n".encode() + content + b"\r\n\r\n"
        return gzip.compress(whole) if packed else whole

    parts = [record("warcinfo", "", b"software: test\r\n")]
    for url, status, headers, body in records:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        parts.append(record("response", url, f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body))
    return b"".join(parts)


def test_pages_by_the_items_names(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", ["c", "a", "b/1", "none"])
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_text(page("First", "of all"))
    (folder / "b%2F1.htm").write_bytes(b"<meta charset=iso-8859-1>" + page("Zweite für alle").encode("cp1252"))
    (folder / "c.html.gz").write_bytes(gzip.compress(page("Third").encode()))
    result = run(config_of({"folder": str(folder)}), data, tmp_path / "out")
    assert fields(tmp_path / "out") == [
        ("a", -1, "First", "of all"),
        ("b/1", -1, "Zweite für alle", "Zweite für alle"),
        ("c", -1, "Third", "Third"),
    ]
    schema = {"item_id": pl.String, "text_version": pl.Int8, "link_title": pl.String, "link_description": pl.String}
    assert pl.read_parquet_schema(tmp_path / "out" / "fields.parquet") == schema
    # An item without a page breaks no contract.
    assert quarantine(tmp_path / "out") == []
    assert result.counts["pages"] == result.counts["items_with_link_text"] == 3
    assert result.counts["encodings"] == {"cp1252": 1, "utf-8": 2}


def test_a_bad_page_costs_its_row_only(tmp_path: Path) -> None:
    ids = ["good", "empty", "binary", "absent", "outside", "folder"]
    paths = ["good.html", "empty.html", "binary.html", "absent.html", "../data/dataset.json", "."]
    data = write_data(tmp_path / "data", ids, page=paths)
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "good.html").write_text(page("Good"))
    (folder / "empty.html").write_bytes(b"")
    (folder / "binary.html").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(100))
    config = config_of({"folder": str(folder), "holds": "path", "column": "page"})
    result = run(config, data, tmp_path / "out")
    assert fields(tmp_path / "out") == [("good", -1, "Good", "Good")]
    assert quarantine(tmp_path / "out") == [
        (2, "page must not be empty, got no text"),
        (3, "page must be HTML, got a PNG"),
        (4, "page must be a readable file, got No such file or directory"),
        (5, "page must be a file inside pages.folder, got '../data/dataset.json'"),
        (6, "page must be a readable file, got Is a directory"),
    ]
    assert sum((result.quarantined or {}).values()) == 5


def test_a_fault_of_a_parser_costs_its_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", ["a", "b"], html=[page("A"), page("B")])

    def read_page(content: str, *rest: Any) -> Any:
        if "<title>A" in content:
            raise RecursionError("maximum recursion depth exceeded")
        return real(content, *rest)

    real = build_module.read_page
    monkeypatch.setattr(build_module, "read_page", read_page)
    run(config_of({"holds": "html", "column": "html"}), data, tmp_path / "out")
    assert [row[0] for row in fields(tmp_path / "out")] == ["b"]
    found = "RecursionError: maximum recursion depth exceeded"
    assert quarantine(tmp_path / "out") == [(1, f"page must be one that can be read, got {found}")]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_html_in_a_table_of_the_users(tmp_path: Path, as_bytes: bool) -> None:
    data = write_data(tmp_path / "data", ["1", "2"])
    pages = [page("First try"), page("Two"), page("Second try"), page("Stranger"), None]
    contents = [one.encode() if as_bytes and one else one for one in pages]
    dtype = pl.Binary if as_bytes else pl.String
    table = pl.DataFrame({"sku": [1, 2, 1, 9, 2], "saved": pl.Series(contents, dtype=dtype)})
    table.write_parquet(tmp_path / "pages.parquet")
    config = config_of(
        {"table": str(tmp_path / "pages.parquet"), "id_column": "sku", "column": "saved", "holds": "html"}, unit_pages=2
    )
    result = run(config, data, tmp_path / "out")
    assert fields(tmp_path / "out") == [("1", -1, "First try", "First try"), ("2", -1, "Two", "Two")]
    assert result.counts["rows_of_unknown_items"] == 1
    assert result.counts["pages"] == 3
    units = pl.concat([pl.read_parquet(unit) for unit in sorted((tmp_path / "out").glob("unit-*.parquet"))])
    assert units["title"].to_list() == ["First try", "Two", "Second try"]


@pytest.mark.parametrize("packed", [True, False])
def test_pages_of_warc_files(tmp_path: Path, packed: bool) -> None:
    html = {"Content-Type": "text/html; charset=windows-1251"}
    russian = "<title>Большой стол</title>".encode("cp1251")
    zipped = gzip.compress(page("Zipped").encode())
    chunked = b"5\r\n<titl\r\n" + b"11\r\ne>Chunked</title>\r\n" + b"0\r\n\r\n"
    first = warc(
        [
            ("http://shop.test/a", "404 Not Found", html, b"<title>Our bestsellers</title>"),
            ("http://shop.test/a", "200 OK", html, russian),
            ("http://shop.test/a", "200 OK", html, b"<title>Later</title>"),
            ("http://shop.test/b", "301 Moved", {"Location": "/a"}, b""),
            ("http://shop.test/c", "200 OK", {"Content-Type": "application/pdf"}, b"%PDF"),
            ("http://shop.test/d?x=1", "200 OK", {"Content-Type": "text/html", "Content-Encoding": "gzip"}, zipped),
            ("http://shop.test/e", "200 OK", {"Content-Type": "text/html", "Transfer-Encoding": "chunked"}, chunked),
            ("http://shop.test/other", "200 OK", html, b"<title>Nobody's</title>"),
        ],
        packed,
    )
    second = warc([("http://shop.test/b", "200 OK", html, b"<title>In the second file</title>")], packed)
    names = ["one.warc.gz", "two.warc.gz"] if packed else ["one.warc", "two.warc"]
    for name, content in zip(names, (first, second), strict=True):
        (tmp_path / name).write_bytes(content)
    urls = [
        "HTTP://Shop.test:80/a#top",
        "http://shop.test/b",
        "http://shop.test/c",
        "http://shop.test/d?x=1",
        "http://shop.test/e",
        "http://shop.test/absent",
        "http://shop.test/a",
    ]
    data = write_data(tmp_path / "data", [f"i{k}" for k in range(7)], link=urls)
    config = config_of({"holds": "url", "column": "link", "warc": [str(tmp_path / name) for name in names]})
    result = run(config, data, tmp_path / "out")
    titles = {row[0]: row[2] for row in fields(tmp_path / "out")}
    assert titles == {
        "i0": "Большой стол",
        "i1": "In the second file",
        "i3": "Zipped",
        "i4": "Chunked",
        "i6": "Большой стол",
    }
    assert quarantine(tmp_path / "out") == [
        (3, "page must be HTML, got application/pdf"),
        (6, "page must be in the WARC files, got no response of its URL"),
    ]
    assert list(result.warnings) == []


def test_a_warc_file_that_is_damaged_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    html = {"Content-Type": "text/html"}
    records = [(f"http://shop.test/{k}", "200 OK", html, page(f"Page {k}").encode()) for k in range(20)]
    whole = warc(records, packed=False)
    (tmp_path / "cut.warc").write_bytes(whole[: whole.index(b"<title>Page 3<") + 5])
    damaged = warc(records[10:])
    middle = len(warc(records[10:15]))
    (tmp_path / "damaged.warc.gz").write_bytes(damaged[: middle + 30] + b"\xff" * 20 + damaged[middle + 50 :])
    data = write_data(tmp_path / "data", [f"i{k:02d}" for k in range(20)], link=[record[0] for record in records])
    files = [str(tmp_path / "cut.warc"), str(tmp_path / "damaged.warc.gz")]
    config = config_of({"holds": "url", "column": "link", "warc": files})
    result = run(config, data, tmp_path / "out")
    assert [row[0] for row in fields(tmp_path / "out")] == ["i00", "i01", "i02", "i10", "i11", "i12", "i13", "i14"]
    assert quarantine(tmp_path / "out")[0] == (4, "page must be archived whole, got a record that is cut off")
    damage = "expected a whole WARC file, found a damaged record; what follows it is not read"
    assert result.warnings == [f"{tmp_path / 'damaged.warc.gz'}: {damage}"]
    before = everything(tmp_path / "out")
    # The warning outlives a kill: it is kept in the unit.
    assert run(config, data, tmp_path / "out") == result
    assert everything(tmp_path / "out") == before


@pytest.mark.parametrize("content", [b"this is no archive", gzip.compress(b"nor is this"), b"\x1f\x8bbroken", b""])
def test_a_file_that_is_no_warc_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.warc.gz").write_bytes(content)
    data = write_data(tmp_path / "data", ["a"], link=["http://shop.test/"])
    config = config_of({"holds": "url", "column": "link", "warc": [str(tmp_path / "x.warc.gz")]})
    with pytest.raises(DataError, match=r"x.warc.gz: (expected a WARC file, found|cannot be read as WARC)"):
        run(config, data, tmp_path / "out")


def test_a_stage_that_was_cut_off_goes_on_after_its_last_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", [f"i{k}" for k in range(10)], html=[page(f"Page {k}") for k in range(10)])
    config = config_of({"holds": "html", "column": "html"}, unit_pages=3)
    result = run(config, data, tmp_path / "whole")
    read: list[str] = []
    real = build_module.read_page

    def read_page(content: str, *rest: Any) -> Any:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(content)
        return real(content, *rest)

    monkeypatch.setattr(build_module, "read_page", read_page)
    with pytest.raises(KeyboardInterrupt):
        run(config, data, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["unit-00000.parquet"]
    (tmp_path / "out" / ".unit-00001.parquet.7.partial").write_bytes(b"PAR1 cut off")
    (tmp_path / "out" / "unit-00002.parquet").write_bytes(b"")  # a power cut may leave this
    monkeypatch.setattr(build_module, "read_page", lambda *arguments: read.append("") or real(*arguments))
    assert run(config, data, tmp_path / "out") == result
    assert len(read) == 4 + 7  # the three of the first unit are not read again
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", [f"i{k}" for k in range(100)], html=[page(f"Page {k}") for k in range(100)])
    for workers in (1, 2):
        run(config_of({"holds": "html", "column": "html"}, workers=workers), data, tmp_path / f"out{workers}")
    assert everything(tmp_path / "out1") == everything(tmp_path / "out2")


def test_the_inputs_change_with_the_files(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", ["a"])
    (tmp_path / "a.html").write_text(page("A"))
    config = config_of({"folder": str(tmp_path)})
    before = link_inputs(config, data)
    assert link_inputs(config, data) == before
    (tmp_path / "a.html").write_text(page("B, longer"))
    assert link_inputs(config, data) != before


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ({}, "links.yaml: pages: folder: missing; holds: name needs the folder of the pages"),
        ({"holds": "html"}, "links.yaml: pages: column: expected one unless pages.holds is name, found none with holds: html"),
        ({"column": "x", "folder": "."}, "links.yaml: pages: column: expected one unless pages.holds is name, found column x with holds: name"),
        ({"holds": "url", "column": "x"}, "links.yaml: pages: warc: expected WARC files with holds: url alone, found 0 files with url"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_one_line(pages: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_of(pages)
    assert str(error.value) == message


def test_without_its_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", ["a"])
    absent = ("trafilatura", "warcio")
    monkeypatch.setattr(build_module, "find_spec", lambda name: None if name in absent else name)
    with pytest.raises(
        ConfigError, match=r"links: expected the extra links, found no trafilatura, warcio: pip install "
    ):
        run(config_of({"folder": str(tmp_path)}), data, tmp_path / "out")


def test_wrong_columns_and_folders(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", ["a"], html=[page("A")], count=[3])
    with pytest.raises(
        ConfigError, match=r"links.pages.column: .*items.parquet has no column 'htm'; nearest present column: 'html'"
    ):
        run(config_of({"holds": "html", "column": "htm"}), data, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"links.pages.column: expected 'count' to hold texts or bytes, found Int64"):
        run(config_of({"holds": "html", "column": "count"}), data, tmp_path / "out")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        run(config_of({"folder": str(tmp_path / "nowhere")}), data, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected pages of the items, found none"):
        run(config_of({"folder": str(tmp_path / "empty")}), data, tmp_path / "out")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("HTTPS://Shop.Test:443", "https://shop.test/"),
        ("https://shop.test:8443/A?b=C#d", "https://shop.test:8443/A?b=C"),
        ("<http://shop.test/x>", "http://shop.test/x"),  # as older WARC files write it
        ("http://shop.test:port/", "http://shop.test:port/"),
    ],
)
def test_url_key(url: str, key: str) -> None:
    assert url_key(url) == key
