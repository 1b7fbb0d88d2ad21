"""What is served, as files: write, verify, open, score. NumPy, tokenizers and onnxruntime; no torch, no pickle."""

from pertinent.bundle.format import bundle_folder
from pertinent.bundle.scorer import Scorer, open_bundle

__all__ = ["Scorer", "bundle_folder", "open_bundle"]
