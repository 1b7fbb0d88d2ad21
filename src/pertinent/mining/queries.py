"""`pertinent mine queries`: a log -> engaged queries of items and engagement rates, no held-out query among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pertinent.errors import DataError
from pertinent.mining.aggregate import UNIT, sum_pairs
from pertinent.mining.config import MineConfig
from pertinent.mining.engine import Engine, open_engine
from pertinent.mining.guards import Guarded, check_fields, guard_queries, load_held_out
from pertinent.mining.logs import Log, log_files, open_log
from pertinent.mining.rates import ITEM_RATES, RATES, item_rates, pair_rates, shown_pairs
from pertinent.mining.sql import scan
from pertinent.mining.survey import Survey, survey_log
from pertinent.types import StageResult

FIELDS = "fields.parquet"
_RESULTS = (FIELDS, RATES, ITEM_RATES)


def mine_queries(config: MineConfig, data: Path, out: Path, *, seed: int) -> StageResult:
    """Write out/fields.parquet, rates.parquet and item_rates.parquet from the log of ``config``.

    fields: item_id (String), text_version (Int8), engaged_queries (list of {query, weight}, the heaviest first): -1 is
    mined from every query, k from those outside cross-fitting fold k; an equal row of version k is left out. Queries
    that are judged for dev or test, or in dev or test by the split rule of ``data``, and rows from the cut-off on never
    contribute; the counts say how many of each were seen. seed: unused, for nothing is drawn.
    The same rows give the same three tables, in whatever files, order or number of threads. What was done whole in
    ``out`` is kept when the stage is continued.
    Raises DataError in one line for a log that is missing, unreadable, without rows that may count or without users.
    """
    held_out = load_held_out(data)
    files = log_files(config.log.paths or (_log_of(data),))
    with open_engine(out, "mine", threads=config.threads, memory_gib=config.memory_gib) as engine:
        log = open_log(engine, config.log, files, out)
        survey = survey_log(engine, log, config)
        guarded = guard_queries(engine, log, survey, config, held_out, out)
        pairs, bad_items = sum_pairs(engine, log, survey, guarded, config, data / "items.parquet", out)
        dropped = {**survey.dropped, **guarded.dropped, **bad_items}
        kept = engine.row(f"SELECT coalesce(sum(n), 0)::BIGINT FROM {scan(pairs)} WHERE item IS NOT NULL")[0]
        assert survey.n_rows == sum(dropped.values()) + kept, (survey.n_rows, dropped, kept)
        if not kept:
            reason, n = max(dropped.items(), key=lambda entry: entry[1])
            raise DataError(
                f"{files[0]}: expected rows that may count, found none of {survey.n_rows:,}: {reason} ({n:,})"
            )
        counts = {
            "rows": {"seen": survey.n_rows, "dropped": sum(dropped.values()), "kept": kept},
            "actions": dict(survey.counts),
            "queries": dict(guarded.counts),
            **_write_results(engine, pairs, guarded, config, out),
            **_settings(log, survey, config),
        }
    counts["held_out_check"] = check_fields(out / FIELDS, data, n_folds=config.n_folds)
    _remove_work(out)
    return StageResult(counts, dropped, _warnings(survey, counts))


def _log_of(data: Path) -> Path:
    log = data / "log.parquet"
    if not log.is_file():
        raise DataError(f"{log}: no such file: the data set has no log; name one (--log, or log.paths)")
    return log


def _write_results(engine: Engine, pairs: Path, guarded: Guarded, config: MineConfig, out: Path) -> dict[str, Any]:
    priors = item_rates(engine, pairs, guarded.queries, config, out)
    n_rates = pair_rates(engine, pairs, guarded.queries, config, out)
    _write_fields(engine, pairs, guarded.queries, config, out / FIELDS)
    fields = scan(out / FIELDS)
    served = f"{fields} WHERE text_version = -1"
    n_items, n_entries = engine.row(f"SELECT count(*), coalesce(sum(len(engaged_queries)), 0)::BIGINT FROM {served}")
    return {
        "items_with_queries": n_items,
        "engaged_queries": n_entries,
        "field_rows": engine.row(f"SELECT count(*) FROM {fields}")[0],
        "rates": n_rates,
        "items_with_rates": engine.row("SELECT count(*) FROM item_all")[0],
        "mean_rate": priors,
    }


def _write_fields(engine: Engine, pairs: Path, queries: Path, config: MineConfig, path: Path) -> None:
    """The heaviest queries of each item, version by version; equal weights are ordered by the query's text."""
    entry = f"{{'query': q.query, 'weight': p.weight / {UNIT}.0, 'excluded': q.excluded}}"
    lists = (
        f"SELECT item, list({entry} ORDER BY p.weight DESC, p.key) AS entries FROM ({shown_pairs(pairs)}) p"
        f" JOIN {scan(queries)} q USING (key) WHERE p.weight > 0 AND p.actions >= {config.min_actions} GROUP BY item"
    )
    plain = "lambda e: {'query': e.query, 'weight': e.weight}"

    def version(number: int) -> str:
        kept = "entries" if number < 0 else f"list_filter(entries, lambda e: (e.excluded >> {number}) & 1 = 0)"
        return f"list_transform(({kept})[1:{config.max_queries}], {plain})"

    engine.table("engaged", f"SELECT item, entries, {version(-1)} AS served FROM ({lists})", "engaged queries")
    rows = ["SELECT item, -1::TINYINT AS text_version, served AS engaged_queries FROM engaged"]
    rows += [
        f"SELECT * FROM (SELECT item, {number}::TINYINT AS text_version, {version(number)} AS engaged_queries,"
        " served FROM engaged) WHERE engaged_queries <> served"
        for number in range(config.n_folds)
    ]
    union = " UNION ALL BY NAME ".join(f"SELECT item, text_version, engaged_queries FROM ({row})" for row in rows)
    named = "SELECT item_id, text_version, engaged_queries"
    engine.write(path, f"{named} FROM ({union}) JOIN items USING (item) ORDER BY item, text_version", "fields")


def _settings(log: Log, survey: Survey, config: MineConfig) -> dict[str, Any]:
    """What was made of the log, in words, for whoever reads the manifest."""
    model = config.propensity
    given = f"given for {len(model.given)} ranks" if model.given else f"1 / rank^{model.eta}"
    decays = survey.last is not None and config.half_life_days is not None
    return {
        "log": {"format": log.format, "files": [str(file) for file in log.files]},
        "propensity": f"{given}, at least {model.clip}" if survey.has_positions else "none: the log has no positions",
        "decay": f"half-life {config.half_life_days} days" if decays else "none",
        "anonymity": f"at least {config.k} distinct {config.k_by}s a query" if config.k > 1 else "none: k is 1",
    }


def _warnings(survey: Survey, counts: Mapping[str, Any]) -> list[str]:
    warnings = list(survey.warnings)
    if not counts["engaged_queries"]:
        actions = ", ".join(f"{name} {n:,}" for name, n in counts["actions"].items())
        queries = counts["queries"]
        warnings.append(
            f"no engaged query: the log has {actions}; {queries['shown']:,} of {queries['log']:,} queries may be shown"
            " (weights, k)"
        )
    return warnings


def _remove_work(out: Path) -> None:
    for file in [*out.glob("*.parquet"), *out.glob("guarded.json")]:
        if file.name not in _RESULTS:
            file.unlink()
