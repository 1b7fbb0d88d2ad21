"""The vocabulary of Pinboard: one YAML file a language in pinboard_words/, and the phrases made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

LANGUAGES = ("en", "es", "fr", "de", "pt", "ru", "zh", "ja", "ar")


@dataclass(frozen=True)
class Catalogue:
    """What is the same in every language (catalogue.yaml).

    kinds: in the order in which they follow a noun. visible: those an image captioner sees.
    categories: name -> its kinds. groups: name -> (category, objects). limits: (group, kind) -> its only values.
    """

    kinds: tuple[str, ...]
    visible: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, tuple[str, ...]]]
    limits: Mapping[tuple[str, str], tuple[str, ...]]
    captions: tuple[str, ...]
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """One language. order: where the values stand, "before" or "after" the noun. joiner: between words.

    objects: object -> its names, the commonest first. values: kind -> value -> phrase, which needs no agreement.
    """

    code: str
    order: str
    joiner: str
    latin: bool
    countries: Sequence[str]
    objects: Mapping[str, Sequence[str]]
    values: Mapping[str, Mapping[str, str]]
    queries: Sequence[str]
    titles: Sequence[str]
    vague_titles: Sequence[str]
    descriptions: Sequence[str]
    links: Sequence[str]
    boards: Mapping[str, Sequence[str]]
    space_in_queries: bool = False
    kinds: Sequence[str] = field(default=())

    def phrase(self, name: str, values: Mapping[str, str]) -> str:
        """A noun with its values: "red velvet sofa", "sofá de terciopelo en color rojo", 红色丝绒沙发."""
        return self.joiner.join(self._parts(name, values))

    def query_phrase(self, name: str, values: Mapping[str, str]) -> str:
        """The same as a searcher types it: in Japanese, keywords parted by spaces."""
        if not self.space_in_queries:
            return self.phrase(name, values)
        parts = self._parts(name, values)
        return " ".join([part.removesuffix("の").removesuffix("な") for part in parts])

    def _parts(self, name: str, values: Mapping[str, str]) -> list[str]:
        said = [self.values[kind][values[kind]] for kind in self.kinds if kind in values]
        return [*reversed(said), name] if self.order == "before" else [name, *said]


def load_catalogue() -> Catalogue:
    """The structure that all languages share."""
    tree = _read("catalogue")
    of_group = {group: name for name, category in tree["categories"].items() for group in category["groups"]}
    groups = tree["groups"]
    return Catalogue(
        kinds=tuple(tree["kinds"]),
        visible=tuple(tree["visible"]),
        categories={name: tuple(category["kinds"]) for name, category in tree["categories"].items()},
        groups={name: (of_group[name], tuple(group["objects"])) for name, group in groups.items()},
        limits={
            (name, kind): tuple(values)
            for name, group in groups.items()
            for kind, values in group.items()
            if kind != "objects"
        },
        captions=tuple(tree["captions"]),
        sites=tuple(tree["sites"]),
    )


def load_words(code: str, catalogue: Catalogue) -> Words:
    """The vocabulary of a language."""
    tree = _read(code)
    values = {kind: tree.pop(kind) for kind in catalogue.kinds}
    return Words(code=code, values=values, kinds=catalogue.kinds, **tree)


def _read(name: str) -> dict[str, Any]:
    path = resources.files("pertinent.data") / "pinboard_words" / f"{name}.yaml"
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tree
