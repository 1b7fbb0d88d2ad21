"""The language of queries and items that came without one, with how sure the detector is; "und" where it is not.

The detector is py3langid: naive Bayes on byte n-grams, 4.6 MB, NumPy alone. Measured beside others by
benchmarks/languages.py; told the languages that occur, it is right far more often, above all on short queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from pertinent.data.config import DetectConfig
from pertinent.errors import ConfigError
from pertinent.progress import progress

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

    from pertinent.data.check import Checked

UNDETERMINED = "und"  # ISO 639-2's code
_NO_LANGUAGE = "zxx"  # an answer of the detector's own: codes and measures
_ITEM_FIELDS = ("title", "description", "captions", "link_title")
_MOST_CHARACTERS = 300  # of an item's text: more changes no answer
_BATCH = 2_000


def detect_languages(checked: Checked, config: DetectConfig) -> Checked:
    """Fill language where it is null in judgments, log and items; adds language_confidence (Float32, null where given).

    The declared languages are the only answers, all that the detector knows where none are declared; with a single one
    there is nothing to detect. One query has one answer, in the judgments and in the log. Raises ConfigError for a
    declared language that the detector does not know.
    """
    declared = tuple(language.lower() for language in checked.source.languages)
    if len(declared) == 1:
        return checked
    detector = Detector(declared, config.min_confidence)
    told = pl.concat([_needed(frame) for frame in (checked.judgments, checked.log) if frame is not None])
    found = detector.of(told.unique().sort(), "data: languages of queries")
    items = checked.items
    if "language" not in items.columns:
        items = items.with_columns(language=pl.lit(None, pl.String))
    text = _item_text(items)
    unknown = text.filter(items["language"].is_null()).unique(maintain_order=True)
    return replace(
        checked,
        judgments=_filled(checked.judgments, checked.judgments["query"], found),
        log=None if checked.log is None else _filled(checked.log, checked.log["query"], found),
        items=_filled(items, text, detector.of(unknown, "data: languages of items")),
    )


class Detector:
    """Answers for texts among some languages. languages: ISO 639-1 codes; none: all that it knows."""

    def __init__(self, languages: Sequence[str] = (), min_confidence: float = 0.0) -> None:
        self._identifier, self._min = _load(), min_confidence
        if languages:
            known = set(self._identifier.labels)
            if unknown := sorted(set(languages) - known):
                raise ConfigError(
                    f"data.languages: expected languages that can be detected ({', '.join(sorted(known))}), found "
                    f"{', '.join(unknown)}; switch data.detect off"
                )
            self._identifier.set_languages(list(languages))

    def answer(self, text: str) -> tuple[str, float]:
        """(language, confidence 0 to 1); the language is und below the least confidence or without a letter."""
        if not any(character.isalpha() for character in text):
            return UNDETERMINED, 0.0
        language, confidence = self._identifier.classify(text)
        told = confidence >= self._min and language != _NO_LANGUAGE
        return (language if told else UNDETERMINED), float(confidence)

    def of(self, texts: pl.Series, label: str) -> pl.DataFrame:
        """text, language, language_confidence of distinct texts."""
        languages: list[str] = []
        confidences: list[float] = []
        with progress(label, texts.len(), "texts") as bar:
            for start in range(0, texts.len(), _BATCH):
                answers = [self.answer(text or "") for text in texts.slice(start, _BATCH)]
                languages += [language for language, _ in answers]
                confidences += [confidence for _, confidence in answers]
                bar.advance(len(answers))
        confidence = pl.Series(confidences, dtype=pl.Float32)
        return pl.DataFrame(
            {"_text": texts, "_language": pl.Series(languages, dtype=pl.String), "_confidence": confidence}
        )


def _load() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _needed(frame: pl.DataFrame) -> pl.Series:
    return frame.filter(pl.col("language").is_null())["query"]


def _item_text(items: pl.DataFrame) -> pl.Series:
    parts = [
        pl.col(name).list.join(" ") if isinstance(items.schema[name], pl.List) else pl.col(name)
        for name in _ITEM_FIELDS
        if name in items.columns
    ]
    joined = pl.concat_str(parts, separator=" ", ignore_nulls=True) if parts else pl.lit("")
    return items.select(joined.str.slice(0, _MOST_CHARACTERS).alias("_text")).to_series()


def _filled(frame: pl.DataFrame, texts: pl.Series, found: pl.DataFrame) -> pl.DataFrame:
    joined = frame.with_columns(texts.alias("_text")).join(found, on="_text", how="left", maintain_order="left")
    given = pl.col("language").is_not_null()
    return joined.with_columns(
        language=pl.coalesce("language", "_language"),
        language_confidence=pl.when(given).then(None).otherwise(pl.col("_confidence")),
    ).drop("_text", "_language", "_confidence")
