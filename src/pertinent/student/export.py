"""Write a trained student as a bundle, and replay stored pairs through the bundle's own code before it counts."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from pertinent.bundle.building import item_vectors, write_texts
from pertinent.bundle.format import STORE, write_description, write_statistics
from pertinent.bundle.items import ITEM_TEXT_KEYS
from pertinent.bundle.scorer import open_session
from pertinent.bundle.sides import write_sides
from pertinent.bundle.store import PROBE, ItemStore, mapped_bytes
from pertinent.bundle.vectors import Precision, StoredVectors
from pertinent.bundle.verify import PROBABILITY_TOLERANCE, verify_bundle
from pertinent.data.build import Dataset
from pertinent.errors import ModelError
from pertinent.features.assemble import all_specs
from pertinent.features.encoder import mean_vectors
from pertinent.features.strings import StringTable
from pertinent.files import read_json, write_parquet
from pertinent.progress import say
from pertinent.student.dataset import Catalogue, PairRows, pair_rows
from pertinent.student.folding import ItemHalf, PairNetwork
from pertinent.student.network import StudentHead
from pertinent.text.item_texts import ABOUT_FILE
from pertinent.types import Scale

_OPSET = 17


@dataclass(frozen=True)
class TrainedStudent:
    """What training leaves. table: (V, d) float16, the served token vectors."""

    head: StudentHead
    temperature: float
    table: NDArray[np.float16]
    catalogue: Catalogue
    tokenizer: Tokenizer
    scale: Scale


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
    catalogue = student.catalogue
    specs = all_specs(catalogue.sides)
    np.save(out / "token_vectors.npy", student.table, allow_pickle=False)
    student.tokenizer.save(str(out / "tokenizer.json"))
    write_statistics(out, catalogue.statistics)
    item_half = ItemHalf(student.head, specs).eval()
    network = PairNetwork(student.head, specs, student.temperature).eval()
    sample = torch.zeros(2, student.table.shape[1]), torch.zeros(2, len(specs))
    _export_onnx(item_half, {"items": sample[0], "features": sample[1]}, "halves", out / "item.onnx")

    served_rows = np.arange(len(catalogue.ids))  # the others are for training pairs alone
    lexical = catalogue.lexical.take(served_rows)
    encoded = mean_vectors(catalogue.tokens.take(served_rows), student.table)
    session = open_session(out / "item.onnx")
    stored = item_vectors(session, encoded, lexical, catalogue.statistics, catalogue.sides, vectors)
    items = _tensor(stored.take(np.zeros(2, dtype=np.int64)))
    _export_onnx(
        network, {"query": sample[0][:1], "items": items, "features": sample[1]}, "probs", out / "student.onnx"
    )
    write_sides(out, catalogue.sides)
    ItemStore(StringTable.of(catalogue.ids), stored, lexical, catalogue.sides).write(out / STORE)
    write_texts(out / STORE, catalogue.texts.served)
    (out / "README.md").write_text(_model_card(student, dataset), encoding="utf-8")
    moved = _write_probe(student, item_half, network, stored, encoded, spread(probe_pairs, n_probe), out / STORE)
    n_bytes = mapped_bytes(out / STORE) / len(catalogue.ids)
    document = {
        "package_version": version("pertinent"),
        "dataset": dataset.name,
        "generated": dataset.generated,
        "guidelines": list(student.scale.guidelines),
        "dimensions": student.table.shape[1],
        "n_items": len(catalogue.ids),
        "temperature": student.temperature,
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


def _export_onnx(network: nn.Module, inputs: dict[str, Tensor], output: str, file: Path) -> None:
    """inputs: name -> a sample; all but the query have the number of candidates as their first axis."""
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but needs no onnxscript and keeps the graph as written.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={name: {0: "candidates"} for name in [*inputs, output] if name != "query"},
        )


def _write_probe(
    student: TrainedStudent,
    item_half: ItemHalf,
    network: PairNetwork,
    stored: StoredVectors,
    encoded: NDArray[np.float32],
    pairs: pl.DataFrame,
    store: Path,
) -> dict[str, float]:
    """Write the training side's features and probabilities of pairs; returns how far rounding the vectors moves these.

    Raises ModelError where the folded network without rounding is not the trained one.
    """
    rows = pair_rows(pairs, student.catalogue, student.tokenizer, "probe")
    queries = _tensor(mean_vectors(rows.query_tokens, student.table))
    features = _tensor(rows.features)
    items, rounded = _tensor(encoded[rows.item_rows]), _tensor(stored.take(rows.item_rows))
    with torch.inference_mode():
        whole = torch.cat([items, item_half(items, features)], dim=1)
        trained = torch.softmax(
            student.head.eval()(queries[rows.query_rows], items, features) / student.temperature, dim=1
        )
        folded = _by_query(rows, lambda q, at: network(queries[q : q + 1], whole[at], features[at]))
        probs = _by_query(rows, lambda q, at: network(queries[q : q + 1], rounded[at], features[at]))
    if (folded - trained).abs().max() > PROBABILITY_TOLERANCE:
        raise ModelError(
            f"{store}: the folded network differs by {(folded - trained).abs().max():.1e} from the trained one"
        )
    columns = [pl.Series(name, probs[:, k].numpy()) for k, name in enumerate(student.scale.probability_columns)]
    told = pl.Series("features", rows.features.tolist(), dtype=pl.List(pl.Float32))
    write_parquet(store / PROBE, pairs.select("query", "item_id").with_columns(told, *columns))
    moved = (probs - trained).abs()
    return {"pairs": pairs.height, "mean": float(moved.mean()), "max": float(moved.max())}


def _by_query(rows: PairRows, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """``run`` of each query's row and the places of its pairs, put together in the order of the pairs."""
    order = np.argsort(rows.query_rows, kind="stable")
    edges = np.searchsorted(rows.query_rows[order], np.arange(len(rows.queries) + 1))
    parts = [_tensor(order[a:b]) for a, b in itertools.pairwise(edges)]
    found = torch.cat([run(q, at) for q, at in enumerate(parts)])
    return found[torch.argsort(_tensor(order))]


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def spread(pairs: pl.DataFrame, n_pairs: int) -> pl.DataFrame:
    """At most n_pairs of the rows, evenly spaced."""
    if pairs.height <= n_pairs:
        return pairs
    return pairs[np.linspace(0, pairs.height - 1, n_pairs).astype(np.int64)]


def _model_card(student: TrainedStudent, dataset: Dataset) -> str:
    origin = f"{dataset.name}: {dataset.note}" if dataset.note else dataset.name
    lines = [
        f"# Relevance student for {dataset.name}",
        "",
        f"A Pertinent bundle: {student.scale.n_grades} grades, "
        f"{student.table.shape[1]}-dimensional static token vectors, {len(all_specs(student.catalogue.sides))} features.",
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
