"""How many pairs each stratum gives: quotas first, the rest proportional, by square root or the same for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor, sqrt

from pertinent.errors import ConfigError
from pertinent.labelling.config import Allocation

_SHARE: dict[Allocation, Callable[[int], float]] = {"proportional": float, "sqrt": sqrt, "fixed": lambda size: 1.0}


def allocate(sizes: Mapping[str, int], n: int, how: Allocation, quotas: Mapping[str, int]) -> dict[str, int]:
    """Places of each stratum: at most its size, and min(n, sum of the sizes) in all where no quota holds one back.

    sizes: pairs of each stratum, 1 or more. quotas: places of single strata, which take no part in sharing the rest.
    What a small stratum cannot fill goes to the others by the same rule; fractions go to the largest remainders, ties by
    name. Raises ConfigError for a quota of an unknown stratum, or quotas of more than n.
    """
    for name in quotas:
        if name not in sizes:
            raise ConfigError(f"quotas: expected a stratum of the log, such as {min(sizes)!r}, found {name!r}")
    places = {name: min(places, sizes[name]) for name, places in quotas.items()}
    left = n - sum(places.values())
    if left < 0:
        raise ConfigError(f"quotas: expected at most {n:,} places in all, found {n - left:,}")
    open_sizes = {name: sizes[name] for name in sorted(sizes) if name not in places}
    return places | _shared(open_sizes, left, how)


def _shared(sizes: dict[str, int], left: int, how: Allocation) -> dict[str, int]:
    full: dict[str, int] = {}
    while sizes:
        shares = {name: _SHARE[how](size) for name, size in sizes.items()}
        scale = left / sum(shares.values())
        filled = {name: size for name, size in sizes.items() if shares[name] * scale >= size}
        if not filled:
            return full | _rounded({name: share * scale for name, share in shares.items()}, left)
        full |= filled
        left -= sum(filled.values())
        sizes = {name: size for name, size in sizes.items() if name not in filled}
    return full


def _rounded(exact: dict[str, float], total: int) -> dict[str, int]:
    """Whole numbers of the same sum, by the largest remainders. None passes its size, for each is under it."""
    places = {name: floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (places[name] - exact[name], name))
    for name in by_remainder[: total - sum(places.values())]:
        places[name] += 1
    return places
