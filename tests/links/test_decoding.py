from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.links.decoding import decode_page

GERMAN = "Ein Tisch für acht Gäste aus geölter Eiche, schön und größer als üblich. "
RUSSIAN = "Большой обеденный стол из массива дуба на восемь человек, ручная работа. "
JAPANESE = "無垢のオーク材で作られた八人掛けのダイニングテーブルです。"


def page(text: str, charset: str | None) -> str:
    meta = f'<meta charset="{charset}">' if charset else ""
    return f"<html><head>{meta}<title>{text}</title></head><body>{text * 8}</body></html>"


@pytest.mark.parametrize(
    ("text", "encoding", "declared", "header", "read_as"),
    [
        (GERMAN, "utf-8", "utf-8", None, "utf-8"),
        (GERMAN, "utf-8", "iso-8859-1", None, "utf-8"),  # the page lies
        (GERMAN, "utf-8", None, "iso-8859-1", "utf-8"),  # the server lies
        (GERMAN, "cp1252", "iso-8859-1", None, "cp1252"),  # as browsers read latin-1
        (GERMAN, "cp1252", "utf-8", "windows-1252", "cp1252"),  # the header goes before the page
        (RUSSIAN, "cp1251", "windows-1251", None, "cp1251"),
        (RUSSIAN, "koi8-r", None, "koi8-r", "koi8-r"),
        (JAPANESE, "shift_jis", "Shift_JIS", None, "cp932"),
        (JAPANESE, "euc_jp", "euc-jp", None, "euc_jp"),
        (JAPANESE, "iso2022_jp", "iso-2022-jp", None, "iso2022_jp"),  # all its bytes are ASCII
        (JAPANESE, "gb18030", "gb2312", None, "gb18030"),
        (GERMAN, "utf-16-le", None, None, "utf-16-le"),  # no mark
        (GERMAN, "utf-16-be", None, None, "utf-16-be"),
    ],
)
def test_the_text_comes_back(text: str, encoding: str, declared: str | None, header: str | None, read_as: str) -> None:
    source = page(text, declared)
    assert decode_page(source.encode(encoding), header) == (source, read_as)


@pytest.mark.parametrize("declared", ["utf-8", "no-such-encoding", "base64", "utf-16", None])
def test_an_encoding_that_is_not_the_one_declared_is_guessed(declared: str | None) -> None:
    source = page(RUSSIAN, declared)
    text, encoding = decode_page(source.encode("cp1251"))
    assert encoding == "cp1251"
    assert text == source


@pytest.mark.parametrize(
    "mark", [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
)
def test_a_byte_order_mark_decides(mark: tuple[bytes, str]) -> None:
    source = page(GERMAN, "iso-8859-1")
    assert decode_page(mark[0] + source.encode(mark[1]), "windows-1251") == (source, mark[1])


def test_a_character_that_the_limit_cut_is_left_out() -> None:
    data = "ab€".encode()[:-1]  # a euro sign is three bytes
    assert decode_page(data) == ("ab", "utf-8")


def test_wrong_bytes_are_replaced_where_nothing_fits() -> None:
    text, _ = decode_page(b'<meta charset="utf-8">' + b"gut \xff\xfe\x81 so " * 3)
    assert "gut" in text
    assert "so" in text


@given(st.binary(max_size=400), st.one_of(st.none(), st.text(max_size=20)))
def test_any_bytes_under_any_name_give_some_text(data: bytes, declared: str | None) -> None:
    text, encoding = decode_page(data, declared)
    assert isinstance(text, str)
    codecs.lookup(encoding)


@given(st.text(max_size=200))
def test_utf_8_always_comes_back(text: str) -> None:
    text = text.replace("\x1b", "").replace("~{", "").replace("\0", "").removeprefix("\ufeff")
    data = text.encode("utf-8", "ignore")
    assert decode_page(data) == (data.decode(), "utf-8")
