"""Random choices that are the same on every machine and every version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """One stream of choices. Built on `random.Random.random` alone, the only part Python promises never to change.

    seed and label: each label has its own stream, so a change in one part of Pinboard leaves the others as they were.
    """

    def __init__(self, seed: int, label: str) -> None:
        self._random = random.Random(f"{seed}/{label}")

    def unit(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, each as likely."""
        return values[int(self.unit() * len(values))]

    def weighted(self, values: Sequence[T], weights: Sequence[float]) -> T:
        """One of the values, in proportion to its weight."""
        sums = list(accumulate(weights))
        point = self.unit() * sums[-1]
        return next((value for value, total in zip(values, sums, strict=True) if point < total), values[-1])

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """The values in a random order."""
        order = list(values)
        for last in range(len(order) - 1, 0, -1):
            other = self.whole(0, last)
            order[last], order[other] = order[other], order[last]
        return order

    def sample(self, values: Sequence[T], n: int) -> list[T]:
        """n different values (all, where there are fewer), in a random order."""
        order = list(values)
        n = min(n, len(order))
        for first in range(n):
            other = self.whole(first, len(order) - 1)
            order[first], order[other] = order[other], order[first]
        return order[:n]

    def bell(self) -> float:
        """A number with mean 0 and deviation 1, nearly normal: sums of uniform numbers need no logarithm."""
        return sum(self.unit() for _ in range(12)) - 6.0
