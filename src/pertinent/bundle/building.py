"""What a bundle's own networks make of items before they are stored: in export and when a catalogue is indexed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pertinent.bundle.scorer import with_halves
from pertinent.bundle.store import TEXTS
from pertinent.bundle.vectors import Precision, StoredVectors
from pertinent.features.assemble import pair_features
from pertinent.features.corpus import CorpusStatistics, LexicalItems
from pertinent.features.side import Side
from pertinent.files import write_parquet

_BLOCK_ROWS = 8192


def item_vectors(
    session: Any,
    encoded: NDArray[np.float32],
    lexical: LexicalItems,
    statistics: CorpusStatistics,
    sides: Sequence[Side],
    precision: Precision,
) -> StoredVectors:
    """An item's vector and its half of the first layer, rounded. session: of item.onnx. encoded: (N, d).

    The half reads features of kind item alone, which are the same for any query.
    """
    blocks = []
    for start in range(0, encoded.shape[0], _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, encoded.shape[0]))
        features = pair_features("", lexical.take(rows), rows, statistics, sides)
        blocks.append(with_halves(session, encoded[rows], features, precision))
    return StoredVectors.joined(blocks)


def write_texts(store: Path, served: pl.DataFrame) -> None:
    """Write texts.parquet, in the order of the store. served: item_id, title, body and text of the text stage."""
    write_parquet(store / TEXTS, served.select("item_id", "title", "body", "text"))
