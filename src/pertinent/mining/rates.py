"""Smoothed engagement rates of items and of (query, item) pairs, in every cross-fitting version.

rate of an item: (engaged + s * m) / (examined + s), m = engaged / examined of all items together.
rate of a pair: (engaged + s * r) / (examined + s), r = the rate of its item.
Both are posterior means: engaged actions are Poisson(rate * examined) with a Gamma(s * mean, s) prior, whose mean the
data give (empirical Bayes) and whose strength ``s`` is that of s examined impressions. examined counts an impression by
the chance that it was looked at, so a rate is free of position bias; both sums decay with age. One impression may bear
several actions: a rate may exceed 1.
"""

from __future__ import annotations

from pathlib import Path

from pertinent.mining.aggregate import UNIT
from pertinent.mining.config import MineConfig
from pertinent.mining.engine import Engine
from pertinent.mining.sql import scan

ITEM_RATES, RATES = "item_rates.parquet", "rates.parquet"
_MEASURES = ("impressions", "actions", "examined", "engaged")


def item_rates(engine: Engine, pairs: Path, queries: Path, config: MineConfig, out: Path) -> dict[str, float | None]:
    """Write out/item_rates.parquet: item_id, text_version, impressions, actions, rate; keep table ``item_rate``.

    Queries that may not appear count here too: an item's rate names no query. Returns version -> prior mean.
    """
    excluded = f"SELECT p.*, coalesce(q.excluded, -1 - p.key) AS excluded FROM {scan(pairs)} p LEFT JOIN {scan(queries)} q USING (key)"
    sums = ", ".join(f"sum({name})::HUGEINT AS {name}" for name in _MEASURES)
    engine.table("item_part", f"SELECT item_id, excluded, {sums} FROM ({excluded}) GROUP BY item_id, excluded")
    versions = _versions(config)
    wide = ", ".join(
        f"coalesce(sum({name}) FILTER ({_within(version)}), 0)::HUGEINT AS {name}_{_tag(version)}"
        for version in versions
        for name in _MEASURES
    )
    engine.table("item_sum", f"SELECT item_id, {wide} FROM item_part GROUP BY item_id")
    priors = {version: _prior(engine, _tag(version)) for version in versions}
    rates = ", ".join(f"{_item_rate(version, priors[version], config)} AS rate_{_tag(version)}" for version in versions)
    engine.table("item_rate", f"SELECT *, {rates} FROM item_sum")
    rows = " UNION ALL ".join(
        f"SELECT item_id, {version}::TINYINT AS text_version, impressions_{_tag(version)}::BIGINT AS impressions,"
        f" actions_{_tag(version)}::BIGINT AS actions, rate_{_tag(version)} AS rate FROM item_rate"
        for version in versions
    )
    engine.write(out / ITEM_RATES, f"SELECT * FROM ({rows}) ORDER BY item_id, text_version", "item rates")
    return {str(version): prior for version, prior in priors.items()}


def pair_rates(engine: Engine, pairs: Path, queries: Path, config: MineConfig, out: Path) -> int:
    """Write out/rates.parquet: query_id, query, item_id, text_version, impressions, actions, rate; returns its rows.

    Two rows a pair, for a reader looks a pair up in two versions only: -1, and that of its query's own fold, which has
    nothing of the query and so is the item's rate. Sorted by query, item_id and text_version. Needs ``item_rate``.
    """
    smoothed = _smoothed("p.examined", "p.engaged", "i.rate_all", config)
    own = ", ".join(f"i.rate_{fold}" for fold in range(config.n_folds))
    # The rate of the query's own fold by its number; DuckDB counts lists from 1.
    both = (
        f"SELECT p.key, p.item_id, p.impressions, p.actions, {smoothed} AS rate, [{own}][q.fold + 1] AS own_rate,"
        f" q.fold, q.query_id, q.query FROM {scan(pairs)} p JOIN {scan(queries)} q USING (key) JOIN item_rate i USING (item_id)"
    )
    rows = (
        "SELECT query_id, query, item_id, unnest([-1, fold])::TINYINT AS text_version,"
        " unnest([impressions, 0])::BIGINT AS impressions, unnest([actions, 0])::BIGINT AS actions,"
        f" unnest([rate, own_rate]) AS rate, key FROM ({both})"
    )
    engine.write(
        out / RATES, f"SELECT * EXCLUDE (key) FROM ({rows}) ORDER BY key, item_id, text_version", "rates"
    )
    return int(engine.row(f"SELECT count(*) FROM {scan(out / RATES)}")[0])


def _versions(config: MineConfig) -> list[int]:
    return [-1, *range(config.n_folds)]


def _tag(version: int) -> str:
    return "all" if version < 0 else str(version)


def _within(version: int) -> str:
    return "true" if version < 0 else f"(excluded >> {version}) & 1 = 0"


def _prior(engine: Engine, tag: str) -> float | None:
    engaged, examined = engine.row(f"SELECT sum(engaged_{tag}), sum(examined_{tag}) FROM item_sum")
    return None if not examined else int(engaged) / int(examined)


def _item_rate(version: int, prior: float | None, config: MineConfig) -> str:
    if prior is None:  # without an impression there is no rate
        return "NULL::DOUBLE"
    tag = _tag(version)
    return _smoothed(f"examined_{tag}", f"engaged_{tag}", repr(prior), config)


def _smoothed(examined: str, engaged: str, prior: str, config: MineConfig) -> str:
    strength = repr(config.prior_strength)
    return f"({engaged}::DOUBLE / {UNIT} + {strength} * {prior}) / ({examined}::DOUBLE / {UNIT} + {strength})"
