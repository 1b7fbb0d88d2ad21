"""Trees as an ONNX graph: what the network's file has as inputs and outputs, with a tree ensemble in between.

Written here and not by a converter for one reason: LightGBM splits float64 thresholds, ONNX compares float32. A threshold
that is rounded to the nearest float32, as converters do it, sends a feature that equals it down the other branch; rounded
down, ``x <= t`` means the same for every float32 x, so that what is served is what was trained, bit for bit in its paths.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.student.dataset import PairRows
from pertinent.student.served import Floats
from pertinent.student.trees import Trees, scalars_of

_OPSETS = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True)
class ServedTrees:
    """Trees as a `pertinent.student.served.ServedModel`: item.onnx adds nothing to an item's vector."""

    trees: Trees
    temperature: float
    n_features: int
    description: str = "boosted trees (LightGBM)"

    def write_item(self, dimensions: int, file: Path) -> None:
        ends = [("first", 0), ("end", 0), ("axis", 1)]
        constants = [numpy_helper.from_array(np.array([value], dtype=np.int64), name) for name, value in ends]
        nodes = [helper.make_node("Slice", ["items", "first", "end", "axis"], ["halves"])]
        inputs = [("items", TensorProto.FLOAT, dimensions), ("features", TensorProto.FLOAT, self.n_features)]
        _write_graph(nodes, inputs, [("halves", 0)], constants, file)

    def write_pairs(self, dimensions: int, items: NDArray[Any], file: Path) -> None:
        kind = TensorProto.FLOAT16 if items.dtype == np.float16 else TensorProto.FLOAT
        constants = [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.array([self.temperature], dtype=np.float32), "temperature"),
        ]
        ensemble = ensemble_attributes(self.trees)
        nodes = [
            helper.make_node("Cast", ["query"], ["wide_query"], to=TensorProto.DOUBLE),
            helper.make_node("Cast", ["items"], ["wide_items"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["wide_query", "wide_items"], ["products"]),
            helper.make_node("ReduceSum", ["products", "one"], ["wide_cosine"], keepdims=1),
            helper.make_node("Cast", ["wide_cosine"], ["cosine"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["features", "cosine"], ["scalars"], axis=1),
            helper.make_node("TreeEnsembleRegressor", ["scalars"], ["raw"], domain="ai.onnx.ml", **ensemble),
            helper.make_node("Div", ["raw", "temperature"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
        ]
        inputs = [
            ("query", TensorProto.FLOAT, dimensions),
            ("items", kind, dimensions),
            ("features", TensorProto.FLOAT, self.n_features),
        ]
        _write_graph(nodes, inputs, [("probs", self.trees.base.size)], constants, file)

    def whole_items(self, items: Floats, features: Floats) -> Floats:
        return items

    def trained(self, queries: Floats, items: Floats, features: Floats) -> Floats:
        logits = self.trees.logits(scalars_of(queries, items, features))
        return TemperatureScaling(self.temperature).probabilities(logits).astype(np.float32)

    def served(self, rows: PairRows, queries: Floats, items: NDArray[Any], features: Floats) -> Floats:
        return self.trained(queries[rows.query_rows], items.astype(np.float32), features)


def _write_graph(
    nodes: list[Any],
    inputs: list[tuple[str, int, int]],
    outputs: list[tuple[str, int]],
    constants: list[Any],
    file: Path,
) -> None:
    """inputs: name, element type, width. outputs: name, width. All but the query have a row a candidate."""
    told = [
        helper.make_tensor_value_info(name, kind, [1 if name == "query" else "candidates", width])
        for name, kind, width in inputs
    ]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["candidates", width]) for name, width in outputs]
    graph = helper.make_graph(nodes, "trees", told, gives, constants)
    opsets = [helper.make_opsetid(domain, number) for domain, number in _OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())


def ensemble_attributes(trees: Trees) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor: tree i of a round is grade i's, a leaf adds its value to that grade."""
    n_grades = trees.base.size
    found: dict[str, list[Any]] = defaultdict(list)
    dumped = trees.booster.dump_model(num_iteration=trees.rounds)["tree_info"]
    for number, tree in enumerate(dumped):
        waiting = [(0, tree["tree_structure"])]
        n_nodes = 1
        while waiting:
            place, node = waiting.pop()
            leaf = "split_feature" not in node
            children = (0, 0) if leaf else (n_nodes, n_nodes + 1)
            if leaf:
                found["target_treeids"].append(number)
                found["target_nodeids"].append(place)
                found["target_ids"].append(number % n_grades)
                found["target_weights"].append(float(node["leaf_value"]))
            else:
                assert node["decision_type"] == "<=", "the features are numbers"
                waiting += [(children[0], node["left_child"]), (children[1], node["right_child"])]
                n_nodes += 2
            found["nodes_treeids"].append(number)
            found["nodes_nodeids"].append(place)
            found["nodes_featureids"].append(0 if leaf else int(node["split_feature"]))
            found["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            found["nodes_values"].append(0.0 if leaf else float(rounded_down(float(node["threshold"]))))
            found["nodes_truenodeids"].append(children[0])
            found["nodes_falsenodeids"].append(children[1])
    return {**found, "n_targets": n_grades, "base_values": trees.base.tolist(), "aggregate_function": "SUM"}


def rounded_down(threshold: float) -> np.float32:
    """The largest float32 that is not above ``threshold``."""
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
