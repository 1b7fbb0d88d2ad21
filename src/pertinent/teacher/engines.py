"""How a trained network is run: torch as it is or compiled, or ONNX on a CPU in float32 or 8-bit integers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pertinent.errors import ModelError
from pertinent.files import atomic_path
from pertinent.teacher.attention import use_short_attention
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.pairs import batch_inputs
from pertinent.teacher.precision import hold_in_half

EngineName = Literal["torch", "torch_compile", "onnx", "onnx_int8"]
_OPSET = 17


class LogitsEngine(Protocol):
    """Runs a network on one batch."""

    def logits(self, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float32]:
        """Logits (B, n or n - 1) float32 of B rows of token ids."""


class TorchEngine:
    """A network in torch, on its own device. bfloat16: multiply in half precision where it is fast."""

    def __init__(self, network: CrossEncoder, *, bfloat16: bool) -> None:
        self.network = network
        self._bfloat16 = bfloat16

    @classmethod
    def owning(
        cls, network: CrossEncoder, *, bfloat16: bool, device: str = "cpu", compiled: bool = False
    ) -> TorchEngine:
        """Move a network to ``device`` for scoring alone: with bfloat16 its weights are changed, the head's never.

        compiled: by torch.compile, for any batch shape; the first batches wait for it, and a CPU needs a C++ compiler.

        An encoder on a CPU becomes bfloat16 as a whole, which saves every cast, and runs ``attention.short_attention``
        where it can; anything else holds its linear layers so, and multiplies by autocast.
        """
        autocast = bfloat16
        if bfloat16 and device == "cpu" and use_short_attention(network.encoder):
            for parameter in network.encoder.parameters():  # not its buffers: rotary frequencies would lose digits
                parameter.data = parameter.data.to(torch.bfloat16)
            autocast = False
        elif bfloat16:
            hold_in_half(network.encoder)
        if compiled:
            network.encoder.compile(dynamic=True)
        return cls(network.to(device), bfloat16=autocast)

    def logits(self, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float32]:
        """Logits (B, n or n - 1) float32."""
        device = next(self.network.parameters()).device
        training = self.network.training
        self.network.eval()
        inputs = batch_inputs(rows, pad_id, segments=self.network.config.segments)
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            on_device = {name: values.to(device) for name, values in inputs.items()}
            found: NDArray[np.float32] = self.network(**on_device).logits.float().cpu().numpy()
        self.network.train(training)
        return found


class OnnxEngine:
    """A network in onnxruntime on the CPU."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises kinds of its own for a damaged file
            raise ModelError(f"{file}: cannot be opened: {str(error).splitlines()[0]}") from None
        self._segments = "token_type_ids" in {read.name for read in self._session.get_inputs()}

    def logits(self, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float32]:
        """Logits (B, n or n - 1) float32."""
        inputs = batch_inputs(rows, pad_id, segments=self._segments)
        found: NDArray[np.float32] = self._session.run(
            ["logits"], {name: values.numpy() for name, values in inputs.items()}
        )[0]
        return found


def export_onnx(network: CrossEncoder, file: Path, *, int8: bool) -> None:
    """Write the network as ONNX, whole or not at all.

    int8: linear layers in 8-bit integers, weights a channel at a time, activations scaled over the batch as they come, so
    that a score depends a little on what else was in the batch. Raises
    ModelError for a decoder, whose positions the exporter would freeze.
    """
    from pertinent.teacher.backbones import architecture_of

    kind = network.config.encoder.model_type
    if architecture_of(kind) == "decoder":
        raise ModelError(f"onnx: expected an encoder, found the decoder {kind}; score it with the torch engine")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        _export_float(network, temporary)
        if int8:
            _quantise(temporary)


class _LogitsAlone(nn.Module):
    def __init__(self, network: CrossEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        logits: Tensor = self.network(input_ids, attention_mask, token_type_ids=token_type_ids).logits
        return logits


def _export_float(network: CrossEncoder, file: Path) -> None:
    attention = network.encoder.config._attn_implementation
    network.encoder.set_attn_implementation("eager")
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if network.config.segments else [])]
    dynamic = {name: {0: "pairs", 1: "tokens"} for name in names}
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but needs no onnxscript and keeps the graph as written.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogitsAlone(network).eval(),
            tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names),
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**dynamic, "logits": {0: "pairs"}},
        )
    network.encoder.set_attn_implementation(attention)


def _quantise(file: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_no_preprocessing_hint)
    quantised = file.with_name(f"{file.name}.int8")
    try:
        quantize_dynamic(
            file, quantised, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"]
        )
        os.replace(quantised, file)
    finally:
        quantised.unlink(missing_ok=True)
        logging.getLogger().removeFilter(_no_preprocessing_hint)


def _no_preprocessing_hint(record: Any) -> bool:
    # onnxruntime advises a pre-processing step that changes nothing for a graph without shape inference.
    return "pre-processing" not in record.getMessage()
