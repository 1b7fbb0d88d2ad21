"""Write a trained student as a bundle, and replay stored pairs through the bundle's own code before it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pertinent.bundle.building import item_vectors, write_texts
from pertinent.bundle.encoders import write_encoder
from pertinent.bundle.format import STORE, write_description, write_statistics
from pertinent.bundle.items import ITEM_TEXT_KEYS
from pertinent.bundle.sides import write_sides
from pertinent.bundle.store import PROBE, ItemStore, mapped_bytes
from pertinent.bundle.vectors import Precision, StoredVectors
from pertinent.bundle.verify import PROBABILITY_TOLERANCE, verify_bundle
from pertinent.data.build import Dataset
from pertinent.errors import ModelError
from pertinent.features.assemble import all_specs
from pertinent.features.encoder import Encoder
from pertinent.features.session import open_session
from pertinent.features.strings import StringTable
from pertinent.files import read_json, write_parquet
from pertinent.progress import say
from pertinent.student.dataset import Catalogue, pair_rows
from pertinent.student.served import ServedModel
from pertinent.text.item_texts import ABOUT_FILE
from pertinent.types import Scale


@dataclass(frozen=True)
class TrainedStudent:
    """What training leaves. tokenizer: the teacher's. items: (N, d) vectors of the items; None: the encoder makes them."""

    model: ServedModel
    encoder: Encoder
    catalogue: Catalogue
    tokenizer: Tokenizer
    scale: Scale
    items: NDArray[np.float32] | None = None


def export_bundle(
    student: TrainedStudent,
    probe_pairs: pl.DataFrame,
    out: Path,
    *,
    dataset: Dataset,
    n_probe: int,
    vectors: Precision = "float16",
) -> dict[str, float]:
    """Write the bundle's files into ``out`` and verify it.

    probe_pairs: (query, item_id, split) rows of held-out queries; an evenly spaced n_probe of them are stored with the
    training side's features and probabilities over the stored vectors. vectors: how item vectors are stored; what their
    rounding does to the probabilities of these pairs stands in bundle.json, under vectors. Returns the parity gate's
    largest differences. Raises ModelError if the gate refuses.
    """
    catalogue, model, encoder = student.catalogue, student.model, student.encoder
    specs = all_specs(catalogue.sides)
    kind = write_encoder(out, encoder)
    student.tokenizer.save(str(out / "tokenizer.json"))
    write_statistics(out, catalogue.statistics)
    model.write_item(encoder.dimensions, out / "item.onnx")

    served_rows = np.arange(len(catalogue.ids))  # the others are for training pairs alone
    lexical = catalogue.lexical.take(served_rows)
    encoded = encoder.encode(catalogue.texts.served["text"].to_list()) if student.items is None else student.items
    session = open_session(out / "item.onnx")
    stored = item_vectors(session, encoded, lexical, catalogue.statistics, catalogue.sides, vectors)
    model.write_pairs(encoder.dimensions, stored.take(np.zeros(2, dtype=np.int64)), out / "student.onnx")
    write_sides(out, catalogue.sides)
    ItemStore(StringTable.of(catalogue.ids), stored, lexical, catalogue.sides).write(out / STORE)
    write_texts(out / STORE, catalogue.texts.served)
    (out / "README.md").write_text(_model_card(student, dataset, kind), encoding="utf-8")
    moved = _write_probe(student, stored, encoded, spread(probe_pairs, n_probe), out / STORE)
    n_bytes = mapped_bytes(out / STORE) / len(catalogue.ids)
    document = {
        "package_version": version("pertinent"),
        "dataset": dataset.name,
        "generated": dataset.generated,
        "guidelines": list(student.scale.guidelines),
        "dimensions": encoder.dimensions,
        "n_items": len(catalogue.ids),
        "temperature": model.temperature,
        "encoder": kind,
        "features": [asdict(spec) for spec in specs],
        "item_text": _item_text(catalogue),
        "store": STORE,
        "vectors": {"precision": vectors, "bytes_per_item": stored.bytes_per_row, "probabilities_moved": moved},
        "store_bytes_per_item": round(n_bytes, 1),
    }
    write_description(out, document)
    say(
        f"student: {n_bytes:,.0f} bytes an item; vectors stored as {vectors} move the probabilities of {moved['pairs']:,} "
        f"pairs by {moved['mean']:.1e} on average, by {moved['max']:.1e} at most"
    )
    return verify_bundle(out)


def _item_text(catalogue: Catalogue) -> dict[str, Any] | None:
    """How the text stage made an item's text, so that a server can do it again; None where it has not written it down."""
    about = catalogue.texts.source.with_name(ABOUT_FILE)
    document = read_json(about) if about.is_file() else {}
    return {key: document[key] for key in ITEM_TEXT_KEYS} if set(ITEM_TEXT_KEYS) <= document.keys() else None


def _write_probe(
    student: TrainedStudent, stored: StoredVectors, encoded: NDArray[np.float32], pairs: pl.DataFrame, store: Path
) -> dict[str, float]:
    """Write the training side's features and probabilities of pairs; returns how far rounding the vectors moves these.

    Raises ModelError where the model as it is served, without rounding, is not the trained one.
    """
    rows = pair_rows(pairs, student.catalogue, "probe")
    model, features = student.model, rows.features
    queries, items = student.encoder.encode_queries(rows.queries), encoded[rows.item_rows]
    trained = model.trained(queries[rows.query_rows], items, features)
    folded = model.served(rows, queries, model.whole_items(items, features), features)
    probs = model.served(rows, queries, stored.take(rows.item_rows), features)
    if (worst := float(np.abs(folded - trained).max())) > PROBABILITY_TOLERANCE:
        raise ModelError(f"{store}: the served model differs by {worst:.1e} from the trained one")
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(student.scale.probability_columns)]
    told = pl.Series("features", features.tolist(), dtype=pl.List(pl.Float32))
    write_parquet(store / PROBE, pairs.select("query", "item_id").with_columns(told, *columns))
    moved = np.abs(probs - trained)
    return {"pairs": pairs.height, "mean": float(moved.mean()), "max": float(moved.max())}


def spread(pairs: pl.DataFrame, n_pairs: int) -> pl.DataFrame:
    """At most n_pairs of the rows, evenly spaced."""
    if pairs.height <= n_pairs:
        return pairs
    return pairs[np.linspace(0, pairs.height - 1, n_pairs).astype(np.int64)]


def _model_card(student: TrainedStudent, dataset: Dataset, kind: str) -> str:
    origin = f"{dataset.name}: {dataset.note}" if dataset.note else dataset.name
    lines = [
        f"# Relevance student for {dataset.name}",
        "",
        f"A Pertinent bundle: {student.model.description}, {student.scale.n_grades} grades, "
        f"{len(student.catalogue.ids):,} items, {student.encoder.dimensions}-dimensional vectors of a {kind} encoder, "
        f"{len(all_specs(student.catalogue.sides))} features.",
        "",
        f"- Data: {origin}",
        f"- Licence of the data: {dataset.licence or 'not stated'}",
        "- Open it with `pertinent.bundle.open_bundle` or `pertinent score`; it needs no torch.",
        "",
        "| grade | meaning |",
        "|---|---|",
        *[f"| {name} | {text} |" for name, text in zip(student.scale.shown, student.scale.guidelines, strict=True)],
    ]
    return "\n".join(lines) + "\n"
