"""Export a transformer as the graph that `pertinent.features.sentence` runs: pooling inside, 8-bit weights."""

from __future__ import annotations

import inspect
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pertinent.errors import ModelError
from pertinent.features.sentence import ABOUT, GRAPH, TOKENIZER
from pertinent.files import atomic_path, read_json, write_json

_OPSET = 17
Pooling = Literal["mean", "first", "last"]


class Pooled(nn.Module):
    """input_ids (1, T) int64 -> vector (1, width) float32 of length 1."""

    def __init__(self, encoder: Any, pooling: Pooling) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling

    def forward(self, input_ids: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).last_hidden_state
        found = {"mean": states.mean(1), "first": states[:, 0], "last": states[:, -1]}[self.pooling]
        return nn.functional.normalize(found, dim=1)


def load_encoder(folder: Path) -> Any:
    """The transformer of a folder made by `pertinent.teacher.unpack.write_encoder`, in eval mode, float32."""
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder)
        poolable = "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
        options = {"add_pooling_layer": False} if poolable else {}  # ours is in the graph
        return AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, **options).eval()
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: cannot load an encoder: {str(error).splitlines()[0]}") from None


def export_graph(encoder: Any, folder: Path, out: Path) -> None:
    """Write out/encoder.onnx, encoder.json and tokenizer.json; what lies in ``folder`` is its tokenizer and rule.

    encoder: of `load_encoder`, perhaps trained since. Weights of matrices and of the token table are 8-bit integers.
    """
    about = read_json(folder / ABOUT)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / TOKENIZER, out / TOKENIZER)
    encoder.set_attn_implementation("eager")
    with atomic_path(out / GRAPH) as temporary:
        whole = temporary.with_name("whole.onnx")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated, but needs no onnxscript
                torch.onnx.export(
                    Pooled(encoder, about["pooling"]).eval(),
                    (torch.ones(1, 8, dtype=torch.int64),),
                    str(whole),
                    dynamo=False,
                    opset_version=_OPSET,
                    input_names=["input_ids"],
                    output_names=["vector"],
                    dynamic_axes={"input_ids": {1: "tokens"}},
                )
            _quantise(whole, temporary)
        finally:
            whole.unlink(missing_ok=True)
    write_json(out / ABOUT, {**about, "width": int(encoder.config.hidden_size)})


def _quantise(whole: Path, file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    root.addFilter(_no_preprocessing_hint)
    try:
        quantize_dynamic(
            whole, file, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gather"]
        )
    finally:
        root.removeFilter(_no_preprocessing_hint)


def _no_preprocessing_hint(record: logging.LogRecord) -> bool:
    # onnxruntime advises a pre-processing step that changes nothing for a graph without shape inference.
    return "pre-processing" not in record.getMessage()
