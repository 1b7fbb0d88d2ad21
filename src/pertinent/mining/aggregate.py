"""The one heavy pass over the log: sums a (query, item), in whole numbers, so that no order of rows can change them.

Of a row of age ``a``, with half-life ``H``, action weight ``w`` and propensity ``p`` of its position:
decay = 2^(-a / H); an impression adds decay * p to ``examined``; an action adds decay * w to ``engaged`` and
decay * w / p to ``weight`` (inverse propensity weighting). Numbers are stored in units of 2^-32.
Source of the model: Joachims, Swaminathan, Schnabel 2017, doi:10.1145/3018661.3018699.
"""

from __future__ import annotations

from pathlib import Path

from pertinent.mining.config import MineConfig
from pertinent.mining.engine import Engine
from pertinent.mining.guards import Guarded
from pertinent.mining.logs import Log
from pertinent.mining.sql import literal, scan
from pertinent.mining.survey import Survey

UNIT = 2**32
PAIRS = "pairs.parquet"
NO_ITEM = "item_id is empty"
UNKNOWN_ITEM = "item_id names no known item"
SUMS = ("n", "impressions", "actions", "examined", "engaged", "weight")
_DAY_US = 86_400 * 10**6


def sum_pairs(
    engine: Engine, log: Log, survey: Survey, guarded: Guarded, config: MineConfig, items: Path, work: Path
) -> tuple[Path, dict[str, int]]:
    """work/pairs.parquet: key, item (number of a known item, null for others), named, SUMS; reason -> rows dropped.

    items: items.parquet of the data stage, numbered by item_id in table ``items``. A whole file in ``work`` is kept.
    """
    engine.table("items", f"SELECT item_id, (row_number() OVER (ORDER BY item_id))::INTEGER AS item FROM {scan(items)}")
    out = work / PAIRS
    if not out.exists():
        columns = "s.key, l.item_id, l.action, l.ts, l.position, l.dwell_s"
        rows = f"SELECT {columns} FROM {log.relation} l JOIN {scan(guarded.spellings)} s USING (query) WHERE {survey.wanted}"
        sums = ", ".join(f"{sql} AS {name}" for name, sql in zip(SUMS, _sums(config, survey), strict=True))
        _write_numbered(engine, f"SELECT key, item_id, {sums} FROM ({rows}) GROUP BY key, item_id", out, work)
    lost = engine.row(
        "SELECT coalesce(sum(n) FILTER (named), 0)::BIGINT, coalesce(sum(n) FILTER (NOT named), 0)::BIGINT"
        f" FROM {scan(out)} WHERE item IS NULL"
    )
    return out, {reason: n for reason, n in zip((UNKNOWN_ITEM, NO_ITEM), lost, strict=True) if n}


def _write_numbered(engine: Engine, pairs: str, out: Path, work: Path) -> None:
    """The pairs with item numbers in place of ids. Ids are stripped of blanks here, once a pair and not once a row."""
    numbered = (
        "SELECT p.* EXCLUDE (item_id), i.item, coalesce(trim(p.item_id), '') <> '' AS named,"
        " p.item_id <> trim(p.item_id) AS padded FROM ({0}) p LEFT JOIN items i ON i.item_id = trim(p.item_id)"
    )
    first = work / "padded-pairs.parquet"
    engine.write(first, numbered.format(pairs), "sum each pair", "lz4")
    if engine.row(f"SELECT coalesce(bool_or(padded), false) FROM {scan(first)}")[0]:
        sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in SUMS)
        engine.write(out, f"SELECT key, item, named, {sums} FROM {scan(first)} GROUP BY ALL", compression="lz4")
    else:
        first.rename(out)


def decay_sql(config: MineConfig, survey: Survey) -> str:
    """The SQL of a row's decay."""
    if config.half_life_days is None or survey.last is None:
        return "1::DOUBLE"
    return f"pow(2::DOUBLE, (ts - {survey.last}) / {literal(config.half_life_days * _DAY_US)})"


def propensity_sql(config: MineConfig, *, has_positions: bool) -> str:
    """The SQL of the chance that a row's result was looked at: 1 where no position is written."""
    settings = config.propensity
    rank = f"(position - {settings.first_position - 1})"
    if not has_positions or (not settings.given and settings.eta == 0.0):
        return "1::DOUBLE"
    if settings.given:
        given = [max(value, settings.clip) for value in settings.given]
        chance = f"list_extract({literal(given)}, least({rank}, {len(given)}))"
    else:
        chance = f"greatest(pow({rank}::DOUBLE, {literal(-settings.eta)}), {literal(settings.clip)})"
    return f"CASE WHEN position IS NULL THEN 1::DOUBLE ELSE {chance} END"


def weight_sql(config: MineConfig, survey: Survey) -> str:
    """The SQL of the weight of a row's action: a click that led to a long visit is a long_click."""
    weights = config.weights.model_dump()
    cases = []
    if "click" in survey.actions:
        long = f"WHEN dwell_s >= {literal(config.long_click_s)} THEN {literal(weights['long_click'])}"
        cases.append(f"WHEN {_is('click', survey)} THEN CASE {long} ELSE {literal(weights['click'])} END")
    cases += [
        f"WHEN {_is(name, survey)} THEN {literal(weights[name])}"
        for name in ("long_click", "save", "hide")
        if name in survey.actions and weights[name]
    ]
    return f"CASE {' '.join(cases)} ELSE 0::DOUBLE END" if cases else "0::DOUBLE"


def _is(action: str, survey: Survey) -> str:
    return f"action IN ({', '.join(map(literal, survey.actions[action]))})" if action in survey.actions else "false"


def _sums(config: MineConfig, survey: Survey) -> list[str]:
    """The SQL of SUMS, in their order."""
    seen, weight = _is("impression", survey), weight_sql(config, survey)
    decay, chance = decay_sql(config, survey), propensity_sql(config, has_positions=survey.has_positions)

    def whole(number: str, where: str) -> str:
        return f"coalesce(sum(({number} * {UNIT})::BIGINT) FILTER ({where}), 0)::BIGINT"

    acted = f"{weight} > 0"
    return [
        "count(*)",
        f"count(*) FILTER ({seen})",
        f"count(*) FILTER ({acted})",
        whole(f"{decay} * {chance}", seen),
        whole(f"{decay} * {weight}", acted),
        whole(f"{decay} * {weight} / ({chance})", acted),
    ]
