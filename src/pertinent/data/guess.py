"""`pertinent init`: a starter config guessed from a folder of tables, with what was seen and what to check."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pertinent.data.esci import EXAMPLES, SMALL_PRODUCTS
from pertinent.data.folder import ITEM_COLUMNS, read_description
from pertinent.data.profile import Column, as_texts, profile_folder
from pertinent.data.roles import MAX_GRADES, Mapped, assign_roles
from pertinent.data.wands import is_wands
from pertinent.errors import DataError

# Worst first; a set of grade values all found in one line is ordered by it.
_WORD_SCALES = (
    ("i", "c", "s", "e"),
    ("irrelevant", "complement", "substitute", "exact"),
    ("bad", "poor", "fair", "good", "very good", "excellent", "perfect"),
    ("no", "maybe", "yes"),
    ("n", "y"),
    ("false", "true"),
    ("highly irrelevant", "irrelevant", "not relevant", "marginally relevant", "somewhat relevant",
     "partially relevant", "partial", "relevant", "very relevant", "highly relevant", "perfectly relevant"),
    ("off-topic", "off topic", "related", "on-topic", "on topic"),
    ("very low", "low", "medium", "high", "very high"),
)  # fmt: skip
_STRAY_SHARE = 0.005


def starter_config(folder: Path) -> str:
    """The text of a commented starter config for the tables in ``folder``; it is to stand there as pertinent.yaml.

    Each guess says what it rests on; ``# CHECK:`` marks what a person should look at.
    Raises DataError where the folder is missing or no items or judgments can be made out.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    name = yaml_scalar(_run_name(folder.resolve().name))
    if (known := _known_set(folder)) is not None:
        return "\n".join([_HEAD, f"name: {name}", "", "data:", f"  reader: {known}", "  path: .", ""])
    tables, unread = profile_folder(folder)
    items, judgments, log = assign_roles(folder, tables, unread)
    lines = [_HEAD, *(f"# Not read: {problem}" for problem in unread.values()), f"name: {name}", "", "data:"]
    lines += ["  reader: folder", "  path: .  # the folder of this file", ""]
    lines += [*_table_lines("items", items), *_attribute_lines(items), ""]
    lines += [*_table_lines("judgments", judgments), *_grade_lines(folder, judgments), ""]
    if log is not None:
        lines += [*_table_lines("log", log), ""]
    if not read_description(folder).languages:
        lines += _language_lines(items, judgments)
    used = {table.table.file for table in (items, judgments, log) if table is not None}
    lines += [f"  # Not used: {t.file} ({', '.join(c.name for c in t.columns)})" for t in tables if t.file not in used]
    lines += ["  # split: {test: 0.14, dev: 0.07}  # shares of the queries held out, by a hash of the query text"]
    lines += ["  # max_quarantined: 0.05  # share of a table's rows that may be broken before the run stops", ""]
    return "\n".join(lines)


_HEAD = """# Starter config, guessed from the files beside it.
# Look at each `# CHECK:`, then: pertinent validate pertinent.yaml"""


def order_grades(counts: Mapping[str, int]) -> tuple[list[Any], list[str]]:
    """Grade values from worst to best out of the distinct values of a column, and the doubts about them.

    counts: value -> rows. Whole numbers become a range without holes; a rare value far from the others is left out.
    """
    try:
        numbers = {float(value): count for value, count in counts.items()}
    except ValueError:
        return _order_words(list(counts))
    if any(not value.is_integer() for value in numbers):
        return sorted(numbers), [
            "values are not whole: means of several ratings? Cut them to grades before, or list all"
        ]
    kept, doubts = _without_strays({int(value): count for value, count in numbers.items()})
    low, high = min(kept), max(kept)
    if high - low + 1 > MAX_GRADES:
        return sorted(kept), [*doubts, "many different values: is this the grade?"]
    missing = [value for value in range(low, high + 1) if value not in kept]
    if missing:
        doubts.append(f"{', '.join(map(str, missing))} not seen, taken for a grade without a judgment")
    return list(range(low, high + 1)), doubts


