"""Who labels the units: this process, with reading and tokenising one unit ahead of the model.

`label_unit` is what every engine runs, here and in a worker elsewhere, so that all give the same rows and labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.errors import ConfigError, DataError, ModelError, RowsError, StoppedError
from pertinent.progress import Progress

NOT_FINITE = "probabilities are not finite"


class Labeller(Protocol):
    """What labels pairs: a teacher, or anything that scores as one.

    score raises RowsError where some of the pairs have no label, and StoppedError, ConfigError or DataError (a full disk,
    say) where none would have.
    """

    @property
    def teacher_id(self) -> str: ...

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]: ...


@runtime_checkable
class EncodingLabeller(Protocol):
    """A labeller whose reading of the texts can run beside its network."""

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> Any: ...

    def score_encoded(self, encoded: Any, progress: Progress | None = None) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Read:
    """N pairs of a unit, and what the labeller's `encode` made of them; None where it has none, or it failed."""

    queries: list[str]
    texts: list[str]
    encoded: Any


@dataclass(frozen=True)
class Labelled:
    """Unit ``number``: probs (N, n) float32 of its frame's rows, and of each the reason why it has none."""

    number: int
    frame: pl.DataFrame
    probs: NDArray[np.float32]
    reasons: list[str | None]


Units = Iterator[tuple[int, pl.DataFrame]]


class LabelEngine(Protocol):
    """Labels units, in whatever order they are done."""

    def label(self, units: Units, n_grades: int, budget: Budget, bar: Progress) -> Iterator[Labelled]: ...


class Budget:
    """Counts failed rows of all units, of this start and earlier ones. most: how many may be."""

    def __init__(self, most: int, n_failed: int) -> None:
        self.most, self.n_failed = most, n_failed

    def spend(self, n: int, reason: str) -> None:
        """Count n more. Raises ModelError past the budget."""
        self.n_failed += n
        if self.n_failed > self.most:
            raise ModelError(
                f"labels: expected at most {self.most:,} pairs to fail (labels.max_failed), found {self.n_failed:,},"
                f" the last by: {reason}"
            )


class LocalEngine:
    """One process: the model in this thread, reading and tokenising of the next unit in another."""

    def __init__(self, labeller: Labeller) -> None:
        self.labeller = labeller

    def label(self, units: Units, n_grades: int, budget: Budget, bar: Progress) -> Iterator[Labelled]:
        """The units in their order. Raises ModelError past the budget."""

        def ahead() -> tuple[int, pl.DataFrame, Read] | None:
            unit = next(units, None)
            return None if unit is None else (*unit, read_unit(self.labeller, *texts_of(unit[1])))

        with ThreadPoolExecutor(1, "read") as pool:
            coming = pool.submit(ahead)
            while (unit := coming.result()) is not None:
                coming = pool.submit(ahead)
                number, frame, read = unit
                start = bar.done
                probs, reasons = label_unit(self.labeller, read, n_grades, budget, bar)
                bar.advance(start + frame.height - bar.done)
                yield Labelled(number, frame, probs, reasons)


def texts_of(frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """The queries and the texts of a unit's pairs."""
    return frame["query"].to_list(), frame["text"].to_list()


def read_unit(labeller: Labeller, queries: list[str], texts: list[str]) -> Read:
    """What can be done without the network. A failure is left to `label_unit`, which finds the row."""
    encoded = None
    if isinstance(labeller, EncodingLabeller):
        try:
            encoded = labeller.encode(queries, texts)
        except Exception:  # as in label_unit, which meets it again
            encoded = None
    return Read(queries, texts, encoded)


def label_unit(
    labeller: Labeller, read: Read, n_grades: int, budget: Budget, bar: Progress | None = None
) -> tuple[NDArray[np.float32], list[str | None]]:
    """Probabilities (N, n) float32 of N pairs, and of each the reason why it has none.

    What fails as a whole is halved until the rows that make it fail are found. Raises ModelError past the budget,
    and what the labeller raises to stop.
    """
    n_pairs = len(read.queries)
    try:
        if isinstance(labeller, EncodingLabeller) and read.encoded is not None:
            probs = labeller.score_encoded(read.encoded, bar)
        else:
            probs = labeller.score(read.queries, read.texts, bar)
    except (StoppedError, ConfigError, DataError):
        raise
    except RowsError as error:
        budget.spend(sum(reason is not None for reason in error.reasons), str(error))
        return np.asarray(error.results, dtype=np.float32), [reason and reason[:300] for reason in error.reasons]
    except Exception as error:  # whatever one row may do to a model must not cost the others
        if n_pairs == 1:
            reason = reason_for(error)
            budget.spend(1, reason)
            return failed_rows(1, n_grades), [reason]
        half = n_pairs // 2
        halves = [slice(0, half), slice(half, n_pairs)]
        reads = [Read(read.queries[part], read.texts[part], None) for part in halves]
        parts = [label_unit(labeller, part, n_grades, budget) for part in reads]
        return np.concatenate([probs for probs, _ in parts]), [reason for _, reasons in parts for reason in reasons]
    broken = set(np.flatnonzero(~np.isfinite(probs).all(axis=1)).tolist())
    if broken:
        budget.spend(len(broken), NOT_FINITE)
    return probs, [NOT_FINITE if row in broken else None for row in range(n_pairs)]


def failed_rows(n: int, n_grades: int) -> NDArray[np.float32]:
    """(n, n_grades) float32 without a number."""
    return np.full((n, n_grades), np.nan, dtype=np.float32)


def reason_for(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
