"""Which table of an unknown folder holds the items, the judgments and the log, and which column is what.

A column name that others use too is believed; where there is none, the content decides, and a doubt is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pertinent.data.profile import Column, TableProfile, as_texts
from pertinent.errors import DataError

# Names that columns go by elsewhere, without case, underscores and blanks; the first are the likeliest.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "item_id": ("itemid", "productid", "sku", "asin", "docid", "documentid", "pinid", "productuid", "articleid",
                "objectid", "uid", "id", "item", "product", "doc", "article"),
    "title": ("title", "name", "producttitle", "productname", "itemtitle", "itemname", "headline", "label"),
    "description": ("description", "desc", "productdescription", "longdescription", "body", "text", "overview",
                    "summary", "content"),
    "link_title": ("linktitle", "pagetitle"),
    "link_description": ("linkdescription", "pagedescription", "metadescription"),
    "image": ("image", "imageurl", "img", "picture", "photo", "poster", "thumbnail"),
    "captions": ("captions", "caption", "imagecaption", "imagecaptions"),
    "boards": ("boards", "boardtitles", "collections", "lists"),
    "engaged_queries": ("engagedqueries", "topqueries"),
    "embedding": ("embedding", "vector"),
    "language": ("language", "lang", "locale"),
    "query": ("query", "searchterm", "searchquery", "querytext", "searchphrase", "keyword", "keywords", "search",
              "term", "q", "phrase"),
    "query_id": ("queryid", "qid"),
    "search_id": ("searchid", "queryid", "qid", "requestid"),
    "grade": ("grade", "relevance", "relevancegrade", "relevancescore", "label", "esclabel", "rating", "judgment",
              "judgement", "score", "rel", "stars", "gain"),
    "rater_id": ("raterid", "rater", "annotator", "annotatorid", "assessor", "assessorid", "judge", "judgeid",
                 "worker", "workerid", "labeler", "labeller"),
    "action": ("action", "event", "eventtype", "actionname", "eventname", "interaction"),
    "timestamp": ("timestamp", "time", "ts", "datetime", "date", "eventtime", "createdat"),
    "position": ("position", "pos", "rank", "slot"),
    "user": ("user", "userid", "clientid", "visitorid", "customerid"),
    "session": ("session", "sessionid"),
    "country": ("country", "market", "countrycode"),
}  # fmt: skip
_JUDGMENT_EXTRAS = ("query_id", "language", "rater_id")
_LOG_EXTRAS = ("timestamp", "position", "search_id", "user", "session", "language", "country")
_ITEM_EXTRAS = ("title", "description", "link_title", "link_description", "image", "captions", "boards",
                "engaged_queries", "embedding", "language")  # fmt: skip
_FILE_WORDS = {
    "items": ("item", "product", "catalog", "doc", "pin", "article", "corpus", "movie"),
    "judgments": ("judg", "label", "qrel", "rating", "relevance", "annot", "grade", "train"),
    "log": ("log", "event", "click", "impression", "interaction"),
}
MAX_GRADES = 11


@dataclass(frozen=True)
class Mapped:
    """A guessed table: our column name -> (the file's column, why), and the marks of doubt by our name."""

    table: TableProfile
    columns: Mapping[str, str]
    doubts: Mapping[str, str]


def assign_roles(
    folder: Path, tables: list[TableProfile], unread: Mapping[str, str]
) -> tuple[Mapped, Mapped, Mapped | None]:
    """The items, judgments and log tables: the pair of files whose ids agree and whose columns look the part."""
    best: tuple[float, Mapped, Mapped] | None = None
    for items in tables:
        for id_column in (column for column in items.columns if _near_unique(column)):
            ids = set(as_texts(items.rows, id_column.name).to_list())
            for other in tables:
                if other is items:
                    continue
                found = _judgments(other, ids)
                if found is None:
                    continue
                score = _items_score(items, id_column) + _file_score(other, "judgments") + found[0]
                if best is None or score > best[0]:
                    best = (score, _items(items, id_column), found[1])
    if best is None:
        seen = "; ".join(f"{t.file} ({', '.join(c.name for c in t.columns)})" for t in tables)
        seen = seen or next(iter(unread.values()), "no table")
        raise DataError(
            f"{folder}: expected a table of items with a column of unique ids and one of judgments with a query, an"
            f" item id and a grade, found {seen}"
        )
    _, items_table, judgments_table = best
    ids = set(as_texts(items_table.table.rows, items_table.columns["item_id"]).to_list())
    rest = [table for table in tables if table not in (items_table.table, judgments_table.table)]
    logs = sorted((found for table in rest if (found := _log(table, ids))), key=lambda found: -found[0])
    return items_table, judgments_table, logs[0][1] if logs else None


def _near_unique(column: Column) -> bool:
    return column.n_distinct > 1 and column.filled > 0.95 and not column.listed and column.mean_length < 80


def _items_score(table: TableProfile, id_column: Column) -> float:
    repeats = 1.0 - id_column.n_distinct / table.n_rows
    named = 2.0 * _name_score(id_column.name, "item_id")
    has_text = any(column.mean_length > 10 and column.name != id_column.name for column in table.columns)
    return _file_score(table, "items") + named + has_text - 10.0 * repeats


def _file_score(table: TableProfile, role: str) -> float:
    return 2.0 * any(word in table.file.lower() for word in _FILE_WORDS[role])


def _name_score(name: str, ours: str) -> float:
    """1 for our own name or its first synonym, less for later ones, 0 for no relation."""
    plain = re.sub(r"[\W_]+", "", name.lower())
    synonyms = SYNONYMS[ours]
    if plain == ours.replace("_", ""):
        return 1.0
    return 1.0 - 0.5 * synonyms.index(plain) / len(synonyms) if plain in synonyms else 0.0


def _by_name(columns: Iterable[Column], ours: str) -> Column | None:
    ranked = sorted(columns, key=lambda column: -_name_score(column.name, ours))
    return ranked[0] if ranked and _name_score(ranked[0].name, ours) > 0 else None


def _id_column(table: TableProfile, ids: set[str]) -> tuple[float, Column] | None:
    """The column whose values are the items' ids: the share of its distinct values that are, at least a half."""
    shares = []
    for column in table.columns:
        found = set(as_texts(table.rows, column.name).unique().to_list())
        share = len(found & ids) / len(found) if found else 0.0
        shares.append((share, _name_score(column.name, "item_id"), column))
    share, _, column = max(shares, key=lambda entry: entry[:2])
    return (share, column) if share >= 0.5 else None


def _judgments(table: TableProfile, ids: set[str]) -> tuple[float, Mapped] | None:
    found = _id_column(table, ids)
    if found is None:
        return None
    share, id_column = found
    rest = [column for column in table.columns if column is not id_column]
    grade = _by_name([column for column in rest if 2 <= column.n_distinct <= 30], "grade")
    doubts = {}
    if grade is None:
        few = [c for c in rest if 2 <= len(c.values) <= MAX_GRADES and c.mean_length < 20 and not c.timed]
        if not few:
            return None
        grade = max(few, key=lambda column: (column.numeric, -column.n_distinct))
        doubts["grade"] = f"no column has a usual name; {grade.name} holds few different values"
    rest = [column for column in rest if column is not grade]
    query = _by_name([column for column in rest if not column.numeric], "query") or _by_name(rest, "query")
    if query is None:
        texts = [c for c in rest if not c.numeric and not c.timed and not c.listed and c.mean_length > 3]
        if not texts:
            return None
        query = max(texts, key=lambda column: column.n_distinct)
        doubts["query"] = f"no column has a usual name; {query.name} holds the most different texts"
    columns = {"query": query.name, "item_id": id_column.name, "grade": grade.name}
    rest = [column for column in rest if column is not query]
    columns.update(_extras(rest, _JUDGMENT_EXTRAS))
    score = 3.0 * share - 1.5 * len(doubts) - 2.0 * (_by_name(rest, "action") is not None)
    return score, Mapped(table, columns, doubts)


def _log(table: TableProfile, ids: set[str]) -> tuple[float, Mapped] | None:
    found = _id_column(table, ids)
    query = _by_name(table.columns, "query")
    action = _by_name(table.columns, "action")
    if found is None or query is None or action is None:
        return None
    columns = {"query": query.name, "item_id": found[1].name, "action": action.name}
    rest = [column for column in table.columns if column.name not in columns.values()]
    columns.update(_extras(rest, _LOG_EXTRAS))
    unknown = [value for value in action.values if value not in ("impression", "click", "long_click", "save", "hide")]
    doubts = {"action": f"values {', '.join(unknown[:5])} are none of ours and would be set aside"} if unknown else {}
    return found[0] + _file_score(table, "log"), Mapped(table, columns, doubts)


def _items(table: TableProfile, id_column: Column) -> Mapped:
    rest = [column for column in table.columns if column is not id_column]
    columns = {"item_id": id_column.name, **_extras(rest, _ITEM_EXTRAS)}
    doubts = (
        {} if id_column.unique else {"item_id": "some ids stand twice; of rows with other content the first is kept"}
    )
    texts = [c for c in rest if c.name not in columns.values() and not c.numeric and not c.timed and not c.listed]
    texts.sort(key=lambda column: -column.n_distinct)
    if "title" not in columns and texts:
        columns["title"] = texts[0].name
        doubts["title"] = "no column has a usual name; this text differs most from item to item"
    longest = max((c for c in texts if c.name not in columns.values()), key=lambda c: c.mean_length, default=None)
    if "description" not in columns and longest is not None and longest.mean_length > 60:
        columns["description"] = longest.name
        doubts["description"] = "no column has a usual name; this is the longest text"
    return Mapped(table, columns, doubts)


def _extras(columns: list[Column], wanted: tuple[str, ...]) -> dict[str, str]:
    """The columns of usual names, each used once, by the strength of the name."""
    pairs = [(_name_score(column.name, ours), ours, column.name) for ours in wanted for column in columns]
    found: dict[str, str] = {}
    for score, ours, theirs in sorted(pairs, key=lambda pair: -pair[0]):
        if score > 0 and ours not in found and theirs not in found.values():
            found[ours] = theirs
    return {ours: found[ours] for ours in wanted if ours in found}
