"""Score candidates with an opened bundle: IDs in, calibrated grade probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle.encoders import read_encoder
from pertinent.bundle.format import bundle_folder, read_description, read_statistics
from pertinent.bundle.rows import ItemRows
from pertinent.bundle.store import ItemStore
from pertinent.bundle.vectors import Precision, StoredVectors
from pertinent.errors import DataError, ModelError
from pertinent.features.assemble import all_specs, pair_features
from pertinent.features.corpus import CorpusStatistics, LexicalItems
from pertinent.features.encoder import Encoder
from pertinent.features.session import open_session
from pertinent.features.side import Side
from pertinent.features.strings import StringTable
from pertinent.types import Scale

Inputs = tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]


@dataclass(frozen=True)
class Scorer:
    """An opened bundle. Not changed by scoring: one scorer may serve several threads.

    row_of: item ID -> row; `StringTable.find` looks up many at once. item_vectors: an item's vector (d) and its half of
    the network's first layer (H), as stored.
    """

    scale: Scale
    encoder: Encoder
    statistics: CorpusStatistics
    row_of: StringTable
    item_vectors: StoredVectors
    lexical: LexicalItems
    session: Any  # onnxruntime.InferenceSession
    item_session: Any
    description: dict[str, Any]
    sides: tuple[Side, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of the features that `inputs` gives."""
        return tuple(spec.name for spec in all_specs(self.sides))

    def score(self, query: str, item_ids: Sequence[str]) -> NDArray[np.float32]:
        """Grade probabilities of candidates: (C, n) float32, each row summing to 1; NaN for an unknown item."""
        rows = self.row_of.find(item_ids)
        known = rows >= 0
        probs = np.full((rows.size, self.scale.n_grades), np.nan, dtype=np.float32)
        if known.any():
            probs[known] = self.run(*self.inputs(query, rows[known]))
        return probs

    def inputs(self, query: str, rows: NDArray[np.int64], *, halves: bool = True) -> Inputs:
        """The network's inputs for stored items by row: query (1, d) float32, items, features (C, F) float32.

        items: (C, d + H) as stored, float16 or float32. halves: False leaves the items' halves out, (C, d) float32, so
        that `run` works them out from the features that it is given: for a caller that changes features.
        """
        features = pair_features(query, self.lexical.take(rows), rows, self.statistics, self.sides)
        items = self.item_vectors.take(rows) if halves else self.item_vectors.first(rows)
        return self.encoder.encode_queries([query]), items, features

    def items_at(self, rows: NDArray[np.int64]) -> ItemRows:
        """Stored items as rows of their own, to be kept or changed elsewhere."""
        sides = tuple(side.with_values(side.values(rows)) for side in self.sides)
        return ItemRows(self.item_vectors.first(rows), self.lexical.take(rows), sides)

    def inputs_of(self, query: str, items: ItemRows) -> Inputs:
        """`inputs` for items that lie elsewhere; their halves are worked out here."""
        features = pair_features(query, items.lexical, np.arange(len(items)), self.statistics, items.sides)
        stored = self.stored(items.vectors, features)
        return self.encoder.encode_queries([query]), stored.take(np.arange(len(items))), features

    def run(
        self, query: NDArray[np.float32], items: NDArray[Any], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Run the network: (C, n) float32 probabilities. items: (C, d + H) of the store, or (C, d) vectors alone."""
        if items.shape[1] == self.encoder.dimensions:
            items = self.stored(items.astype(np.float32), features).take(np.arange(items.shape[0]))
        feeds = {"query": query, "items": items, "features": features}
        probs: NDArray[np.float32] = self.session.run(["probs"], feeds)[0]
        return probs

    def stored(self, vectors: NDArray[np.float32], features: NDArray[np.float32]) -> StoredVectors:
        """Items as a store holds them: their vectors (C, d) and halves, rounded. features: (C, F), read where of kind item."""
        return with_halves(self.item_session, vectors, features, self.item_vectors.precision)

    def rounded(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Item vectors (C, d) as they are read back from a store."""
        return StoredVectors.of([vectors], self.item_vectors.precision).first(np.arange(vectors.shape[0]))

    def score_pairs(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """``pairs`` (query, item_id) with p_1..p_n, expected_grade and relevance in 0-1; null for an unknown item.

        Raises DataError if a column is missing.
        """
        for column in ("query", "item_id"):
            if column not in pairs.columns:
                raise DataError(f"pairs: expected the columns query and item_id, found {', '.join(pairs.columns)}")
        indexed = pairs.select(pl.col("query", "item_id").cast(pl.String)).with_row_index("row")
        probs = np.full((pairs.height, self.scale.n_grades), np.nan, dtype=np.float32)
        for (query,), group in indexed.group_by(["query"], maintain_order=True):
            probs[group["row"].to_numpy()] = self.score(str(query or ""), group["item_id"].to_list())
        return with_scores(pairs, probs, self.scale)


def grades_and_relevance(probs: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of (C, n) probabilities: the expected stored grade (C,), and the relevance in 0-1 (C,).

    relevance = sum_k p_k (2^k - 1) over the top grade's gain, k the stored grade. NaN stays NaN.
    """
    stored = np.arange(probs.shape[1])
    gains = np.exp2(stored) - 1.0
    wide = probs.astype(np.float64)
    return wide @ stored, np.clip(wide @ gains / gains[-1], 0.0, 1.0)


def with_scores(pairs: pl.DataFrame, probs: NDArray[np.float32], scale: Scale) -> pl.DataFrame:
    """Add p_1..p_n, expected_grade and relevance to ``pairs``; a NaN becomes null."""
    grades, relevance = grades_and_relevance(probs)
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(scale.probability_columns)]
    columns += [pl.Series("expected_grade", grades), pl.Series("relevance", relevance)]
    return pairs.with_columns([column.fill_nan(None) for column in columns])


def open_bundle(folder: Path, *, check_hashes: bool = True, whole: bool = False) -> Scorer:
    """Open a bundle, or the student of a run folder. Its arrays are mapped, whatever their size, and read when used.

    check_hashes, whole: see `read_description`. Raises ModelError when a file is missing or changed, or the bundle is from another version.
    """
    folder = bundle_folder(folder)
    description = read_description(folder, check_hashes=check_hashes, whole=whole)
    names = tuple(feature["name"] for feature in description["features"])
    store = ItemStore.open(folder, description["store"])
    if names != tuple(spec.name for spec in all_specs(store.sides)):
        raise ModelError(f"{folder}: expected the features of this version, found others; export the bundle again")
    return Scorer(
        scale=Scale(tuple(description["guidelines"])),
        encoder=read_encoder(folder, description["encoder"]),
        statistics=read_statistics(folder),
        row_of=store.ids,
        item_vectors=store.vectors,
        lexical=store.lexical,
        session=open_session(folder / "student.onnx"),
        item_session=open_session(folder / "item.onnx"),
        description=description,
        sides=store.sides,
    )


def with_halves(
    session: Any, vectors: NDArray[np.float32], features: NDArray[np.float32], precision: Precision
) -> StoredVectors:
    """Vectors (C, d) and the halves that item.onnx makes of the rounded ones, so that an item read back gives the same."""
    rounded = StoredVectors.of([vectors], precision).first(np.arange(vectors.shape[0]))
    halves: NDArray[np.float32] = session.run(["halves"], {"items": rounded, "features": features})[0]
    return StoredVectors.of([rounded, halves], precision)
