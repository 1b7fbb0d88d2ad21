"""How a feature is declared: once, with its name, kind, source and default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["query", "item", "query-item"]


@dataclass(frozen=True)
class FeatureSpec:
    """A feature's name, its kind, where it comes from, and its value where that is missing."""

    name: str
    kind: Kind
    source: str
    default: float = 0.0
