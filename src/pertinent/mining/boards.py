"""`pertinent mine boards`: who saved which item to a board of which title -> the board titles of each item.

Titles of the same words are one title, whatever their case, signs, order, repeats or plural s: "Living Room Ideas!" and
"ideas: living rooms". It is shown in its commonest spelling. An item's titles are ordered by how many distinct users
chose them. A title says nothing of an item where it stands on every other board ("my stuff"): with n of the N boards
(a user and a title each), its inverse board frequency is ln(N / n), and those below ln(1 / generic_share) are dropped.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from pertinent.data.source import nearest
from pertinent.data.splits import normalise_query
from pertinent.data.tables import SUFFIXES, kind_of
from pertinent.errors import DataError
from pertinent.files import read_json
from pertinent.mining.config import BoardsConfig
from pertinent.mining.csv_files import csv_columns, csv_rows, read_csv_table
from pertinent.mining.engine import Engine, open_engine
from pertinent.mining.private import is_private
from pertinent.mining.sql import json_lines, json_text, literal, name_of, scan
from pertinent.types import StageResult

FIELDS = "fields.parquet"
COLUMNS = ("item_id", "title", "user")
NO_VALUE = "item_id, title and user must not be empty"
UNREADABLE = "row cannot be read"
UNKNOWN_ITEM = "item_id names no known item"
NO_WORD = "title has no word"
PRIVATE = "title holds an e-mail address, a phone or a card number"
_NO_WORD = re.compile(r"[\W_]+")
_N_SHOWN = 20


def mine_boards(config: BoardsConfig, data: Path, out: Path, *, seed: int) -> StageResult:
    """Write out/fields.parquet: item_id (String), text_version (Int8, -1), boards (list of {title, count}).

    count: distinct users who saved the item to a board of this title. Titles that fewer than k users chose for any item
    are left out. seed: unused, for nothing is drawn. The same rows in any order give the same table.
    Raises DataError in one line for a missing file or column, or where no row can be used.
    """
    file = boards_file(config, data)
    with open_engine(out, "boards", threads=config.threads, memory_gib=config.memory_gib) as engine:
        seen, dropped = _read(engine, config, file, data / "items.parquet")
        _merge_titles(engine, dropped)
        kept = engine.row("SELECT coalesce(sum(n), 0)::BIGINT FROM saves")[0]
        assert seen == kept + sum(dropped.values()), (seen, kept, dropped)
        if not kept:
            reason, n = max(dropped.items(), key=lambda entry: entry[1])
            raise DataError(f"{file}: expected rows that can be used, found none of {seen:,}: {reason} ({n:,})")
        counts = {"rows": {"seen": seen, "dropped": seen - kept, "kept": kept}, **_count_titles(engine, config)}
        _write(engine, config, out / FIELDS)
        entries = f"SELECT count(*), coalesce(sum(len(boards)), 0)::BIGINT FROM {scan(out / FIELDS)}"
        counts["items_with_boards"], counts["titles"] = engine.row(entries)
        counts["file"] = str(file)
    warnings = [] if counts["titles"] else ["no board title is left (k, generic_share)"]
    return StageResult(counts, {reason: n for reason, n in dropped.items() if n}, warnings)


def title_key(title: str) -> str:
    """What titles of near-identical wording share: their distinct words in order, without plural s; may be empty."""
    plain = _NO_WORD.sub(" ", _without_apostrophes(normalise_query(title)))
    return " ".join(sorted({_singular(word) for word in plain.split()}))


def boards_file(config: BoardsConfig, data: Path) -> Path:
    """The file of ``config``, or boards.* of its folder, or of the dataset folder that ``data`` was built from."""
    place = config.path or _source_of(data)
    if place.is_file():
        kind_of(place)
        return place
    if not place.is_dir():
        raise DataError(f"{place}: no such file (boards.path)")
    names = [f"boards{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")]
    found = [place / name for name in names if (place / name).is_file()]
    if len(found) != 1:
        shown = " and ".join(file.name for file in found) or "none"
        raise DataError(f"{place}: expected one file boards.parquet, .csv or .jsonl, found {shown} (boards.path)")
    return found[0]


def _source_of(data: Path) -> Path:
    manifest = data / "manifest.json"
    path = read_json(manifest)["config"].get("path") if manifest.is_file() else None
    if path is None:
        raise DataError(
            f"{data}: expected a data folder whose manifest names the dataset folder; name the file (boards.path)"
        )
    return Path(path)


def _without_apostrophes(text: str) -> str:
    return text.replace("'", "").replace("’", "")


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _read(engine: Engine, config: BoardsConfig, file: Path, items: Path) -> tuple[int, dict[str, int]]:
    """Table ``raw``: item_id, title, user, n of distinct rows of known items; all rows, and reason -> rows dropped."""
    relation, n_unreadable = _relation(engine, config, file)
    texts = ", ".join(f"nullif(trim({name_of(name)}), '') AS {name_of(name)}" for name in COLUMNS)
    engine.table("read_rows", f"SELECT {texts}, broken, count(*) AS n FROM ({relation}) GROUP BY ALL", "read")
    sound = 'NOT broken AND item_id IS NOT NULL AND title IS NOT NULL AND "user" IS NOT NULL'
    engine.table("raw", f"SELECT * FROM read_rows SEMI JOIN {scan(items)} USING (item_id) WHERE {sound}")

    def rows(table: str, where: str = "true") -> int:
        return int(engine.row(f"SELECT coalesce(sum(n) FILTER ({where}), 0)::BIGINT FROM {table}")[0])

    n_sound = rows("read_rows", sound)
    broken = rows("read_rows", "broken")
    dropped = {
        UNREADABLE: broken + n_unreadable,
        NO_VALUE: rows("read_rows") - broken - n_sound,
        UNKNOWN_ITEM: n_sound - rows("raw"),
    }
    seen = rows("read_rows") + n_unreadable
    if not seen:
        raise DataError(f"{file}: no rows")
    return seen, dropped


def _relation(engine: Engine, config: BoardsConfig, file: Path) -> tuple[str, int]:
    """The SQL of the file's rows as text and ``broken``, and how many rows it leaves out because they cannot be read."""
    kind = kind_of(file)
    theirs = {name: config.columns.get(name, name) for name in COLUMNS}
    if kind in (".jsonl", ".ndjson", ".json"):
        fields = ", ".join(f"{json_text(theirs[name])} AS {name_of(name)}" for name in COLUMNS)
        return f"SELECT {fields}, NOT whole AS broken FROM {json_lines(file)}", 0
    if kind == ".parquet":
        read = scan(file)
        present = [row[0] for row in engine.rows(f"DESCRIBE SELECT * FROM {read}")]
    else:
        present, delimiter = csv_columns(file)
        read = csv_rows(present, delimiter, file)
    for name, column in theirs.items():
        if column not in present:
            raise DataError(
                f"{file}: expected a column {column!r} ({name}), found none; nearest: {nearest(column, present)!r}"
                f" (map it: boards.columns: {{{name}: ...}})"
            )
    fields = ", ".join(f"{name_of(theirs[name])}::VARCHAR AS {name_of(name)}" for name in COLUMNS)
    if kind == ".parquet":
        return f"SELECT {fields}, false AS broken FROM {read}", 0
    return "FROM csv_rows", read_csv_table(engine, "csv_rows", f"{fields}, false AS broken", read, "read")


