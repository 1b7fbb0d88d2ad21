"""The guards, computed once a distinct query: held out, cross-fitting folds, enough users, private text.

SQL does the ordinary case; a text that is not ASCII goes through the very functions of `pertinent.data.splits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pertinent.data.build import load_split_rule
from pertinent.data.splits import SplitRule, cross_folds, normalise_query, normalised, sorted_words
from pertinent.errors import DataError
from pertinent.files import read_json, read_parquet, write_json, write_parquet
from pertinent.mining.config import MineConfig
from pertinent.mining.engine import Engine
from pertinent.mining.logs import Log
from pertinent.mining.private import MIN_DIGITS, is_private
from pertinent.mining.sql import literal, name_of, scan
from pertinent.mining.survey import Survey

NO_QUERY = "query is empty"
HELD_OUT = "query is held out (dev or test)"
SPELLINGS, QUERIES, GUARDED = "spellings.parquet", "queries.parquet", "guarded.json"
_FOLDED = "'fold ' || text"  # as cross_folds hashes it
_ASCII = "strlen({0}) = length({0})"
# normalise_query in SQL; the blanks are those of str.split in ASCII.
NORMALISED = (
    f"CASE WHEN {_ASCII.format('query')} THEN trim(regexp_replace(lower(query), '[\\t-\\r\\x1c-\\x20]+', ' ', 'g'))"
    " ELSE normalise_text(query) END"
)
_TWO_64 = 2.0**64


@dataclass(frozen=True)
class Guarded:
    """spellings: query (as the log writes it) -> key. queries: key -> query, query_id, fold, excluded.

    A key from 0 is a query that may appear; a key under 0 stands for all queries that may not and that the same folds
    exclude: -1 - excluded. excluded: bit k is set where version k leaves the query out. dropped: reason -> rows.
    counts: of queries by what befell them.
    """

    spellings: Path
    queries: Path
    dropped: Mapping[str, int]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class HeldOut:
    """Which queries are held out. judged: query, query_id and split, a row a judged query; rule: of all others."""

    judged: pl.DataFrame
    rule: SplitRule


def load_held_out(data: Path) -> HeldOut:
    """The judged queries and the split rule of a data folder. Raises DataError where it does not tell the rule."""
    rule = load_split_rule(data)
    if rule is None:
        raise DataError(f"{data / 'dataset.json'}: expected the rule of the splits, found none: build the data again")
    judged = read_parquet(data / "judgments.parquet", ["query", "query_id", "split"])
    return HeldOut(judged.unique("query", keep="first", maintain_order=True), rule)


def guard_queries(
    engine: Engine, log: Log, survey: Survey, config: MineConfig, held_out: HeldOut, work: Path
) -> Guarded:
    """Judge every distinct query of the log's wanted rows; what was done whole in ``work`` is kept.

    Users are told apart by a 64-bit hash; two that share one count once, and a user that is blank or begins with a blank
    does not count: both err on the safe side.
    Raises DataError where k > 1 and the log has nobody to count.
    """
    if (work / GUARDED).exists():
        done = read_json(work / GUARDED)
        return Guarded(work / SPELLINGS, work / QUERIES, done["dropped"], done["queries"])
    _require_users(log, config)
    judged = work / "judged.parquet"
    write_parquet(judged, _judged(held_out, config))
    engine.connection.create_function("normalise_text", normalise_query, ["VARCHAR"], "VARCHAR")
    engine.connection.create_function("private_text", is_private, ["VARCHAR"], "BOOLEAN")
    _count_users(engine, log, survey, config)
    engine.table(
        "spelled",
        f"SELECT query, n, users, {NORMALISED} AS text FROM raw WHERE query IS NOT NULL",
    )
    _classify(engine, held_out.rule, judged)
    _key(engine, config, held_out.rule, judged)
    spellings, queries = work / SPELLINGS, work / QUERIES
    shown = "SELECT key, text AS query, coalesce(query_id, left(sha256(text), 16)) AS query_id, fold, excluded FROM keyed WHERE shown"
    engine.write(queries, shown, compression="lz4")
    engine.write(spellings, "SELECT s.query, k.key FROM spelled s JOIN keyed k USING (text)", compression="lz4")
    guarded = Guarded(spellings, queries, _dropped(engine), _counts(engine))
    for table in ("raw", "seen", "spelled", "known", "candidates", "guarded", "keyed"):
        engine.rows(f"DROP TABLE IF EXISTS {table}")
    write_json(work / GUARDED, {"dropped": guarded.dropped, "queries": guarded.counts})
    return guarded


def are_held_out(queries: pl.Series, held_out: HeldOut) -> pl.Series:
    """Whether each query is judged for dev or test, or in dev or test by the rule. queries: no nulls."""
    key = _words_of(held_out.rule)
    judged: dict[str, bool] = {}
    for query, split in held_out.judged.select("query", "split").iter_rows():
        judged[key(query)] = judged.get(key(query), False) or split != "train"
    by_rule = zip(queries, held_out.rule.of(queries), strict=True)
    return pl.Series([judged.get(key(query), split != "train") for query, split in by_rule], dtype=pl.Boolean)


def _words_of(rule: SplitRule) -> Callable[[str], str]:
    """What queries share that may not be parted: the normalised text, or its words in any order."""
    return sorted_words if rule.by == "words" else normalise_query


def check_fields(fields: Path, data: Path, *, n_folds: int = 5) -> dict[str, int]:
    """Check engaged queries against the queries that must not be among them; returns counts of what was checked.

    fields: a fields.parquet (item_id, text_version, engaged_queries), whoever made it. data: a data stage's folder.
    Raises DataError for a held-out query, or for a query of fold k in text_version k, naming item, version and query.
    """
    held_out = load_held_out(data)
    table = read_parquet(fields, ["item_id", "text_version", "engaged_queries"])
    entries = table.explode("engaged_queries", keep_nulls=False, empty_as_null=False)
    entries = entries.with_columns(query=pl.col("engaged_queries").struct.field("query")).drop_nulls("query")
    unique = entries["query"].unique()
    judged = pl.DataFrame({"query": unique, "held_out": are_held_out(unique, held_out)})
    judged = judged.with_columns(fold=cross_folds(unique, n_folds))
    entries = entries.join(judged, on="query", maintain_order="left")
    _refuse(fields, entries.filter("held_out"), "a held-out query (dev or test)")
    _refuse(fields, entries.filter(pl.col("fold") == pl.col("text_version")), "a query of the version's own fold")
    return {"rows": table.height, "entries": entries.height, "queries": unique.len(), "refused": 0}


def _refuse(fields: Path, wrong: pl.DataFrame, what: str) -> None:
    if wrong.height:
        first = wrong.sort("item_id", "text_version", "query").row(0, named=True)
        raise DataError(
            f"{fields}: item {first['item_id']}, text_version {first['text_version']}: expected no engaged query that is"
            f" {what}, found {first['query']!r} ({wrong.height:,} such entries)"
        )


def _require_users(log: Log, config: MineConfig) -> None:
    if config.k > 1 and config.k_by not in log.columns:
        stand_in = "k_by=session where sessions may stand in, or " if config.k_by == "user" else ""
        raise DataError(
            f"{log.files[0]}: expected a column {config.k_by} to count {config.k} distinct ones a query, found none: set"
            f" {stand_in}k=1 if every query may be shown"
        )


def _judged(held_out: HeldOut, config: MineConfig) -> pl.DataFrame:
    """text, query_id, split, fold and words of each judged query."""
    judged = held_out.judged.with_columns(text=normalised(held_out.judged["query"]))
    judged = judged.unique("text", keep="first", maintain_order=True)
    words = [_words_of(held_out.rule)(query) for query in judged["query"]]
    return judged.with_columns(
        words=pl.Series(words, dtype=pl.String), fold=cross_folds(judged["text"], config.n_folds)
    )


def _count_users(engine: Engine, log: Log, survey: Survey, config: MineConfig) -> None:
    """Tables ``raw`` (query as written, rows, users) and, with k > 1, ``seen`` (query, user's hash)."""
    if config.k == 1:
        sql = f"SELECT query, count(*) AS n, 0 AS users FROM {log.relation} WHERE {survey.wanted} GROUP BY query"
        engine.table("raw", sql, "distinct queries")
        return
    user = name_of(config.k_by)
    sql = (
        f"SELECT query, CASE WHEN {user} >= '!' THEN hash({user}) END AS u, count(*) AS n FROM {log.relation}"
        f" WHERE {survey.wanted} GROUP BY ALL"
    )
    engine.table("seen", sql, "users of each query")
    engine.table("raw", "SELECT query, sum(n)::BIGINT AS n, count(u) AS users FROM seen GROUP BY query")
    if engine.row("SELECT coalesce(max(users), 0) FROM raw")[0] == 0:
        raise DataError(
            f"{log.files[0]}: expected some row with a {config.k_by} to count {config.k} distinct ones a query, found"
            " none: set k=1 if every query may be shown"
            + (", or k_by=session where sessions may stand in" if config.k_by == "user" else "")
        )


def _classify(engine: Engine, rule: SplitRule, judged: Path) -> None:
    """Table ``known``: each normalised text, its words, rows and bounds of its users, its judged id and if held out."""
    words = "array_to_string(list_sort(string_split(text, ' ')), ' ')" if rule.by == "words" else "text"
    texts = (
        "SELECT text, sum(n)::BIGINT AS n, max(users) AS least, sum(users)::BIGINT AS most FROM spelled"
        " WHERE text <> '' GROUP BY text"
    )
    # As split_of does it: dev is h < test + dev, rounded, for .14 + .07 is not .21 in binary.
    train = (
        f"{_digest('q.words')}::DOUBLE / {literal(_TWO_64)} >= {literal(round(rule.config.test + rule.config.dev, 12))}"
    )
    ids = f"(SELECT text, query_id FROM {scan(judged)}) j"
    told = f"(SELECT words, bool_or(split <> 'train') AS held_out FROM {scan(judged)} GROUP BY words) s"
    engine.table(
        "known",
        f"SELECT q.*, j.query_id, coalesce(s.held_out, NOT ({train})) AS held_out FROM (SELECT *, {words} AS words"
        f" FROM ({texts})) q LEFT JOIN {ids} USING (text) LEFT JOIN {told} ON s.words = q.words",
    )


def _key(engine: Engine, config: MineConfig, rule: SplitRule, judged: Path) -> None:
    """Table ``keyed``: the queries that are not held out, whether k users issued each, and so on to its key."""
    if config.k == 1:
        enough, users = "true", "(SELECT NULL::VARCHAR AS text, 0 AS users WHERE false)"
    else:
        # Several spellings share users: only where these bounds do not settle it are they counted together.
        unsettled = f"SELECT text FROM known WHERE least < {config.k} AND most >= {config.k}"
        users = (
            f"(SELECT s.text, count(DISTINCT e.u) AS users FROM spelled s SEMI JOIN ({unsettled}) USING (text)"
            " JOIN seen e USING (query) GROUP BY s.text)"
        )
        enough = f"coalesce(u.users, k.least) >= {config.k}"
    fold = f"({_digest(_FOLDED)} % {config.n_folds})::TINYINT"
    engine.table(
        "candidates",
        f"SELECT k.*, {enough} AS enough, {fold} AS fold FROM known k LEFT JOIN {users} u USING (text)"
        " WHERE NOT k.held_out",
    )
    digits = "length(regexp_replace(text, '[^0-9]', '', 'g'))"
    suspect = f"contains(text, '@') OR {digits} >= {MIN_DIGITS} OR NOT ({_ASCII.format('text')})"
    private = f"CASE WHEN enough THEN CASE WHEN {suspect} THEN private_text(text) ELSE false END ELSE false END"
    excluded, siblings = "(1 << fold::INTEGER)", ""
    if rule.by == "words":  # reorderings are one query: what a fold leaves out, it leaves out in every order
        folds = f"SELECT words, fold FROM candidates UNION ALL SELECT words, fold FROM {scan(judged)}"
        grouped = f"SELECT words, bit_or(1 << fold::INTEGER) AS excluded FROM ({folds}) GROUP BY words"
        excluded, siblings = "s.excluded", f"JOIN ({grouped}) s USING (words)"
    engine.table(
        "guarded",
        f"SELECT q.*, {excluded}::INTEGER AS excluded, enough AND NOT private AS shown"
        f" FROM (SELECT *, {private} AS private FROM candidates) q {siblings}",
    )
    rank = "row_number() OVER (ORDER BY text) - 1"
    engine.table(
        "keyed",
        f"SELECT *, ({rank})::INTEGER AS key FROM guarded WHERE shown"
        " UNION ALL SELECT *, -1 - excluded AS key FROM guarded WHERE NOT shown",
    )


def _digest(text: str) -> str:
    """The SQL of the first 8 bytes of the SHA-256 of a text, as an unsigned number."""
    return f"('0x' || left(sha256({text}), 16))::UBIGINT"


def _dropped(engine: Engine) -> dict[str, int]:
    no_query = engine.row(
        "SELECT coalesce(sum(n), 0)::BIGINT FROM raw ANTI JOIN (SELECT query FROM spelled WHERE text <> '') USING (query)"
    )[0]
    held_out = engine.row("SELECT coalesce(sum(n), 0)::BIGINT FROM known WHERE held_out")[0]
    return {reason: n for reason, n in ((NO_QUERY, no_query), (HELD_OUT, held_out)) if n}


def _counts(engine: Engine) -> dict[str, int]:
    names = ("log", "held_out", "too_few_users", "private", "shown", "rows_of_too_few_users", "rows_of_private")
    known = engine.row("SELECT count(*), count(*) FILTER (held_out) FROM known")
    rest = engine.row(
        "SELECT count(*) FILTER (NOT enough), count(*) FILTER (enough AND private), count(*) FILTER (shown),"
        " coalesce(sum(n) FILTER (NOT enough), 0)::BIGINT, coalesce(sum(n) FILTER (enough AND private), 0)::BIGINT FROM keyed"
    )
    return dict(zip(names, (*known, *rest), strict=True))
