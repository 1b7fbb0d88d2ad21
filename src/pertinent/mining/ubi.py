"""OpenSearch User Behavior Insights 1.3: events and queries in JSONL -> the rows of a log.

An event names its query by query_id; the query's text comes from the queries. Lines of both kinds may stand in one file,
as they are or inside "_source", as an index dump has them. Source: the schemas of UBI 1.3.0 (event, query.request).
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import orjson

from pertinent.errors import DataError
from pertinent.files import reason_of
from pertinent.mining.config import LogConfig
from pertinent.mining.engine import Engine
from pertinent.mining.sql import json_lines, json_text, moment, scan, whole_position

# UBI's action names -> ours. "view" is left out: of a result on the page or of the item's own page, UBI does not say.
UBI_ACTIONS = {
    "impression": "impression",
    "click": "click",
    "click_through": "click",
    "watch": "long_click",
    "add_to_cart": "save",
    "purchase": "save",
}
_PEEKED_LINES = 20


def is_ubi(file: Path) -> bool:
    """Whether one of the first lines is a UBI event (action_name) or query (user_query)."""
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
            lines = [line for line, _ in zip(stream, range(_PEEKED_LINES), strict=False)]
    except (OSError, EOFError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise DataError(f"{file}: cannot be read: {reason}") from None
    for line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            inner = row.get("_source", row)
            if isinstance(inner, dict) and ("action_name" in inner or "user_query" in inner):
                return True
    return False


def stage_ubi(engine: Engine, config: LogConfig, files: Sequence[Path], work: Path) -> list[Path]:
    """One Parquet file a source file with the rows of LOG_RELATION; whole ones found in ``work`` are kept.

    A query without a query_id has no events. Of several queries with one query_id the first by time counts, as pages
    of one search may repeat it. The user is user_id, else client_id. Raises DataError where no file holds a query.
    """
    queries = work / "ubi-queries.parquet"
    if not queries.exists():
        parts = " UNION ALL BY NAME ".join(_queries(file) for file in files)
        engine.write(
            queries,
            f"SELECT query_id, min_by(q, (ts, query)) AS q FROM (SELECT query_id, ts, query,"
            f" struct_pack(query, client, hits, ts) AS q FROM ({parts})) GROUP BY query_id",
            "read UBI queries",
        )
    if engine.row(f"SELECT count(*) FROM {scan(queries)}")[0] == 0:
        named = ", ".join(file.name for file in files)
        raise DataError(f"{named}: expected UBI queries (query_id and user_query) beside the events, found none")
    staged = []
    for number, file in enumerate(files):
        target = work / f"staged-{number:05d}.parquet"
        if not target.exists():
            engine.write(target, _events(config, file, queries), f"read {file.name}")
        staged.append(target)
    if config.ubi_impressions == "hits":
        target = work / "staged-hits.parquet"
        if not target.exists():
            engine.write(target, _hits(queries), "read UBI hits")
        staged.append(target)
    return staged


def _documents(file: Path) -> str:
    inner = "CASE WHEN json_type(line, '$._source') = 'OBJECT' THEN json_extract(line, '$._source') ELSE line::JSON END"
    return f"(SELECT whole, {inner} AS doc FROM {json_lines(file)})"


def _field(path: str) -> str:
    return json_text(path, "doc")


def _queries(file: Path) -> str:
    hits = "json_extract_string(doc, '$.query_response_hit_ids[*]')"
    return (
        f"SELECT {_field('$.query_id')} AS query_id, {moment(_field('$.timestamp'))} AS ts,"
        f" {_field('$.user_query')} AS query, coalesce({_field('$.user_id')}, {_field('$.client_id')}) AS client,"
        f" {hits} AS hits FROM {_documents(file)}"
        f" WHERE whole AND {_field('$.action_name')} IS NULL AND {_field('$.query_id')} IS NOT NULL"
        f" AND {_field('$.user_query')} IS NOT NULL"
    )


def _events(config: LogConfig, file: Path, queries: Path) -> str:
    dwell = f"TRY_CAST({_field(config.ubi_dwell)} AS DOUBLE)" if config.ubi_dwell else "NULL::DOUBLE"
    position = whole_position(_field("$.event_attributes.position.ordinal"))
    user = f"coalesce({_field('$.user_id')}, {_field('$.client_id')})"
    action = _field("$.action_name")
    event = (
        f"SELECT {moment(_field('$.timestamp'))} AS ts, {_field('$.query_id')} AS query_id,"
        f" {_field('$.event_attributes.object.object_id')} AS item_id, {position} AS position, {action} AS action,"
        f' {user} AS "user", {_field("$.session_id")} AS session, {dwell} AS dwell_s, NOT whole AS broken'
        # A line that is neither event nor query is broken; queries have been read.
        f" FROM {_documents(file)} WHERE {action} IS NOT NULL OR {_field('$.user_query')} IS NULL"
    )
    # Where impressions are the hits of the queries, events of that name would count them twice: no action of ours.
    if config.ubi_impressions == "hits":
        event = f"SELECT * REPLACE (if(action = 'impression', 'impression event', action) AS action) FROM ({event})"
    return (
        'SELECT ts, q.query AS query, item_id, position, action, coalesce("user", q.client) AS "user", session,'
        f" dwell_s, broken OR action IS NULL AS broken FROM ({event}) LEFT JOIN {scan(queries)} USING (query_id)"
    )


def _hits(queries: Path) -> str:
    one = f"(SELECT q, unnest(range(len(q.hits))) AS i FROM {scan(queries)})"
    return (
        "SELECT q.ts AS ts, q.query AS query, nullif(trim(q.hits[i + 1]), '') AS item_id, (i + 1)::INTEGER AS position,"
        f" 'impression' AS action, q.client AS \"user\", NULL::VARCHAR AS session, NULL::DOUBLE AS dwell_s,"
        f" false AS broken FROM {one}"
    )
