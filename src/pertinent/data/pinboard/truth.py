"""What Pinboard's items are and what its queries ask for, and the rule that grades one by the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    """An item's latent truth, or what a query asks for.

    category > group > object: objects of one group are siblings (a sofa and an armchair).
    values: kind -> value ("colour" -> "red"): all kinds of an item; of a query only those that it asks for.
    """

    category: str
    group: str
    object: str
    values: Mapping[str, str]


def true_grade(asked: Concept, item: Concept) -> int:
    """The stored grade, 0..4, that an unerring rater would give.

    4: the object with every asked value. 3: the object, one value wrong. 2: the object, two or more wrong; or a
    sibling with every asked value. 1: the same category otherwise. 0: another category.
    """
    wrong = sum(item.values.get(kind) != value for kind, value in asked.values.items())
    if item.object == asked.object:
        return max(4 - wrong, 2)
    if item.category != asked.category:
        return 0
    return 2 if item.group == asked.group and wrong == 0 else 1
