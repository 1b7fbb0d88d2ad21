"""Single values of a stranger's file as ours: text, numbers, lists, boards, times. Each error says what was due."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson
import polars as pl

_MISSING_NUMBERS = ("nan", "na", "n/a", "null", "none", "")


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as stripped text, empty text as null; a list is joined by ", ", a whole float loses its ".0"."""
    dtype = frame.schema[column]
    value = pl.col(column)
    if isinstance(dtype, pl.List):
        value = value.cast(pl.List(pl.String)).list.join(", ")
    elif isinstance(dtype, pl.Struct):
        value = value.struct.json_encode()
    elif dtype.is_float():
        whole = value.is_finite() & (value == value.floor()) & (value.abs() < 2**53)
        value = (
            pl.when(whole)
            .then(pl.when(whole).then(value).cast(pl.Int64).cast(pl.String))
            .otherwise(value.fill_nan(None).cast(pl.String))
        )
    elif dtype != pl.String:
        value = value.cast(pl.String)
    stripped = value.str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(column)


def number(frame: pl.DataFrame, column: str) -> tuple[pl.Expr, pl.Expr]:
    """A column as f64 (missing and NaN null), and a mask of the values that are no finite number."""
    dtype = frame.schema[column]
    if dtype == pl.String:
        raw = pl.col(column).str.strip_chars()
        truth = pl.when(raw.str.to_lowercase() == "true").then(1.0).when(raw.str.to_lowercase() == "false").then(0.0)
        value = truth.otherwise(raw.cast(pl.Float64, strict=False))
        given = ~raw.str.to_lowercase().is_in(_MISSING_NUMBERS)
    else:
        value = pl.col(column).cast(pl.Float64, strict=False)
        given = pl.col(column).is_not_null()
    value = value.fill_nan(None)
    return value.alias(column), given & (value.is_infinite() | (value.is_null() & pl.lit(dtype == pl.String)))


def text_list(separator: str) -> Callable[[Any], list[str] | None]:
    """A parser of a list of text: a list, a JSON list, or text parted by ``separator``. An empty list is null."""

    def parse(value: Any) -> list[str] | None:
        if isinstance(value, str) and not value.lstrip().startswith("["):
            value = value.split(separator)
        elements = [str(element).strip() for element in _list(value) if element is not None]
        return [element for element in elements if element] or None

    return parse


def boards(value: Any) -> list[dict[str, Any]] | None:
    """Boards as {title, count}: a (JSON) list of such objects or of titles, which count once each."""
    return _weighted(value, "title", "count", lambda count: int(_number(count, "count")), 1)


def engaged_queries(value: Any) -> list[dict[str, Any]] | None:
    """Engaged queries as {query, weight}: a (JSON) list of such objects or of queries, which weigh 1 each."""
    return _weighted(value, "query", "weight", lambda weight: _number(weight, "weight"), 1.0)


def vector(value: Any) -> list[float]:
    """A vector of finite numbers from a list or a JSON list."""
    return [_number(element, "element") for element in _list(value)]


def written_forms(grade: bool | int | float | str) -> tuple[str, ...]:
    """How a file may write a grade: any way to write a number is one form; YAML reads a bare no/yes as a truth value."""
    if isinstance(grade, bool):
        return ("true", "yes") if grade else ("false", "no")
    return (written(str(grade)),)


def written(value: str) -> str:
    """One form for every way to write a number ("3", "3.0"), text as it is."""
    try:
        return repr(float(value))
    except ValueError:
        return value.strip()


def mapping(value: Any) -> dict[str, Any]:
    """A (JSON) object as a dict."""
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object of numbers, got {_short(value)}")
    return found


def timestamps(frame: pl.DataFrame, column: str) -> tuple[pl.Expr, pl.Expr]:
    """A column as datetime[us, UTC], and a mask of the values that are no time.

    Read: ISO 8601 text (without an offset it is UTC) and seconds, milli- or microseconds since 1970 by their size.
    """
    target = pl.Datetime("us", "UTC")
    dtype = frame.schema[column]
    if dtype == pl.String:
        raw = pl.col(column).str.strip_chars()
        zoned = raw.str.replace(r"[zZ]$", "+00:00").str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
        has_zone = zoned.str.contains(r"T.*[+-]\d{2}:?\d{2}$")
        complete = (
            pl.when(has_zone)
            .then(zoned)
            .when(zoned.str.contains(r"^\d{4}-\d{2}-\d{2}$"))
            .then(zoned + "T00:00:00+00:00")
            .otherwise(zoned + "+00:00")
        )
        complete = complete.str.replace(r"T(\d{2}:\d{2})([+-])", "T${1}:00${2}")
        iso = complete.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
        value = pl.coalesce(iso, _since_1970(raw.cast(pl.Float64, strict=False)))
        given = raw != ""
    elif isinstance(dtype, pl.Datetime):
        zoned_value = (
            pl.col(column).dt.convert_time_zone("UTC")
            if dtype.time_zone
            else pl.col(column).dt.replace_time_zone("UTC")
        )
        value, given = zoned_value.cast(target), pl.col(column).is_not_null()
    elif dtype == pl.Date:
        value, given = pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), pl.col(column).is_not_null()
    else:
        value, given = _since_1970(pl.col(column).cast(pl.Float64, strict=False)), pl.col(column).is_not_null()
    return value.cast(target).alias(column), given & value.is_null()


def _since_1970(value: pl.Expr) -> pl.Expr:
    # 1e11 s is the year 5138 and 1e11 ms is 1973: sizes tell the units apart for every plausible log.
    size = value.abs()
    microseconds = pl.when(size < 1e11).then(value * 1e6).when(size < 1e14).then(value * 1e3).otherwise(value)
    known = microseconds.is_finite() & (size < 1e17)
    return pl.when(known).then(microseconds).cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _weighted(
    value: Any, name: str, weight: str, as_weight: Callable[[Any], Any], default: float
) -> list[dict[str, Any]] | None:
    found = []
    for element in _list(value):
        if isinstance(element, str):
            element = {name: element}
        if not isinstance(element, dict) or not isinstance(element.get(name), str):
            raise ValueError(f"a list of {{{name}, {weight}}} objects, got {_short(element)}")
        amount = element.get(weight)
        found.append({name: element[name].strip(), weight: default if amount is None else as_weight(amount)})
    return [element for element in found if element[name]] or None


def _list(value: Any) -> list[Any]:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise ValueError(f"a list, got {_short(value)}")
    return found


def _json(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"valid JSON, got {_short(value)} ({error})") from None


def _number(value: Any, what: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a list whose every {what} is a number, got {_short(value)}") from None
    if not math.isfinite(found):
        raise ValueError(f"a list whose every {what} is a finite number, got {_short(value)}")
    return found


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
