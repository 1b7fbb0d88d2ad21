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
from pertinent.mining.sql import literal, scan

ITEM_RATES, RATES = "item_rates.parquet", "rates.parquet"
_MEASURES = ("impressions", "actions", "examined", "engaged")


def item_rates(engine: Engine, pairs: Path, queries: Path, config: MineConfig, out: Path) -> dict[str, float | None]:
    """Write out/item_rates.parquet: item_id, text_version, impressions, actions, rate; keep table ``item_rate``.

    Queries that may not appear count here too: an item's rate names no query. Returns version -> prior mean.
    """
    sums = ", ".join(f"sum({name})::HUGEINT AS {name}" for name in _MEASURES)
    excluded = "coalesce(q.excluded, -1 - p.key)"
    engine.table(
        "item_part",
        f"SELECT item, {excluded} AS excluded, {sums} FROM {scan(pairs)} p LEFT JOIN {scan(queries)} q USING (key)"
        " WHERE item IS NOT NULL GROUP BY ALL",
    )
    engine.table("item_all", f"SELECT item, {sums} FROM item_part GROUP BY item")
    # What version k leaves out of each item. Where every query has one fold, the parts are that already.
    single = engine.row("SELECT bool_and(excluded & (excluded - 1) = 0) FROM item_part")[0]
    fold = f"list_position({literal([1 << k for k in range(config.n_folds)])}, excluded) - 1"
    several = f"item_part JOIN range({config.n_folds}) f(fold) ON (excluded >> fold::INTEGER) & 1 = 1"
    engine.table(
        "item_fold",
        f"SELECT item, ({fold})::TINYINT AS fold, {', '.join(_MEASURES)} FROM item_part"
        if single
        else f"SELECT item, fold::TINYINT AS fold, {sums} FROM {several} GROUP BY ALL",
    )
    priors = _priors(engine, config)
    left = ", ".join(f"a.{name} - coalesce(f.{name}, 0) AS {name}" for name in _MEASURES)
    prior = f"{literal(list(priors.values()))}[version + 2]"  # DuckDB counts lists from 1
    engine.table(
        "item_rate",
        "SELECT item, version::TINYINT AS text_version, impressions::BIGINT AS impressions, actions::BIGINT AS actions,"
        f" {_smoothed('examined', 'engaged', prior, config)} AS rate FROM (SELECT a.item, version, {left} FROM item_all a"
        f" CROSS JOIN range(-1, {config.n_folds}) v(version) LEFT JOIN item_fold f ON f.item = a.item AND f.fold = version)",
    )
    named = "SELECT item_id, r.* EXCLUDE (item) FROM item_rate r JOIN items USING (item) ORDER BY item, text_version"
    engine.write(out / ITEM_RATES, named, "item rates")
    return {str(version): mean for version, mean in priors.items()}


def pair_rates(engine: Engine, pairs: Path, queries: Path, config: MineConfig, out: Path) -> int:
    """Write out/rates.parquet: query_id, query, item_id, text_version, impressions, actions, rate; returns its rows.

    Two rows a pair, for a reader looks a pair up in two versions only: -1, and that of its query's own fold, which has
    nothing of the query and so is the item's rate. Sorted by query, item_id and text_version. Needs ``item_rate``.
    """
    both = (
        "SELECT p.key, p.item, p.impressions, p.actions, p.examined, p.engaged, fold, unnest([-1, fold])::TINYINT AS"
        f" text_version, query_id, query FROM ({shown_pairs(pairs)}) p JOIN {scan(queries)} q USING (key)"
    )

    def served(value: str) -> str:
        return f"if(text_version < 0, {value}, 0)"

    rows = (
        f"SELECT query_id, query, item_id, text_version, {served('p.impressions')}::BIGINT AS impressions,"
        f" {served('p.actions')}::BIGINT AS actions,"
        f" {_smoothed(served('p.examined'), served('p.engaged'), 'r.rate', config)} AS rate"
        f" FROM ({both}) p JOIN item_rate r USING (item, text_version) JOIN items USING (item)"
        " ORDER BY key, item, text_version"
    )
    engine.write(out / RATES, rows, "rates")
    return int(engine.row(f"SELECT count(*) FROM {scan(out / RATES)}")[0])


def shown_pairs(pairs: Path) -> str:
    """The SQL of the pairs of queries that may appear."""
    return f"SELECT * FROM {scan(pairs)} WHERE key >= 0 AND item IS NOT NULL"


def _priors(engine: Engine, config: MineConfig) -> dict[int, float | None]:
    """Version -> engaged / examined of all items together; None without an impression that was examined."""
    parts = "SELECT -1 AS version, engaged, examined FROM item_all UNION ALL SELECT fold, -engaged, -examined FROM item_fold"
    found = {
        v: (int(a), int(e))
        for v, a, e in engine.rows(f"SELECT version, sum(engaged), sum(examined) FROM ({parts}) GROUP BY version")
    }
    engaged, examined = found.pop(-1)
    left = {-1: (engaged, examined)}
    left |= {k: (engaged + found.get(k, (0, 0))[0], examined + found.get(k, (0, 0))[1]) for k in range(config.n_folds)}
    return {version: a / e if e else None for version, (a, e) in left.items()}


def _smoothed(examined: str, engaged: str, prior: str, config: MineConfig) -> str:
    strength = literal(config.prior_strength)
    return f"(({engaged})::DOUBLE / {UNIT} + {strength} * {prior}) / (({examined})::DOUBLE / {UNIT} + {strength})"
