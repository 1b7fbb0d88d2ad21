"""A first look at a log: which rows cannot count and why, where its time ends, what it has. Two cheap columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pertinent.data.log import ACTIONS
from pertinent.errors import DataError
from pertinent.mining.config import MineConfig, as_utc
from pertinent.mining.engine import Engine
from pertinent.mining.logs import Log
from pertinent.mining.sql import literal

UNREADABLE = "row cannot be read"
UNKNOWN_ACTION = "action is none of ours"
NO_TIME = "timestamp missing or not readable"
EARLY = "before since"
LATE = "at or after the cut-off"
BAD_POSITION = "position is no whole number from 0"
_N_SHOWN = 5
_COUNTED = ("action", "n", "broken", "no_time", "early", "late", "bad", "bad_untimed", "last", "lowest", "dwells")


@dataclass(frozen=True)
class Survey:
    """What the log has. Every count is of rows.

    actions: ours -> the file's names of it. wanted: SQL condition of the rows that may count. dropped: reason -> rows.
    last: microseconds since 1970 from which age is counted: the cut-off, else the last row; None without times.
    """

    n_rows: int
    dropped: Mapping[str, int]
    actions: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
    wanted: str
    last: int | None
    has_positions: bool
    warnings: Sequence[str]

    @property
    def n_wanted(self) -> int:
        """Rows that the guards have still to judge."""
        return self.n_rows - sum(self.dropped.values())


def survey_log(engine: Engine, log: Log, config: MineConfig) -> Survey:
    """Count the rows of each action by what keeps them from counting.

    Raises DataError for an empty log, one without a wanted or an engaged row, or positions below the first.
    """
    rows = engine.rows(f"SELECT action, {', '.join(_measures(log, config))} FROM {log.relation} GROUP BY action")
    found = [dict(zip(_COUNTED, row, strict=True)) for row in rows]
    n_rows = sum(row["n"] for row in found)
    where = ", ".join(str(file) for file in log.files[:2]) + (", ..." if len(log.files) > 2 else "")
    if not n_rows:
        raise DataError(f"{where}: no rows")
    timed = any(row["n"] > row["broken"] + row["no_time"] for row in found)
    if not timed and (config.since or config.until):
        raise DataError(f"{where}: expected timestamps to compare with since and until, found none")
    actions = _our_actions(found, log, config)
    known = {name for names in actions.values() for name in names}
    ours = [row for row in found if row["action"] in known]
    dropped = _dropped(found, known, timed=timed)
    _require_rows(where, found, ours, dropped, n_rows)
    lowest = min((row["lowest"] for row in ours if row["lowest"] is not None), default=None)
    first = config.propensity.first_position
    if lowest is not None and lowest < first:
        raise DataError(
            f"{where}: expected positions from {first}, found {lowest}: set propensity.first_position={lowest}"
        )
    last = max((row["last"] for row in ours if row["last"] is not None), default=None)
    if timed and config.until is not None:
        last = micros(config.until)
    elif timed and last is not None and last > micros(datetime.now(UTC) + timedelta(days=1)):
        # Age counts from the last row: one wrong clock would make all others worth nothing.
        found_at = datetime.fromtimestamp(last / 10**6, UTC).isoformat(sep=" ", timespec="seconds")
        raise DataError(f"{where}: expected timestamps up to now, found {found_at}: set until to leave later rows out")
    return Survey(
        n_rows=n_rows,
        dropped={reason: n for reason, n in dropped.items() if n},
        actions=actions,
        counts={ours: sum(row["n"] for row in found if row["action"] in names) for ours, names in actions.items()},
        wanted=_wanted(known, dropped, config, timed=timed),
        last=last if timed else None,
        has_positions=lowest is not None,
        warnings=_warnings(found, actions, known, log),
    )


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a moment, UTC where it tells no zone."""
    since = as_utc(moment) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


def _measures(log: Log, config: MineConfig) -> list[str]:
    """The SQL of what is counted of each action, in the order of _COUNTED; what cannot be is not looked for."""

    def rows(condition: str, possible: bool = True) -> str:
        return f"count(*) FILTER ({condition})" if possible else "0"

    sound = "NOT broken AND " if log.may_break else ""
    inside = f"{sound}ts IS NOT NULL"
    inside += f" AND ts >= {micros(config.since)}" if config.since else ""
    inside += f" AND ts < {micros(config.until)}" if config.until else ""
    positions = "position" in log.columns
    return [
        "count(*)",
        rows("broken", log.may_break),
        rows(f"{sound}ts IS NULL"),
        rows(f"{sound}ts < {micros(config.since)}" if config.since else "", config.since is not None),
        rows(f"{sound}ts >= {micros(config.until)}" if config.until else "", config.until is not None),
        rows(f"{inside} AND position < 0", positions),
        rows(f"{sound}ts IS NULL AND position < 0", positions),
        f"max(ts) FILTER ({inside})",
        "min(position) FILTER (position >= 0)" if positions else "NULL",
        "count(dwell_s)" if "dwell_s" in log.columns else "0",
    ]


