"""Render items as field-tagged text within a token budget, counted with the teacher's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from pertinent.text.cleaning import clean
from pertinent.text.config import TextConfig

MARK = "|"  # stands between fields and, since cleaning takes it out, never inside one
SEPARATOR = f" {MARK} "
LIST_SEPARATOR = ", "


@dataclass(frozen=True)
class Field:
    """One field of one item: its entries (a list field has several) and their token counts."""

    name: str
    entries: list[str]


@dataclass(frozen=True)
class ItemText:
    """What the teacher reads of an item. n_cut: fields that did not fit whole."""

    text: str
    n_tokens: int
    n_cut: int


def entries_of(value: Any) -> list[str]:
    """The cleaned, non-empty, distinct texts of a field's value, best first.

    A value is a text, a list of texts, boards ({title, count}, most saved first) or engaged queries
    ({query, weight}, heaviest first).
    """
    if value is None:
        return []
    values: list[Any] = [value] if isinstance(value, str) else list(value)
    if values and isinstance(values[0], dict):
        text_key, weight_key = ("title", "count") if "title" in values[0] else ("query", "weight")
        records: list[Any] = sorted(values, key=lambda e: (-(e[weight_key] or 0), e[text_key] or ""))
        values = [record[text_key] for record in records]
    return list(dict.fromkeys(text for entry in values if entry and (text := clean(entry))))


def render(fields: Sequence[Field], counts: dict[str, int], config: TextConfig, tokenizer: Tokenizer) -> ItemText:
    """One item's text: ``title: ... | brand: ...`` in the order of the config.

    counts: tokens of every entry, of every tag and of the mark between fields ("|"), which all come out of max_tokens
    (the tokens of the joined text may differ by a few, where a tokenizer merges across the joints). Each field is first
    cut to its own budget and to what max_tokens leaves;
    tokens that short fields left over then go to the cut ones, in order. Long texts are cut between tokens, lists at
    a whole entry (the first entry of a list is cut like a text if it does not fit).
    """
    present = [field for field in fields if field.entries]
    budgets = {field.name: field.tokens for field in config.fields}
    needs = [sum(counts[entry] for entry in field.entries) + len(field.entries) - 1 for field in present]
    fixed = [counts[tag_of(field.name)] + (counts[MARK] if i else 0) for i, field in enumerate(present)]
    grants: list[int] = []
    left = config.max_tokens
    for field, need, cost in zip(present, needs, fixed, strict=True):
        left -= cost
        grants.append(max(min(need, budgets[field.name], left), 0))
        left -= grants[-1]
    for i, need in enumerate(needs):
        extra = min(need - grants[i], max(left, 0))
        grants[i] += extra
        left -= extra
    parts, used, n_cut = [], 0, 0
    for field, need, grant, cost in zip(present, needs, grants, fixed, strict=True):
        value, n_tokens = _fit(field.entries, counts, grant, tokenizer)
        n_cut += need > grant
        if value:
            parts.append(f"{tag_of(field.name)} {value}")
            used += n_tokens + cost
    return ItemText(SEPARATOR.join(parts), used, n_cut)


def split_fields(text: str) -> list[str]:
    """The tagged fields that a rendered text consists of, in order."""
    return text.split(SEPARATOR) if text else []


def tag_of(name: str) -> str:
    """The tag written before a field's value."""
    return f"{name.replace('_', ' ')}:"


def _fit(entries: list[str], counts: dict[str, int], grant: int, tokenizer: Tokenizer) -> tuple[str, int]:
    kept: list[str] = []
    used = 0
    for entry in entries:
        cost = counts[entry] + (1 if kept else 0)
        if used + cost > grant:
            break
        kept.append(entry)
        used += cost
    if kept or grant <= 0:
        return LIST_SEPARATOR.join(kept), used
    offsets = tokenizer.encode(entries[0], add_special_tokens=False).offsets[:grant]
    return entries[0][: offsets[-1][1]].rstrip(), len(offsets)
