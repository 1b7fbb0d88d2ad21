"""Pinboard's human judgments: candidates of every grade, each seen by two or three raters who sometimes err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.items import Pin
from pertinent.data.pinboard.queries import Query
from pertinent.data.pinboard.truth import true_grade

N_GRADES = 5
ONE_STEP_OFF = 0.12  # probability that a rating is one grade off, and
TWO_STEPS_OFF = 0.01  # two
_N_RATERS = 12
_SHARE_FOREIGN = {"en": 0.1}  # of a query's candidates, in another language than the query
_SHARE_FOREIGN_ELSE = 0.25
_SHARE_ENGLISH = 0.7  # of these
_N_OTHER_CATEGORIES = 60

Pool = dict[tuple[str, int], list[Pin]]


def judge(draw: Draw, queries: Sequence[Query], pins: Sequence[Pin], n_candidates: int) -> list[dict[str, Any]]:
    """The rows of judgments.jsonl, one a rating, for the judged queries."""
    raters = [f"rater{number:02d}" for number in range(1, _N_RATERS + 1)]
    rows = []
    for query in queries:
        for pin in candidates(draw, query, pins, n_candidates) if query.judged else ():
            grade = true_grade(query.asked, pin.concept)
            for rater in draw.sample(raters, draw.whole(2, 3)):
                row = {"query": query.text, "item_id": pin.item_id, "rater_id": rater}
                rows.append({**row, "grade": rating(draw, grade), "language": query.language})
    return rows


def rating(draw: Draw, grade: int) -> int:
    """What a rater says of an item of this true grade. A step off the scale's end goes the other way."""
    point = draw.unit()
    step = 2 if point < TWO_STEPS_OFF else 1 if point < TWO_STEPS_OFF + ONE_STEP_OFF else 0
    signed = step if draw.chance(0.5) else -step
    return grade + signed if 0 <= grade + signed < N_GRADES else grade - signed


def candidates(draw: Draw, query: Query, pins: Sequence[Pin], n: int) -> list[Pin]:
    """n items with the true grades in nearly equal parts, in a random order, some in other languages.

    Where a grade has no item left (no item is one value off a query that asks for none), the nearest grade fills in.
    """
    pool = _pool(draw, query, pins)
    grades = [N_GRADES - 1 - number % N_GRADES for number in range(n)]
    share = _SHARE_FOREIGN.get(query.language, _SHARE_FOREIGN_ELSE)
    chosen = [_take(pool, grade, _sides(draw, share)) for grade in grades]
    return draw.shuffled(chosen)


def _pool(draw: Draw, query: Query, pins: Sequence[Pin]) -> Pool:
    """(own, english or other language; grade) -> items, shuffled: all of the category and some of the others.

    Half of these others share an asked value with the query: a red dress for a red sofa.
    """
    near = [pin for pin in pins if pin.concept.category == query.asked.category]
    far = [pin for pin in pins if pin.concept.category != query.asked.category]
    sharing = [pin for pin in far if _shares(query.asked.values, pin.concept.values)]
    others = draw.sample(sharing, _N_OTHER_CATEGORIES // 2) + draw.sample(far, _N_OTHER_CATEGORIES // 2)
    pool: Pool = {(side, grade): [] for side in ("own", "english", "other") for grade in range(N_GRADES)}
    for pin in draw.shuffled([*near, *dict.fromkeys(others)]):
        side = "own" if pin.language == query.language else "english" if pin.language == "en" else "other"
        pool[side, true_grade(query.asked, pin.concept)].append(pin)
    return pool


def _shares(asked: Mapping[str, str], values: Mapping[str, str]) -> bool:
    return any(values.get(kind) == value for kind, value in asked.items())


def _sides(draw: Draw, share_foreign: float) -> tuple[str, ...]:
    if not draw.chance(share_foreign):
        return ("own", "english", "other")
    return ("english", "other", "own") if draw.chance(_SHARE_ENGLISH) else ("other", "english", "own")


def _take(pool: Pool, grade: int, sides: tuple[str, ...]) -> Pin:
    """The next item of this grade from the first side; else of a grade beside it; else from another side, and so on."""

    def distance(place: tuple[str, int]) -> tuple[int, int, int]:
        off = abs(place[1] - grade)
        rank = sides.index(place[0])
        return (2 * rank + off if off < 2 else 2 * len(sides) + off, rank, -place[1])

    for place in sorted(pool, key=distance):
        if pool[place]:
            return pool[place].pop()
    raise RuntimeError("pinboard: fewer items than candidates a query")