def yaml_scalar(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _run_name(folder: str) -> str:
    """A folder's name as a run's: ASCII letters, digits, _ and - alone, the first a letter or a digit."""
    decomposed = unicodedata.normalize("NFKD", folder.replace("ß", "ss"))
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_") or "my-search"


def _known_set(folder: Path) -> str | None:
    if (folder / EXAMPLES).is_file() or any((folder / f"{SMALL_PRODUCTS}{z}").is_file() for z in ("", ".gz")):
        return "esci"
    if is_wands(folder):
        return "wands"
    return "homedepot" if (folder / "df_color_processed.csv.gz").is_file() else None


def _table_lines(section: str, mapped: Mapped) -> list[str]:
    table = mapped.table
    broken = f", {table.n_broken:,} more that cannot be read" if table.n_broken else ""
    lines = [f"  {section}:", f"    file: {yaml_scalar(table.file)}  # {table.n_rows:,} rows{broken}"]
    if table.delimiter not in ("", ","):
        lines.append(f"    delimiter: {json.dumps(table.delimiter)}")
    if table.encoding != "utf-8":
        lines.append(f"    encoding: {table.encoding}  # CHECK: it is not UTF-8; are accented letters right?")
    lines.append("    columns:  # our name: the file's name")
    for ours, theirs in mapped.columns.items():
        doubt = f" # CHECK: {mapped.doubts[ours]}" if ours in mapped.doubts else ""
        lines.append(f"      {ours}: {yaml_scalar(theirs)}  # {_seen(table.column(theirs))}".rstrip() + doubt)
    unused = [column.name for column in table.columns if column.name not in mapped.columns.values()]
    if unused and section != "items":
        lines.append(f"      # not used: {', '.join(unused)}")
    return lines


def _language_lines(items: Mapped, judgments: Mapped) -> list[str]:
    """The languages of the columns that hold them, else a line to fill in."""
    columns = [
        mapped.table.column(mapped.columns["language"]) for mapped in (judgments, items) if "language" in mapped.columns
    ]
    seen = sorted({value.lower() for column in columns for value in column.values})
    if seen:
        return [f"  languages: {yaml_scalar(seen)}  # CHECK: as the files write them; ISO 639-1 codes are expected"]
    return ["  # languages: [en]  # CHECK: ISO 639-1 codes of queries and items; one alone is taken for all of them"]


def _seen(column: Column) -> str:
    kind = "unique" if column.unique else f"{column.n_distinct:,} different"
    kind = "lists" if column.listed else kind
    return f"{kind}, {column.filled:.0%} filled" if column.filled < 1 else kind


def _attribute_lines(items: Mapped) -> list[str]:
    """The other columns: numbers under numeric.NAME, short texts as attributes."""
    rest = [c for c in items.table.columns if c.name not in items.columns.values() and c.filled > 0]
    numeric = [c for c in rest if c.numeric and c.n_distinct > 1 and re.fullmatch(r"\w+", c.name)]
    lines = [f"      numeric.{c.name}: {yaml_scalar(c.name)}  # {_seen(c)}" for c in numeric]
    texts = [c.name for c in rest if not c.numeric and not c.timed and c.name not in ITEM_COLUMNS and c.n_distinct != 1]
    if texts:
        lines.append(f"  attributes: {yaml_scalar(texts)}  # CHECK: other texts of the items that say what they are")
    return lines


def _grade_lines(folder: Path, judgments: Mapped) -> list[str]:
    scale, _ = read_description(folder).known_scale()
    if scale is not None:
        return [f"    # The {scale.n_grades} grades and their guidelines are in dataset.yaml."]
    column = judgments.table.column(judgments.columns["grade"])
    counts = column.values or dict.fromkeys(as_texts(judgments.table.rows, column.name).unique().to_list(), 1)
    grades, doubts = order_grades(counts)
    seen = ", ".join(f"{value} ({count:,})" for value, count in list(counts.items())[:MAX_GRADES])
    lines = [f"    # Seen: {seen}"]
    check = f" # CHECK: {'; '.join(doubts)}" if doubts else ""
    lines.append(f"    grades: {yaml_scalar(grades)}  # from worst to best{check}")
    lines.append("  # guidelines:  # what each grade means, worst first; for raters, the report and an LLM judge")
    lines += [f"  #   - what {yaml_scalar(grade)} means" for grade in grades]
    return lines


def _order_words(found: list[str]) -> tuple[list[Any], list[str]]:
    for scale in _WORD_SCALES:
        if all(value.lower() in scale for value in found):
            return sorted(found, key=lambda value: scale.index(value.lower())), []
    return sorted(found), ["order unknown: put the worst first"]


def _without_strays(counts: Mapping[int, int]) -> tuple[dict[int, int], list[str]]:
    total = sum(counts.values())
    common = [value for value, count in counts.items() if count / total >= _STRAY_SHARE] or list(counts)
    low, high = min(common) - 1, max(common) + 1
    strays = sorted(value for value in counts if not low <= value <= high)
    doubts = [f"{', '.join(map(str, strays))} is rare and far from the others, taken for a mistake"] if strays else []
    return {value: count for value, count in counts.items() if value not in strays}, doubts