def _merge_titles(engine: Engine, dropped: dict[str, int]) -> None:
    """Table ``saves``: item_id, title, user, n, key; drops titles without a word and private ones."""
    engine.connection.create_function("title_key", title_key, ["VARCHAR"], "VARCHAR")
    engine.connection.create_function("clean_title", _shown, ["VARCHAR"], "VARCHAR")
    engine.connection.create_function("private_title", lambda title: is_private(normalise_query(title)), ["VARCHAR"], "BOOLEAN")  # fmt: skip
    engine.table(
        "titles",
        "SELECT title, clean_title(title) AS shown, title_key(title) AS key, private_title(title) AS private"
        " FROM (SELECT DISTINCT title FROM raw)",
    )
    engine.table(
        "marked",
        "SELECT r.item_id, r.user, r.n, t.shown AS title, t.key, t.private FROM raw r JOIN titles t USING (title)",
    )
    for reason, which in ((NO_WORD, "key = ''"), (PRIVATE, "key <> '' AND private")):
        dropped[reason] = engine.row(f"SELECT coalesce(sum(n) FILTER ({which}), 0)::BIGINT FROM marked")[0]
    engine.table("saves", "SELECT item_id, title, \"user\", n, key FROM marked WHERE key <> '' AND NOT private")


def _shown(title: str) -> str:
    """A title as it may be shown: NFKC, one space for blanks."""
    return " ".join(unicodedata.normalize("NFKC", title).split())


def _count_titles(engine: Engine, config: BoardsConfig) -> dict[str, Any]:
    """Table ``wordings``: key, its commonest spelling, users, boards; and what befell the titles."""
    engine.table(
        "spellings",
        'SELECT key, title, count(DISTINCT "user") AS users FROM saves GROUP BY key, title',
    )
    engine.table(
        "wordings",
        'SELECT key, users, s.title FROM (SELECT key, count(DISTINCT "user") AS users FROM saves GROUP BY key)'
        " JOIN (SELECT key, min_by(title, (-users, title)) AS title FROM spellings GROUP BY key) s USING (key)",
    )
    # A board is a user and a title, so a title's boards are its users.
    boards = int(engine.row("SELECT sum(users)::BIGINT FROM wordings")[0])
    generic = f"users >= {config.generic_boards} AND users > {literal(config.generic_share)} * {boards}"
    engine.table("wordings", f"SELECT *, {generic} AS generic, users >= {config.k} AS enough FROM wordings")
    n, few, common, kept = engine.row(
        "SELECT count(*), count(*) FILTER (NOT enough), count(*) FILTER (enough AND generic),"
        " count(*) FILTER (enough AND NOT generic) FROM wordings"
    )
    shown = engine.rows(f"SELECT title, users FROM wordings WHERE generic ORDER BY users DESC, title LIMIT {_N_SHOWN}")
    return {
        "boards": boards,
        "wordings": {"seen": n, "too_few_users": few, "generic": common, "kept": kept},
        "generic_titles": [{"title": title, "users": users} for title, users in shown],
    }


def _write(engine: Engine, config: BoardsConfig, path: Path) -> None:
    counted = 'SELECT item_id, key, count(DISTINCT "user") AS count FROM saves GROUP BY item_id, key'
    kept = f"SELECT c.*, w.title FROM ({counted}) c JOIN wordings w USING (key) WHERE enough AND NOT generic"
    titles = (
        "list({'title': title, 'count': count::BIGINT} ORDER BY count DESC, title, key)"
        f"[1:{config.max_titles}] AS boards"
    )
    engine.write(
        path, f"SELECT item_id, -1::TINYINT AS text_version, {titles} FROM ({kept}) GROUP BY item_id ORDER BY item_id"
    )
