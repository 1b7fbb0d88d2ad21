"""Render items as field-tagged text within a token budget, counted with the teacher's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pertinent.text.cleaning import clean
from pertinent.text.config import TextConfig
from pertinent.text.repeats import Said
from pertinent.text.tokens import PhraseTokens

MARK = "|"  # stands between fields and, since cleaning takes it out, never inside one
SEPARATOR = f" {MARK} "
LIST_SEPARATOR = ", "


@dataclass(frozen=True)
class Field:
    """One field of one item: its entries, best first. A text is a single entry and is_text."""

    name: str
    entries: list[str]
    is_text: bool = False

    @classmethod
    def of(cls, name: str, value: Any) -> Field:
        """The field of a value as `entries_of` reads it."""
        return cls(name, entries_of(value), isinstance(value, str))


@dataclass(frozen=True)
class WrittenField:
    """One field as the item's text has it.

    value: "" where nothing fitted or all was said before. n_tokens: of the value. budget: the configured one. granted:
    tokens that it got, those that other fields left over included. cut: what did not fit, entries or the rest of a text.
    repeated: entries or sentences left out because an earlier field says them. n_fixed: tokens of the tag and the mark.
    """

    name: str
    value: str
    n_tokens: int
    budget: int
    granted: int
    cut: tuple[str, ...]
    repeated: tuple[str, ...]
    n_fixed: int


@dataclass(frozen=True)
class ItemText:
    """What the teacher reads of an item. n_cut: fields that did not fit whole. n_repeated: parts that were said before."""

    text: str
    n_tokens: int
    n_cut: int
    n_repeated: int = 0


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


def render(fields: Sequence[Field], tokens: PhraseTokens, config: TextConfig) -> ItemText:
    """One item's text: ``title: ... | brand: ...`` in the order of the config; see `lay_out` for what it holds."""
    written = lay_out(fields, tokens, config)
    shown = [field for field in written if field.value]
    return ItemText(
        text_of(written),
        sum(field.n_tokens + field.n_fixed for field in shown),
        sum(bool(field.cut) for field in written),
        sum(len(field.repeated) for field in written),
    )


def text_of(written: Sequence[WrittenField]) -> str:
    """The fields that have a value, tagged and joined."""
    return SEPARATOR.join(f"{tag_of(field.name)} {field.value}" for field in written if field.value)


def lay_out(fields: Sequence[Field], tokens: PhraseTokens, config: TextConfig) -> list[WrittenField]:
    """Each field that has entries as it is written, in order.

    The tokens of entries, tags and marks between fields ("|") all come out of max_tokens (the tokens of the joined text
    may differ by a few, where a tokenizer merges across the joints). What an earlier field says is left out (`repeats`);
    then each field is cut to its own budget and to what max_tokens leaves, and tokens that short fields left over go to the
    cut ones, in order. Long texts are cut between tokens, lists at a whole entry (the first entry of a list is cut like
    a text if it does not fit).
    """
    budgets = {field.name: field.tokens for field in config.fields}
    plans = _plan([field for field in fields if field.entries], tokens, config, budgets)
    left = config.max_tokens - sum(plan.fixed + plan.grant for plan in plans)
    written = []
    for plan in plans:
        extra = min(plan.need - plan.grant, max(left, 0))
        left -= extra
        grant = plan.grant + extra
        value, n_tokens, cut = _fit(plan.entries, tokens, grant) if extra else plan.fitted
        budget = budgets[plan.name]
        written.append(
            WrittenField(plan.name, value, n_tokens, budget, grant, tuple(cut), tuple(plan.repeated), plan.fixed)
        )
    return written


def split_fields(text: str) -> list[str]:
    """The tagged fields that a rendered text consists of, in order."""
    return text.split(SEPARATOR) if text else []


def tag_of(name: str) -> str:
    """The tag written before a field's value."""
    return f"{name.replace('_', ' ')}:"


@dataclass(frozen=True)
class _Plan:
    """A field before the leftovers are handed on. need: tokens of all its entries. fixed: of its tag and mark."""

    name: str
    entries: list[str]
    repeated: list[str]
    need: int
    fixed: int
    grant: int
    fitted: tuple[str, int, list[str]]


def _plan(fields: Sequence[Field], tokens: PhraseTokens, config: TextConfig, budgets: dict[str, int]) -> list[_Plan]:
    said = Said()
    title = next((field.entries[0] for field in fields if field.name == "title"), "")
    left = config.max_tokens
    plans: list[_Plan] = []
    for field in fields:
        entries, repeated = _new_parts(field, said, title) if config.drop_repeats else (field.entries, [])
        if not entries:
            plans.append(_Plan(field.name, [], repeated, 0, 0, 0, ("", 0, [])))
            continue
        need = sum(tokens.count(entry) for entry in entries) + len(entries) - 1
        first = not any(plan.entries for plan in plans)
        fixed = tokens.count(tag_of(field.name)) + (0 if first else tokens.count(MARK))
        left -= fixed
        grant = max(min(need, budgets[field.name], left), 0)
        left -= grant
        fitted = _fit(entries, tokens, grant)
        plans.append(_Plan(field.name, entries, repeated, need, fixed, grant, fitted))
        n_whole = len(entries) - len(fitted[2])
        for entry in entries[:n_whole]:
            said.add(entry)
        if not n_whole:
            said.add(fitted[0], whole=False)
    return plans


def _new_parts(field: Field, said: Said, title: str) -> tuple[list[str], list[str]]:
    if not field.is_text:
        return said.new_entries(field.entries)
    text, repeated = said.new_text(field.entries[0], title)
    return ([text] if text else []), repeated


def _fit(entries: list[str], tokens: PhraseTokens, grant: int) -> tuple[str, int, list[str]]:
    """The value within ``grant`` tokens, its tokens, and what is cut: entries, or the rest of the first one."""
    kept: list[str] = []
    used = 0
    for entry in entries:
        cost = tokens.count(entry) + (1 if kept else 0)
        if used + cost > grant:
            break
        kept.append(entry)
        used += cost
    if kept or grant <= 0:
        return LIST_SEPARATOR.join(kept), used, entries[len(kept) :]
    value, used = tokens.cut(entries[0], grant)
    return value, used, [entries[0][len(value) :].strip(), *entries[1:]]
