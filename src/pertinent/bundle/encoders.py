"""The encoder of texts in a bundle, by kind: token vectors, or a sentence encoder's graph and projection."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pertinent.bundle.arrays import read_array
from pertinent.errors import ModelError
from pertinent.features.encoder import TOKEN_VECTORS, Encoder, StaticEncoder
from pertinent.features.sentence import ABOUT, GRAPH, TOKENIZER, SentenceEncoder, SentenceGraph

STATIC, SENTENCE = "static", "sentence"
_FOLDER, _PROJECTION = "encoder", "projection.npy"
# The files of each kind, beside the tokenizer.json that every bundle has.
ENCODER_FILES = {
    STATIC: (TOKEN_VECTORS,),
    SENTENCE: tuple(f"{_FOLDER}/{name}" for name in (GRAPH, ABOUT, TOKENIZER, _PROJECTION)),
}


def write_encoder(folder: Path, encoder: Encoder) -> str:
    """Write the encoder's files; returns its kind."""
    if isinstance(encoder, StaticEncoder):
        np.save(folder / TOKEN_VECTORS, encoder.vectors, allow_pickle=False)
        return STATIC
    assert isinstance(encoder, SentenceEncoder)
    (folder / _FOLDER).mkdir(exist_ok=True)
    for name in (GRAPH, ABOUT, TOKENIZER):
        shutil.copyfile(encoder.graph.folder / name, folder / _FOLDER / name)
    np.save(folder / _FOLDER / _PROJECTION, encoder.projection, allow_pickle=False)
    return SENTENCE


def read_encoder(folder: Path, kind: str) -> Encoder:
    """Open the encoder of a bundle. Raises ModelError for a damaged graph."""
    if kind == STATIC:
        return StaticEncoder(Tokenizer.from_file(str(folder / "tokenizer.json")), read_array(folder / TOKEN_VECTORS))
    projection = read_array(folder / _FOLDER / _PROJECTION)
    return SentenceEncoder(SentenceGraph.open(folder / _FOLDER), np.ascontiguousarray(projection))


def known_kind(kind: object, source: Path) -> str:
    """``kind`` where this version knows it. Raises ModelError else."""
    if kind not in ENCODER_FILES:
        raise ModelError(f"{source}: expected an encoder of kind {', '.join(ENCODER_FILES)}, found {kind}")
    return str(kind)
