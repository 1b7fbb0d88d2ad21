"""Pinboard's items: a latent concept, and the incomplete, many-voiced text that people put around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pertinent.data.pinboard.draw import Draw
from pertinent.data.pinboard.truth import Concept
from pertinent.data.pinboard.words import Catalogue, Words

SHARE_MISSING = {
    "title": 0.06,
    "description": 0.3,
    "captions": 0.15,
    "boards": 0.25,
    "link_title": 0.4,
    "link_description": 0.5,
}
_SHARE_VAGUE = 0.1  # of titles
_SHARE_MISSEEN = 0.06  # of captions that name a sibling
_SHARE_UNUSUAL = 0.06  # of values outside the object's palette
_PALETTE_WEIGHTS = (0.6, 0.25, 0.15)
_N_FAVOURED, _FAVOUR = 5, 12.0  # groups that a language other than English has more of, and how many times more


@dataclass(frozen=True)
class Pin:
    """An item with its truth. row: what items.jsonl says of it."""

    item_id: str
    language: str
    concept: Concept = field(hash=False, compare=False)
    row: dict[str, Any] = field(hash=False, compare=False)


@dataclass(frozen=True)
class Thing:
    """An object as the catalogue has it. weight: how common. palette: kind -> its usual values, commonest first."""

    category: str
    group: str
    object: str
    weight: float
    palette: Mapping[str, Sequence[str]]
    allowed: Mapping[str, Sequence[str]]


def make_things(draw: Draw, catalogue: Catalogue, words: Words) -> list[Thing]:
    """The objects, some common and some rare, each with its usual values. words: any language, for the values."""
    things = []
    for group, (category, objects) in catalogue.groups.items():
        kinds = catalogue.categories[category]
        allowed = {kind: catalogue.limits.get((group, kind), tuple(words.values[kind])) for kind in kinds}
        for name in objects:
            palette = {kind: draw.sample(allowed[kind], len(_PALETTE_WEIGHTS)) for kind in kinds}
            things.append(Thing(category, group, name, 0.4 + 1.6 * draw.unit(), palette, allowed))
    return things


def make_pins(
    draw: Draw, things: list[Thing], catalogue: Catalogue, words: Mapping[str, Words], languages: Sequence[str]
) -> list[Pin]:
    """One item for each language in ``languages``, in that order."""
    weights = {code: _weights(draw, things, code) for code in words}
    pins = []
    for number, language in enumerate(languages):
        concept = _concept(draw, draw.weighted(things, weights[language]))
        item_id = f"pin{number:05d}"
        row = {"item_id": item_id, **_texts(draw, concept, catalogue, words, language)}
        row |= {"language": language, "category": concept.category}
        row["numeric"] = {"popularity": _popularity(draw)}
        pins.append(Pin(item_id, language, concept, row))
    return pins


def _weights(draw: Draw, things: list[Thing], language: str) -> list[float]:
    """How common each object is in a language. The small catalogues are narrow: they favour some groups."""
    groups = list(dict.fromkeys(thing.group for thing in things))
    favoured = groups if language == "en" else draw.sample(groups, _N_FAVOURED)
    return [thing.weight * (_FAVOUR if thing.group in favoured else 1.0) for thing in things]


def _concept(draw: Draw, thing: Thing) -> Concept:
    values = {}
    for kind, palette in thing.palette.items():
        usual = draw.weighted(palette, _PALETTE_WEIGHTS[: len(palette)])
        values[kind] = draw.pick(thing.allowed[kind]) if draw.chance(_SHARE_UNUSUAL) else usual
    return Concept(thing.category, thing.group, thing.object, values)


def name_of(draw: Draw, words: Words, thing: str) -> str:
    """One of the object's names; the commonest three times in five."""
    names = words.objects[thing]
    return names[0] if len(names) == 1 or draw.chance(0.6) else draw.pick(names[1:])


def some(draw: Draw, values: Mapping[str, str], share: float) -> dict[str, str]:
    """Each of the values with this probability."""
    return {kind: value for kind, value in values.items() if draw.chance(share)}


def _texts(
    draw: Draw, concept: Concept, catalogue: Catalogue, words: Mapping[str, Words], language: str
) -> dict[str, Any]:
    """Every text field, null where it is missing; a pin has at least a title, a description or a caption."""
    own = words[language]
    row: dict[str, Any] = {
        "title": _title(draw, concept, own),
        "description": _say(draw, concept, own, own.descriptions, 0.7),
        "captions": [_caption(draw, concept, catalogue, words["en"]) for _ in range(draw.whole(1, 2))],
        "boards": _boards(draw, concept, own if draw.chance(0.85) else words["en"]),
        "link_title": f"{_say(draw, concept, own, ('{x}',), 0.5)} | {draw.pick(catalogue.sites)}",
        "link_description": _say(draw, concept, own, own.links, 0.6),
    }
    missing = [name for name, share in SHARE_MISSING.items() if draw.chance(share)]
    if {"title", "description", "captions"} <= set(missing):
        missing.remove("captions")
    return {name: None if name in missing else value for name, value in row.items()}


def _title(draw: Draw, concept: Concept, words: Words) -> str:
    if draw.chance(_SHARE_VAGUE):
        return draw.pick(words.vague_titles)
    said = _say(draw, concept, words, words.titles, 0.65)
    return said[:1].upper() + said[1:] if draw.chance(0.7) else said


def _say(draw: Draw, concept: Concept, words: Words, templates: Sequence[str], share: float) -> str:
    phrase = words.phrase(name_of(draw, words, concept.object), some(draw, concept.values, share))
    return draw.pick(templates).replace("{x}", phrase)


def _caption(draw: Draw, concept: Concept, catalogue: Catalogue, english: Words) -> str:
    seen = {kind: value for kind, value in concept.values.items() if kind in catalogue.visible}
    siblings = catalogue.groups[concept.group][1]
    thing = draw.pick(siblings) if draw.chance(_SHARE_MISSEEN) else concept.object
    phrase = english.phrase(name_of(draw, english, thing), some(draw, seen, 0.8))
    return draw.pick(catalogue.captions).replace("{x}", phrase)


def _boards(draw: Draw, concept: Concept, words: Words) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for _ in range(draw.whole(1, 4)):
        title = _board_title(draw, concept, words)
        counts[title] = counts.get(title, 0) + draw.whole(1, 40)
    return [{"title": title, "count": count} for title, count in counts.items()]


def _board_title(draw: Draw, concept: Concept, words: Words) -> str:
    sort = draw.weighted(("generic", "category", "about"), (0.3, 0.4, 0.3))
    if sort == "about":
        return _say(draw, concept, words, words.boards["about"], 0.2)
    return draw.pick(words.boards[concept.category if sort == "category" else "generic"])


def _popularity(draw: Draw) -> float:
    point = draw.unit()
    return round(100 * point * point * point, 2)
