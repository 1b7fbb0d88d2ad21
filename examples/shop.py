"""Write a small made-up shop in its own words: a catalogue, people's ratings and a search log, for docs/tutorial.md.

    python examples/shop.py FOLDER

Column names, grades and delimiter are not ours on purpose. Nothing about quality can be learnt from such data.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path

COLOURS = ("red", "blue", "green", "grey")
MATERIALS = ("oak", "velvet", "leather", "cotton")
THINGS = ("sofa", "chair", "table", "lamp", "rug", "dress", "coat", "shirt")
RATINGS = ("bad", "fair", "good", "perfect")


def catalogue() -> list[dict[str, str]]:
    """128 products: one of each colour, material and thing."""
    return [
        {
            "sku": f"P{number:03}",
            "name": f"{colour.title()} {thing}",
            "details": f"A {thing} in {colour}, made of {material}.",
            "department": "home" if thing in THINGS[:5] else "fashion",
        }
        for number, (colour, material, thing) in enumerate(itertools.product(COLOURS, MATERIALS, THINGS))
    ]


def ratings(products: list[dict[str, str]]) -> list[dict[str, str]]:
    """8 rated products for each of 192 queries, by how much of the query they answer, and one row that is broken."""
    queries = [f"{c} {t}{size}" for size in ("", " large", " small") for c in COLOURS for t in THINGS]
    queries += [f"{m} {t}{end}" for end in ("", " modern", " cheap") for m in MATERIALS for t in THINGS]
    rows = []
    for place, query in enumerate(queries):
        first, thing, *more = query.split()
        alike = [p for p in products if p["name"].endswith(thing)]
        others = [p for p in products if not p["name"].endswith(thing)]
        shown = [alike[(place + 3 * k) % len(alike)] for k in range(5)] + [
            others[(7 * place + k) % 112] for k in (0, 40, 80)
        ]
        for product in {p["sku"]: p for p in shown}.values():
            text = f"{product['name']} {product['details']}".lower()
            grade = (thing in text) * (1 + (first in text) * (1 if more else 2))  # no text says what is large or modern
            rows.append({"search": query, "product": product["sku"], "rating": RATINGS[grade]})
    return [*rows, {"search": "red sofa", "product": "P999", "rating": "good"}]


def searches(rated: list[dict[str, str]]) -> list[dict[str, object]]:
    """Shown products of 600 searches, with a click on the good ones."""
    words = [f"{w} {t}" for w in (*COLOURS, *MATERIALS) for t in THINGS]
    rows: list[dict[str, object]] = []
    for number in range(600):
        row = rated[number * 13 % (len(rated) - 1)]
        when = f"2026-03-{1 + number % 28:02}T{number % 24:02}:00:00Z"
        shown = {
            "time": when,
            "search": words[number * 5 % len(words)],
            "product": row["product"],
            "rank": 1 + number % 10,
        }
        rows.append({**shown, "event": "impression"})
        if number % 3 == 0:
            rows.append({**shown, "event": "click"})
    return rows


def main() -> None:
    """Write the three files."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/shop.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    products = catalogue()
    rated = ratings(products)
    for name, rows in (("catalogue.csv", products), ("ratings.csv", rated)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    lines = [json.dumps(row) for row in searches(rated)]
    (folder / "searches.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
