"""Records that cross stages. Imports nothing of ours but errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pertinent.errors import DataError

Split = Literal["train", "dev", "test"]

PAPER_GUIDELINES = (
    "Highly irrelevant: the item has nothing to do with the query.",
    "Irrelevant: the item shares a theme with the query but would not help the searcher.",
    "Marginally relevant: the item is related, yet misses the main thing that was asked for.",
    "Relevant: the item gives what was asked for, but misses a detail of the query.",
    "Highly relevant: the item gives exactly what was asked for, every detail included.",
)


@dataclass(frozen=True)
class Scale:
    """An ordered scale of n grades, stored as 0..n-1 and shown as L1..Ln.

    guidelines: one sentence a grade, lowest grade first; used by raters, the report and an LLM judge.
    Source of the default: the five levels of arXiv 2410.17152, section 3; the sentences are ours.
    """

    guidelines: tuple[str, ...] = PAPER_GUIDELINES

    def __post_init__(self) -> None:
        if len(self.guidelines) < 2:
            raise DataError(f"scale: a scale needs at least 2 grades, got {len(self.guidelines)}")

    @classmethod
    def of_size(cls, n_grades: int) -> Scale:
        """The paper's scale when n_grades is 5, else n grades without a written guideline."""
        if n_grades == len(PAPER_GUIDELINES):
            return cls()
        return cls(tuple(f"Grade {k} of {n_grades}." for k in range(1, n_grades + 1)))

    @property
    def n_grades(self) -> int:
        """Number of grades, n."""
        return len(self.guidelines)

    @property
    def shown(self) -> tuple[str, ...]:
        """Shown names, lowest first: ``("L1", ..., "Ln")``."""
        return tuple(f"L{k}" for k in range(1, self.n_grades + 1))

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """Columns of a soft label, lowest grade first: ``("p_1", ..., "p_n")``."""
        return tuple(f"p_{k}" for k in range(1, self.n_grades + 1))


@dataclass(frozen=True)
class StageResult:
    """What a stage function reports of its work; the pipeline writes it into manifest.json.

    counts: named row counts and other small facts. quarantined: reason -> number of rows set aside.
    """

    counts: Mapping[str, Any]
    quarantined: Mapping[str, int] | None = None
    warnings: Sequence[str] = ()
