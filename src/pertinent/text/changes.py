"""Which items have changed so much that they need new labels and new vectors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from pertinent.config import Config
from pertinent.text.item_texts import ItemTexts
from pertinent.text.repeats import words_of
from pertinent.text.sources import SERVED

Change = Literal["added", "removed", "title", "text", "small"]
CHANGES_SCHEMA = pl.Schema(
    {"item_id": pl.String(), "change": pl.String(), "share": pl.Float64(), "needed": pl.Boolean()}
)


class ChangesConfig(Config):
    """When the change of an item's text counts. Defaults are ours."""

    share: float = Field(
        default=0.2, ge=0.0, le=1.0, description="share of changed words from which new labels and vectors are needed"
    )
    title: bool = Field(default=True, description="whether any change of the title's words counts, however small")


def changed_items(old: Path, new: Path, config: ChangesConfig | None = None) -> pl.DataFrame:
    """The items whose text differs between two text stages' folders: item_id, change, share, needed (CHANGES_SCHEMA).

    change: added, removed, title (its words differ), text (the share is reached) or small. share: of changed words, see
    `changed_share`; 1 for an item that is added or removed. needed: whether the item's labels and vectors are to be
    made anew: it is added, its title changed (unless config.title is off), or the share is reached. An item counts by
    the most changed of its text versions. Items with one text_hash in both are left out; so are differences that leave
    the text alone. Sorted by item_id. Raises DataError where a folder holds no text stage.
    """
    before, after = (ItemTexts.read(folder, ("text_hash", "title", "text")).rows for folder in (old, new))
    return changed_between(before, after, config)


def changed_between(old: pl.DataFrame, new: pl.DataFrame, config: ChangesConfig | None = None) -> pl.DataFrame:
    """`changed_items` of two tables of item_id, text_version, text_hash, title and text."""
    config = config or ChangesConfig()
    before, after = _differing(old, new)
    rows = [(item, "added", 1.0, True) for item in after.keys() - before.keys()]
    rows += [(item, "removed", 1.0, False) for item in before.keys() - after.keys()]
    for item in before.keys() & after.keys():
        if before[item] != after[item]:
            rows.append((item, *_change_of(before[item], after[item], config)))
    return pl.DataFrame(sorted(rows), schema=CHANGES_SCHEMA, orient="row")


def changed_share(old: str, new: str) -> float:
    """Share of words that two texts do not have in common: words in one and not in the other, of the words of both.

    Each occurrence counts, order does not, nor case and punctuation: 0 for the same words, 1 for none in common.
    """
    before, after = (Counter(words_of(text).split(" ")) for text in (old, new))
    changed = ((before - after) + (after - before)).total()
    return changed / max(before.total() + after.total(), 1)


_Row = tuple[str, str, str]  # text_hash, title, text


def _differing(
    before: pl.DataFrame, after: pl.DataFrame
) -> tuple[dict[str, dict[int, _Row]], dict[str, dict[int, _Row]]]:
    """item_id -> version -> row of either table, for the items that have a row which the other table lacks."""
    names = ["item_id", "text_version", "text_hash", "title", "text"]
    before, after = before.select(names), after.select(names)
    keys = ["item_id", "text_version", "text_hash"]
    apart = [one.join(other, on=keys, how="anti")["item_id"] for one, other in ((before, after), (after, before))]
    items = pl.concat(apart).unique().implode()
    return _by_item(before.filter(pl.col("item_id").is_in(items))), _by_item(
        after.filter(pl.col("item_id").is_in(items))
    )


def _by_item(rows: pl.DataFrame) -> dict[str, dict[int, _Row]]:
    found: dict[str, dict[int, _Row]] = {}
    for item, version, *row in rows.iter_rows():
        found.setdefault(item, {})[version] = (row[0], row[1], row[2])
    return found


def _change_of(before: dict[int, _Row], after: dict[int, _Row], config: ChangesConfig) -> tuple[Change, float, bool]:
    """The most changed version; one that is not there is as the served one."""
    share, titled = 0.0, False
    for version in before.keys() | after.keys():
        old, new = before.get(version, before[SERVED]), after.get(version, after[SERVED])
        if old[0] != new[0]:
            share = max(share, changed_share(old[2], new[2]))
            titled = titled or words_of(old[1]) != words_of(new[1])
    titled, share = titled and config.title, round(share, 4)
    change: Change = "title" if titled else "text" if share >= config.share else "small"
    return change, share, change != "small"
