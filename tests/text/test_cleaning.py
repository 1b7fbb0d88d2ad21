from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertinent.text.cleaning import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<p>Red <b>velvet</b> sofa</p>", "Red velvet sofa"),
        ("Oak<br/>table<br>12 in.", "Oak table 12 in."),
        ("<script>alert('x')</script>Lamp<style>p { color: red }</style>", "Lamp"),
        ("Rug <!-- a note\nover two lines --> 2 x 3", "Rug 2 x 3"),
        ("Salt &amp; pepper &#8482; caf&eacute;", "Salt & pepper TM café"),
        ("3 < 5 and 7 > 2", "3 < 5 and 7 > 2"),
        ("Sofas | Beds|Rugs || Shop", "Sofas - Beds - Rugs - Shop"),
        ("size<5 in", "size<5 in"),
        ("ｆｕｌｌ　ｗｉｄｔｈ ①", "full width 1"),
        ("  two \t\r\n lines\u00a0here ", "two lines here"),
        ("a\x00b\x1fc", "a b c"),
        ("<a href=\"/b?c>d\">Sofas</a> <img alt='a > b' src=x>", "Sofas"),
        ("&lt;p&gt;Oak &lt;b&gt;table&lt;/b&gt;&lt;/p&gt;", "Oak table"),
        ("a &lt;b and c&gt; d &lt;5 in", "a d <5 in"),
        ("3 &lt; 5 and x &lt;y and z&gt; w", "3 < 5 and x <y and z> w"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;Lamp", "Lamp"),
        ("Lamp<script>var a = '<b>' + 1;", "Lamp"),
        ("Lamp <!-- not closed", "Lamp"),
        ("<!DOCTYPE html><?xml version='1.0'?><![CDATA[Lamp]]>", "Lamp"),
        ('Lamp <a class="x" href="/cut-by-a-li', "Lamp"),
        ("<p class='it's'>Lamp</p>", "Lamp"),
        ("I <3 sofas", "I <3 sofas"),
        ("", ""),
        ("<div></div>", ""),
    ],
)
def test_cleaning_gives_the_plain_text(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@pytest.mark.parametrize("invisible", ["\u200b", "\u2060", "\ufeff"])
def test_zero_width_characters_part_words_and_vanish(invisible: str) -> None:
    assert clean(f"{invisible}oak{invisible}table{invisible}") == "oak table"


def test_a_zero_width_joiner_stays_because_scripts_need_it() -> None:
    assert clean("نمی\u200cخواهم") == "نمی\u200cخواهم"


def test_entities_are_decoded_once() -> None:
    assert clean("&amp;lt;") == "&lt;"


@given(st.text(max_size=200))
def test_clean_text_has_single_spaces_and_no_ends(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert not set(cleaned) & {"\n", "\t", "\x00", "\ufeff"}
