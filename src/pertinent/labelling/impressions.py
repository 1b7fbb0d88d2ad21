"""A stratified sample of a log's pairs by DuckDB: out of memory, and the same for any order of rows, files or threads.

Every draw is a hash of the seed, the normalised query and the item, so no row's place in a file can matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl

from pertinent.data.source import nearest
from pertinent.data.splits import SplitRule, normalise_query, normalised, sorted_words
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_parquet
from pertinent.labelling.allocation import allocate
from pertinent.labelling.config import BANDS, LOG_COLUMNS, SampleConfig
from pertinent.mining.engine import Engine
from pertinent.mining.guards import NORMALISED, HeldOut
from pertinent.mining.sql import literal, name_of, scan, whole_position

_TWO_64 = 2.0**64


@dataclass(frozen=True)
class Impressions:
    """pairs: query, item_id, language, stratum, weight (pairs of the log that each stands for), query_rows, position.

    strata: of each, its pairs after the caps and how many were drawn. counts: pairs of the log, and what befell them.
    """

    pairs: pl.DataFrame
    strata: dict[str, dict[str, int]]
    counts: dict[str, int]


def sample_impressions(
    engine: Engine, config: SampleConfig, files: Sequence[Path], held_out: HeldOut, data: Path, work: Path, seed: int
) -> Impressions:
    """Draw config.pairs * config.shares.impressions distinct unjudged pairs of training queries from the log's files.

    data: the data stage's folder, whose items alone are drawn and whose judged pairs are left out.
    work: an existing folder for temporary tables. Pairs are sorted by query and item.
    Raises DataError for a missing column, or a log without a pair to draw; ConfigError for quotas that cannot be.
    """
    engine.connection.create_function("normalise_text", normalise_query, ["VARCHAR"], "VARCHAR")
    items = data / "items.parquet"
    extra = _group_pairs(engine, config, files, items)
    written = _write_judged(held_out, data / "judgments.parquet", work)
    _guard(engine, held_out.rule, work)
    _draw(engine, config, items, extra, work, seed)
    sizes = dict(engine.rows("SELECT stratum, count(*) FROM capped GROUP BY stratum ORDER BY stratum"))
    if not sizes:
        raise DataError(f"{files[0]}: expected unjudged pairs of training queries and known items, found none")
    places = allocate(sizes, round(config.pairs * config.shares.impressions), config.allocation, config.quotas)
    write_parquet(work / "places.parquet", _table_of(places, sizes))
    engine.write(
        work / "drawn.parquet",
        "SELECT coalesce(w.written, c.query) AS query, item_id, language, stratum, weight, query_rows, position FROM"
        " (SELECT *, row_number() OVER (PARTITION BY stratum ORDER BY draw, text, item_id) AS place FROM capped) c"
        f" JOIN {scan(work / 'places.parquet')} USING (stratum) LEFT JOIN {scan(written)} w USING (text)"
        " WHERE place <= places ORDER BY 1, 2",
    )
    pairs = pl.read_parquet(work / "drawn.parquet")
    strata = {name: {"pairs": size, "drawn": places[name]} for name, size in sizes.items()}
    return Impressions(pairs, strata, {**_counts(engine), "capped": sum(sizes.values()), "drawn": pairs.height})


def _table_of(places: Mapping[str, int], sizes: Mapping[str, int]) -> pl.DataFrame:
    names = sorted(places)
    weights = [sizes[name] / places[name] if places[name] else 0.0 for name in names]
    return pl.DataFrame({"stratum": names, "places": [places[name] for name in names], "weight": weights})


def _group_pairs(engine: Engine, config: SampleConfig, files: Sequence[Path], items: Path) -> dict[str, str]:
    """Table ``logged``, a row a pair as the log writes it; returns each further stratum -> "log" or "items"."""
    source = scan(*files, options=", union_by_name=true")
    types = {row[0]: row[1] for row in engine.rows(f"DESCRIBE SELECT * FROM {source}")}
    ours = {name: config.columns.get(name, name) for name in LOG_COLUMNS}
    for name, theirs in ours.items():
        if theirs not in types and (name in ("query", "item_id") or name in config.columns):
            raise DataError(
                f"{files[0]}: expected a column {theirs!r} ({name}), found none; nearest: {nearest(theirs, list(types))!r}"
            )
    extra = _places_of_strata(engine, config, types, items)
    select = [_text(ours[name], types) + f" AS {name}" for name in ("query", "item_id", "language")]
    position = whole_position(_text(ours["position"], types))
    select += [f"CASE WHEN ({position}) >= 0 THEN ({position}) END AS position"]
    select += [f"{_text(name, types)} AS {name_of('x ' + name)}" for name, where in extra.items() if where == "log"]
    kept = ["min(position) AS position", "min(language) AS language"]
    kept += [
        f"min({name_of('x ' + name)}) AS {name_of('x ' + name)}" for name, where in extra.items() if where == "log"
    ]
    engine.table(
        "logged",
        f"SELECT query, item_id, count(*) AS n, {', '.join(kept)} FROM (SELECT {', '.join(select)} FROM {source})"
        " WHERE query IS NOT NULL AND item_id IS NOT NULL GROUP BY query, item_id",
        "pairs of the log",
    )
    return extra


def _places_of_strata(engine: Engine, config: SampleConfig, types: Mapping[str, str], items: Path) -> dict[str, str]:
    of_items = [row[0] for row in engine.rows(f"DESCRIBE SELECT * FROM {scan(items)}")]
    found: dict[str, str] = {}
    for name in config.strata:
        if name in BANDS or name == "language":
            continue
        if name not in types and name not in of_items:
            near = nearest(name, [*BANDS, *types, *of_items])
            raise ConfigError(f"strata: expected a column of the log or the items, found {name!r}; nearest: {near!r}")
        found[name] = "log" if name in types else "items"
    return found


def _text(column: str, types: Mapping[str, str]) -> str:
    """The SQL of a column as text, null where it is blank or not there."""
    if column not in types:
        return "NULL::VARCHAR"
    value = name_of(column)
    if types[column] in ("FLOAT", "DOUBLE"):  # an id that pandas wrote as 12.0
        value = f"CASE WHEN {value} = floor({value}) THEN {value}::BIGINT::VARCHAR ELSE {value}::VARCHAR END"
    elif types[column] != "VARCHAR":
        value = f"{value}::VARCHAR"
    return f"nullif(trim({value}), '')"


def _write_judged(held_out: HeldOut, judgments: Path, work: Path) -> Path:
    """judged.parquet (text, item_id), told.parquet (words, held_out) and written.parquet (text, the judgments' spelling)."""
    pairs = pl.read_parquet(judgments, columns=["query", "item_id"])
    write_parquet(work / "judged.parquet", pairs.select(normalised(pairs["query"]).alias("text"), "item_id").unique())
    key = sorted_words if held_out.rule.by == "words" else normalise_query
    judged = held_out.judged.with_columns(
        words=pl.Series([key(query) for query in held_out.judged["query"]], dtype=pl.String)
    )
    told = judged.group_by("words").agg((pl.col("split") != "train").any().alias("held_out"))
    write_parquet(work / "told.parquet", told)
    spelt = held_out.judged.select(text=normalised(held_out.judged["query"]), written="query")
    write_parquet(work / "written.parquet", spelt.unique("text", keep="first", maintain_order=True))
    return work / "written.parquet"


def _guard(engine: Engine, rule: SplitRule, work: Path) -> None:
    """Table ``texts``: each normalised query, how its rows are spelt first, its rows, and if it is held out."""
    engine.table(
        "spelled",
        f"SELECT query, n, {NORMALISED} AS text FROM (SELECT query, sum(n)::BIGINT AS n FROM logged GROUP BY query)",
    )
    words = "array_to_string(list_sort(string_split(text, ' ')), ' ')" if rule.by == "words" else "text"
    # As split_of does it: dev is h < test + dev, rounded, for .14 + .07 is not .21 in binary.
    digest = "('0x' || left(sha256(words), 16))::UBIGINT::DOUBLE"
    train = f"{digest} / {literal(_TWO_64)} >= {literal(round(rule.config.test + rule.config.dev, 12))}"
    engine.table(
        "texts",
        f"SELECT t.text, t.query, t.query_rows, coalesce(s.held_out, NOT ({train})) AS held_out FROM (SELECT *, {words} AS"
        " words FROM (SELECT text, min(query) AS query, sum(n)::BIGINT AS query_rows FROM spelled WHERE text <> ''"
        f" GROUP BY text)) t LEFT JOIN {scan(work / 'told.parquet')} s USING (words)",
    )


def _draw(engine: Engine, config: SampleConfig, items: Path, extra: Mapping[str, str], work: Path, seed: int) -> None:
    """Tables ``eligible`` and ``capped``: the pairs that may be drawn with stratum and draw, and those within the caps."""
    logged = [name for name, where in extra.items() if where == "log"]
    mins = "".join(f", min({name_of('x ' + name)}) AS {name_of('x ' + name)}" for name in logged)
    own = "".join(
        f", nullif(trim({name_of(name)}::VARCHAR), '') AS {name_of('x ' + name)}"
        for name, where in extra.items()
        if where == "items"
    )
    engine.table(
        "merged",
        "SELECT s.text, item_id, min(position) AS position, min(language) AS language"
        f"{mins} FROM logged JOIN spelled s USING (query) WHERE s.text <> '' GROUP BY s.text, item_id",
        "spellings",
    )
    engine.rows("DROP TABLE logged")
    joined = (
        f"SELECT m.*, t.query, t.query_rows, i.* EXCLUDE (item_id) FROM merged m JOIN texts t USING (text)"
        f" JOIN (SELECT item_id{own} FROM {scan(items)}) i USING (item_id)"
        f" ANTI JOIN {scan(work / 'judged.parquet')} j ON m.text = j.text AND m.item_id = j.item_id WHERE NOT t.held_out"
    )
    draw = f"md5_number_lower({literal(f'{seed}')} || chr(31) || text || chr(31) || item_id)"
    stratum = " || ' | ' || ".join(_value(name, config) for name in config.strata) or "'all'"
    engine.table("eligible", f"SELECT *, {draw} AS draw, {stratum} AS stratum FROM ({joined})", "draws")
    ranked = "row_number() OVER (PARTITION BY {0} ORDER BY draw, text, item_id)"
    engine.table(
        "capped",
        f"SELECT * FROM (SELECT * FROM eligible QUALIFY {ranked.format('text')} <= {config.max_per_query})"
        f" QUALIFY {ranked.format('item_id')} <= {config.max_per_item}",
        "caps",
    )


def _value(name: str, config: SampleConfig) -> str:
    """The SQL of a pair's value of one of the strata: a band, or the text of a column."""
    if name == "popularity":
        return _band("query_rows", config.popularity_bands)
    if name == "position":
        return _band("position", config.position_bands)
    return "coalesce(language, 'und')" if name == "language" else f"coalesce({name_of('x ' + name)}, 'none')"


def _band(number: str, firsts: Sequence[int]) -> str:
    """The SQL of the band of a whole number: "1-9" up to 9, "1000+" from 1000; "none" of null. 0 is in the first."""
    edges = [1, *firsts]
    cases = [f"WHEN {number} < {high} THEN '{low}-{high - 1}'" for low, high in pairwise(edges)]
    return f"CASE WHEN {number} IS NULL THEN 'none' {' '.join(cases)} ELSE '{edges[-1]}+' END"


def _counts(engine: Engine) -> dict[str, int]:
    merged, eligible = engine.row("SELECT (SELECT count(*) FROM merged), (SELECT count(*) FROM eligible)")
    queries, held_out = engine.row("SELECT count(*), count(*) FILTER (held_out) FROM texts")
    return {"log_queries": queries, "held_out_queries": held_out, "log_pairs": merged, "eligible": eligible}
