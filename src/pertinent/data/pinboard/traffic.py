"""Pinboard's search log: pages of a noisy ranker, searchers who look at the top first, and the clicks that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.items import Pin
from pertinent.data.pinboard.queries import Query
from pertinent.data.pinboard.size import PinboardSize
from pertinent.data.pinboard.truth import true_grade
from pertinent.data.pinboard.words import Words
from pertinent.data.splits import normalise_query

START = datetime(2025, 1, 1, tzinfo=UTC)
N_DAYS = 90
EXAMINATION_POWER = 0.7  # a result at position k is looked at with probability 1 / k ** 0.7
CLICK_PROBS = (0.03, 0.06, 0.15, 0.35, 0.55)  # by true grade, of a result looked at
NOISE_CLICK = 0.01  # a click without a look: a slip of the finger
LONG_PROBS = (0.1, 0.2, 0.35, 0.5, 0.65)  # a click that leads to a long visit
SAVE_PROBS = (0.02, 0.05, 0.1, 0.2, 0.35)  # a click that leads to a save
HIDE_PROB = 0.1  # an irrelevant result (grade 0 or 1) looked at, not clicked
WEIGHTS = {"click": 1.0, "long_click": 1.0, "save": 2.0}  # of an action in an engaged query
_SESSIONS = (1, 1, 1, 2, 2, 3, 5)  # of a query: few queries come often
_N_OWN, _N_FOREIGN, _N_FAR = 30, 30, 20  # found items: of the category in and not in the query's language; any
_MAX_ENGAGED = 8


@dataclass(frozen=True)
class User:
    """A searcher, who searches in one language."""

    name: str
    language: str
    country: str


def make_log(
    draw: Draw,
    queries: Mapping[str, Sequence[Query]],
    pins: Sequence[Pin],
    words: Mapping[str, Words],
    size: PinboardSize,
) -> list[dict[str, Any]]:
    """The rows of log.jsonl by time: an impression a result shown, and a row for each action on it."""
    users = _users(draw, words, size)
    n_in_log = size.per_language(size.n_log_queries, tuple(words))
    sessions: list[list[dict[str, Any]]] = []
    for code, own in queries.items():
        for query in own[: n_in_log[code]]:
            found = _retrieve(draw, query, pins)
            for _ in range(draw.pick(_SESSIONS)):
                page = _rank(draw, query, found)[: size.n_results]
                sessions.append(_session(draw, query, page, draw.pick(users[code])))
    sessions.sort(key=lambda rows: str(rows[0]["timestamp"]))
    for number, rows in enumerate(sessions):
        for row in rows:
            row["session"] = f"s{number:06d}"
    return [row for rows in sessions for row in rows]


def engaged_queries(log: Sequence[Mapping[str, Any]], queries: Sequence[Query]) -> dict[str, list[dict[str, Any]]]:
    """item_id -> the queries from which it was clicked, with weights, the heaviest first.

    Only unjudged queries of the train split: what a judged or held-out query led to must not reach the item text.
    """
    allowed = {normalise_query(query.text) for query in queries if query.split == "train" and not query.judged}
    weights: dict[str, dict[str, float]] = {}
    for row in log:
        if row["action"] in WEIGHTS and normalise_query(row["query"]) in allowed:
            found = weights.setdefault(row["item_id"], {})
            found[row["query"]] = found.get(row["query"], 0.0) + WEIGHTS[row["action"]]
    return {
        item_id: [{"query": query, "weight": weight} for query, weight in _heaviest(found)]
        for item_id, found in weights.items()
    }


def _heaviest(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:_MAX_ENGAGED]


def _users(draw: Draw, words: Mapping[str, Words], size: PinboardSize) -> dict[str, list[User]]:
    users: dict[str, list[User]] = {}
    for code, n_users in size.per_language(size.n_users, tuple(words)).items():
        names = [f"{code}-user{number:03d}" for number in range(max(n_users, 1))]
        users[code] = [User(name, code, draw.pick(words[code].countries)) for name in names]
    return users


def _retrieve(draw: Draw, query: Query, pins: Sequence[Pin]) -> list[Pin]:
    near = [pin for pin in pins if pin.concept.category == query.asked.category]
    own = [pin for pin in near if pin.language == query.language]
    foreign = [pin for pin in near if pin.language != query.language]
    found = [*draw.sample(own, _N_OWN), *draw.sample(foreign, _N_FOREIGN), *draw.sample(pins, _N_FAR)]
    return list(dict.fromkeys(found))


def _rank(draw: Draw, query: Query, found: Sequence[Pin]) -> list[Pin]:
    """The stand-in ranker: it knows the truth, likes the searcher's language and popular items, and is noisy."""

    def score(pin: Pin) -> float:
        popularity: float = pin.row["numeric"]["popularity"]
        grade = true_grade(query.asked, pin.concept)
        return grade + 1.5 * (pin.language == query.language) + popularity / 100 + 1.5 * draw.bell()

    scored = [(score(pin), pin) for pin in found]
    return [pin for _, pin in sorted(scored, key=lambda pair: -pair[0])]


def _session(draw: Draw, query: Query, page: Sequence[Pin], user: User) -> list[dict[str, Any]]:
    shown_at = START + timedelta(seconds=draw.whole(0, N_DAYS * 86_400 - 1))
    rows = []
    for position, pin in enumerate(page, start=1):
        for action, seconds in _actions(draw, true_grade(query.asked, pin.concept), position):
            row: dict[str, Any] = {
                "timestamp": f"{shown_at + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}",
                "query": query.text,
            }
            row |= {"item_id": pin.item_id, "position": position, "action": action, "user": user.name}
            rows.append({**row, "session": "", "language": query.language, "country": user.country})
    return sorted(rows, key=lambda row: str(row["timestamp"]))


def _actions(draw: Draw, grade: int, position: int) -> list[tuple[str, int]]:
    """What happens to a result shown: (action, seconds since the page was shown)."""
    examined = draw.chance(position**-EXAMINATION_POWER)
    clicked = draw.chance(NOISE_CLICK) or (examined and draw.chance(CLICK_PROBS[grade]))
    at = 4 * position + draw.whole(0, 3)
    actions = [("impression", 0)]
    if clicked:
        actions.append(("click", at))
        if draw.chance(LONG_PROBS[grade]):
            actions.append(("long_click", at + 30))
        if draw.chance(SAVE_PROBS[grade]):
            actions.append(("save", at + 20))
    elif examined and grade <= 1 and draw.chance(HIDE_PROB):
        actions.append(("hide", at))
    return actions
