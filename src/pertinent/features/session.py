"""An ONNX graph opened for serving: on one thread, without spinning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from pertinent.errors import ModelError


def open_session(file: Path) -> Any:
    """An onnxruntime session on one thread. Raises ModelError for a damaged file."""
    # One thread, no spinning: onnxruntime would size its pools to the host and burn a core between requests.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own for a damaged file
        raise ModelError(f"{file}: cannot be opened: {str(error).splitlines()[0]}") from None
