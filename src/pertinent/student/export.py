"""Write a trained student as a bundle, and replay stored pairs through the bundle's own code before it counts."""

from __future__ import annotations

import copy
import warnings
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

from pertinent.bundle.format import bundle_files, write_description, write_items, write_statistics
from pertinent.bundle.items import ITEM_TEXT_KEYS
from pertinent.bundle.sides import write_sides
from pertinent.bundle.verify import verify_bundle
from pertinent.data.build import Dataset
from pertinent.features.assemble import all_specs
from pertinent.features.encoder import mean_vectors
from pertinent.files import read_json, write_parquet
from pertinent.student.dataset import Catalogue, pair_rows
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


class _Served(nn.Module):
    """The head with its temperature and softmax: what the ONNX file computes."""

    def __init__(self, head: StudentHead, temperature: float) -> None:
        super().__init__()
        self.head, self.temperature = copy.deepcopy(head).eval(), temperature

    def forward(self, query: Tensor, items: Tensor, features: Tensor) -> Tensor:
        return torch.softmax(self.head(query, items, features) / self.temperature, dim=1)


def export_bundle(
    student: TrainedStudent, probe_pairs: pl.DataFrame, out: Path, *, dataset: Dataset, n_probe: int
) -> dict[str, float]:
    """Write the bundle's files into ``out`` and verify it.

    probe_pairs: (query, item_id, split) rows of held-out queries; an evenly spaced n_probe of them are stored with the training side's features
    and probabilities. Returns the parity gate's largest differences. Raises ModelError if the gate refuses.
    """
    table = student.table.astype(np.float32)
    n_items = len(student.catalogue.ids)
    served_rows = np.arange(n_items)  # the others are for training pairs alone
    item_vectors = mean_vectors(student.catalogue.tokens.take(served_rows), table)
    served = _Served(student.head, student.temperature).eval()
    np.save(out / "token_vectors.npy", student.table, allow_pickle=False)
    student.tokenizer.save(str(out / "tokenizer.json"))
    write_statistics(out, student.catalogue.statistics)
    write_items(out, student.catalogue.ids, item_vectors, student.catalogue.lexical.take(served_rows))
    write_sides(out, student.catalogue.sides)
    specs = all_specs(student.catalogue.sides)
    _export_onnx(served, table.shape[1], len(specs), out / "student.onnx")
    _write_probe(student, served, table, item_vectors, spread(probe_pairs, n_probe), out)
    (out / "README.md").write_text(_model_card(student, dataset), encoding="utf-8")
    write_description(
        out,
        {
            "package_version": version("pertinent"),
            "dataset": dataset.name,
            "generated": dataset.generated,
            "guidelines": list(student.scale.guidelines),
            "dimensions": table.shape[1],
            "n_items": n_items,
            "temperature": student.temperature,
            "features": [asdict(spec) for spec in specs],
            "item_text": _item_text(student.catalogue),
        },
    )
    missing = [path for path in bundle_files(out) if not path.is_file()]
    assert not missing, f"bundle files not written: {missing}"
    return verify_bundle(out)


def _item_text(catalogue: Catalogue) -> dict[str, Any] | None:
    """How the text stage made an item's text, so that a server can do it again; None where it has not written it down."""
    about = catalogue.texts.source.with_name(ABOUT_FILE)
    document = read_json(about) if about.is_file() else {}
    return {key: document[key] for key in ITEM_TEXT_KEYS} if set(ITEM_TEXT_KEYS) <= document.keys() else None


def _export_onnx(served: _Served, dimensions: int, n_features: int, file: Path) -> None:
    sample = (torch.zeros(1, dimensions), torch.zeros(2, dimensions), torch.zeros(2, n_features))
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but needs no onnxscript and keeps the graph as written.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            served,
            sample,
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["query", "items", "features"],
            output_names=["probs"],
            dynamic_axes={"items": {0: "candidates"}, "features": {0: "candidates"}, "probs": {0: "candidates"}},
        )


def _write_probe(
    student: TrainedStudent,
    served: _Served,
    table: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    pairs: pl.DataFrame,
    out: Path,
) -> None:
    rows = pair_rows(pairs, student.catalogue, student.tokenizer, "probe")
    queries = mean_vectors(rows.query_tokens, table)
    with torch.inference_mode():
        probs = served(
            torch.from_numpy(queries[rows.query_rows]),
            torch.from_numpy(item_vectors[rows.item_rows]),
            torch.from_numpy(rows.features),
        ).numpy()
    columns = [pl.Series(name, probs[:, k]) for k, name in enumerate(student.scale.probability_columns)]
    features = pl.Series("features", rows.features.tolist(), dtype=pl.List(pl.Float32))
    write_parquet(out / "probe.parquet", pairs.select("query", "item_id").with_columns(features, *columns))


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
        f"A Pertinent bundle: {student.scale.n_grades} grades, {len(student.catalogue.ids):,} items, "
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
