"""What a trained model becomes when it is served: the graphs of a bundle, and the training side's own word on what they say."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pertinent.features.declare import FeatureSpec
from pertinent.student.dataset import PairRows
from pertinent.student.folding import ItemHalf, PairNetwork
from pertinent.student.network import StudentHead

_OPSET = 17
Floats = NDArray[np.float32]


class ServedModel(Protocol):
    """A model of d-dimensional vectors and F features. Items: (N, d) vectors, or (N, d + H) with what item.onnx adds."""

    @property
    def temperature(self) -> float:
        """Fitted on dev; inside student.onnx."""

    @property
    def description(self) -> str:
        """For the model card."""

    def write_item(self, dimensions: int, file: Path) -> None:
        """item.onnx: items (C, d), features (C, F) -> halves (C, H)."""

    def write_pairs(self, dimensions: int, items: NDArray[Any], file: Path) -> None:
        """student.onnx: query (1, d), items (C, d + H), features (C, F) -> probs (C, n). items: (2, d + H) as stored."""

    def whole_items(self, items: Floats, features: Floats) -> Floats:
        """(N, d + H): the vectors with what item.onnx adds to them, not rounded."""

    def trained(self, queries: Floats, items: Floats, features: Floats) -> Floats:
        """(N, n) probabilities as the model was trained, of (N, d) query and item vectors."""

    def served(self, rows: PairRows, queries: Floats, items: NDArray[Any], features: Floats) -> Floats:
        """(N, n) probabilities as student.onnx gives them. queries: (Q, d). items: (N, d + H), rounded or not."""


@dataclass(frozen=True)
class ServedNetwork:
    """The feed-forward network, its first layer cut in three (`pertinent.student.folding`)."""

    head: StudentHead
    temperature: float
    specs: tuple[FeatureSpec, ...]
    description: str = "a feed-forward network"

    def write_item(self, dimensions: int, file: Path) -> None:
        sample = {"items": torch.zeros(2, dimensions), "features": torch.zeros(2, len(self.specs))}
        _export_onnx(ItemHalf(self.head, self.specs).eval(), sample, "halves", file)

    def write_pairs(self, dimensions: int, items: NDArray[Any], file: Path) -> None:
        network = PairNetwork(self.head, self.specs, self.temperature).eval()
        sample = {"query": torch.zeros(1, dimensions), "items": _tensor(items)}
        _export_onnx(network, {**sample, "features": torch.zeros(2, len(self.specs))}, "probs", file)

    def whole_items(self, items: Floats, features: Floats) -> Floats:
        with torch.inference_mode():
            halves = ItemHalf(self.head, self.specs).eval()(_tensor(items), _tensor(features)).numpy()
        return np.concatenate([items, halves], axis=1)

    def trained(self, queries: Floats, items: Floats, features: Floats) -> Floats:
        with torch.inference_mode():
            logits = self.head.eval()(_tensor(queries), _tensor(items), _tensor(features))
            found: Floats = torch.softmax(logits / self.temperature, dim=1).numpy()
        return found

    def served(self, rows: PairRows, queries: Floats, items: NDArray[Any], features: Floats) -> Floats:
        network = PairNetwork(self.head, self.specs, self.temperature).eval()
        order = np.argsort(rows.query_rows, kind="stable")
        edges = np.searchsorted(rows.query_rows[order], np.arange(len(rows.queries) + 1))
        found: Floats | None = None
        for query, (start, end) in enumerate(itertools.pairwise(edges)):
            places = order[start:end]
            with torch.inference_mode():
                probs = network(
                    _tensor(queries[query : query + 1]), _tensor(items[places]), _tensor(features[places])
                ).numpy()
            if found is None:
                found = np.empty((order.size, probs.shape[1]), dtype=np.float32)
            found[places] = probs
        assert found is not None, "no pairs"
        return found


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


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