def _our_actions(found: Sequence[Mapping[str, Any]], log: Log, config: MineConfig) -> dict[str, tuple[str, ...]]:
    """Ours -> the names in the file, after the config's map, case and blanks as the data stage reads them."""
    from pertinent.mining.ubi import UBI_ACTIONS

    told = {**(UBI_ACTIONS if log.format == "ubi" else {}), **config.log.actions}
    names: dict[str, list[str]] = {}
    for row in found:
        written = row["action"]
        if written is None:
            continue
        plain = "_".join(written.strip().lower().replace("-", " ").split())
        ours = told.get(written, told.get(plain, plain))
        if ours in ACTIONS:
            names.setdefault(ours, []).append(written)
    return {ours: tuple(sorted(written)) for ours, written in sorted(names.items())}


def _dropped(found: Sequence[Mapping[str, Any]], known: set[str], *, timed: bool) -> dict[str, int]:
    counted = dict.fromkeys((UNREADABLE, UNKNOWN_ACTION, NO_TIME, EARLY, LATE, BAD_POSITION), 0)
    for row in found:
        counted[UNREADABLE] += row["broken"]
        if row["action"] not in known:
            counted[UNKNOWN_ACTION] += row["n"] - row["broken"]
            continue
        counted[NO_TIME] += row["no_time"] if timed else 0
        counted[EARLY] += row["early"]
        counted[LATE] += row["late"]
        counted[BAD_POSITION] += row["bad"] + (0 if timed else row["bad_untimed"])
    return counted


def _require_rows(
    where: str,
    found: Sequence[Mapping[str, Any]],
    ours: Sequence[Mapping[str, Any]],
    dropped: Mapping[str, int],
    n_rows: int,
) -> None:
    if not ours:
        seen = ", ".join(str(row["action"]) for row in sorted(found, key=lambda row: -row["n"])[:_N_SHOWN])
        raise DataError(
            f"{where}: expected actions among {', '.join(ACTIONS)}, found {seen}: map them (log.actions: {{theirs: ours}})"
        )
    if sum(dropped.values()) == n_rows:
        reason, n = max(dropped.items(), key=lambda entry: entry[1])
        raise DataError(f"{where}: expected rows that may count, found none of {n_rows:,}: {reason} ({n:,})")


def _wanted(known: set[str], dropped: Mapping[str, int], config: MineConfig, *, timed: bool) -> str:
    conditions = [f"action IN ({', '.join(map(literal, sorted(known)))})"]
    if dropped[UNREADABLE]:
        conditions.append("NOT broken")
    if timed:
        conditions.append("ts IS NOT NULL")
    if config.since:
        conditions.append(f"ts >= {micros(config.since)}")
    if config.until:
        conditions.append(f"ts < {micros(config.until)}")
    if dropped[BAD_POSITION]:
        conditions.append("coalesce(position, 0) >= 0")
    return " AND ".join(conditions)


def _warnings(
    found: Sequence[Mapping[str, Any]], actions: Mapping[str, Sequence[str]], known: set[str], log: Log
) -> list[str]:
    warnings = []
    unknown = [row for row in found if row["action"] not in known and row["n"] > row["broken"]]
    if unknown:
        unknown.sort(key=lambda row: (-row["n"], str(row["action"])))
        shown = ", ".join(f"{row['action']} ({row['n'] - row['broken']:,})" for row in unknown[:_N_SHOWN])
        warnings.append(f"log: actions that are none of ours are left out: {shown}")
    if "impression" not in actions:
        hint = "; log.ubi_impressions: hits takes the queries' hits" if log.format == "ubi" else ""
        warnings.append(f"log: no impressions, so rates are null{hint}")
    dwells = any(row["dwells"] for row in found if row["action"] in actions.get("click", ()))
    if dwells and "long_click" in actions:
        warnings.append("log: it has long_click rows and clicks with a dwell time; a click that is both counts twice")
    return warnings
