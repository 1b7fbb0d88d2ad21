from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from pertinent.errors import ModelError
from pertinent.teacher.engines import OnnxEngine, TorchEngine, export_onnx
from pertinent.teacher.saving import Trained, load_teacher, save_teacher

ENCODERS = ["bert", "xlm-roberta", "deberta-v2", "modernbert", "t5"]


def random_rows(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 120, size=length).tolist() for length in lengths]


def rank_agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_scoring_leaves_the_network_in_the_mode_it_was_in(untrained: Callable[..., Trained]) -> None:
    network = untrained(dropout=0.5).network
    for training in (True, False):
        TorchEngine(network.train(training), bfloat16=False).logits([[2, 5, 3]], 0)
        assert network.training is training
        assert network.encoder.training is training


def test_dropout_is_off_while_scoring(untrained: Callable[..., Trained]) -> None:
    engine = TorchEngine(untrained(dropout=0.5).network.train(), bfloat16=False)
    assert (engine.logits([[2, 5, 3]], 0) == engine.logits([[2, 5, 3]], 0)).all()


def test_half_precision_gives_close_logits_of_float32(untrained: Callable[..., Trained]) -> None:
    network, rows = untrained().network, random_rows([5, 9, 30])
    found = TorchEngine(network, bfloat16=True).logits(rows, 0)
    expected = TorchEngine(network, bfloat16=False).logits(rows, 0)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.05


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert"])
def test_encoders_held_whole_in_half_precision_give_close_logits(untrained: Callable[..., Trained], kind: str) -> None:
    network, rows = untrained(kind).network, random_rows([5, 9, 30, 30, 12, 7])
    expected = TorchEngine(network, bfloat16=False).logits(rows, 0)
    found = TorchEngine.owning(network, bfloat16=True).logits(rows, 0)
    assert found.dtype == np.float32
    assert {value.dtype for value in network.encoder.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in network.encoder.buffers() if value.is_floating_point()} <= {torch.float32}
    assert next(network.head.parameters()).dtype == torch.float32
    assert 0 < np.abs(found - expected).mean() < 0.04  # the logits themselves are about 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what it deprecates itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_compiled_network_gives_its_logits_at_any_length_and_batch_size(
    untrained: Callable[..., Trained], tmp_path: Path, kind: str
) -> None:
    save_teacher(untrained(kind), tmp_path, "")
    compiled, plain = (load_teacher(tmp_path, engine=name).members[0] for name in ("torch_compile", "torch"))
    assert isinstance(compiled.engine, TorchEngine)
    assert compiled.engine.network.encoder._compiled_call_impl is not None
    for lengths in ([3, 8, 48], [17] * 5, [100, 64]):
        rows = random_rows(lengths)
        found, expected = (member.engine.logits(rows, member.pad_id) for member in (compiled, plain))
        assert found == pytest.approx(expected, abs=1e-4), lengths


@pytest.mark.parametrize("kind", ENCODERS)
def test_onnx_gives_torchs_logits_at_any_length_and_batch_size(
    untrained: Callable[..., Trained], tmp_path: Path, kind: str
) -> None:
    made = untrained(kind)
    export_onnx(made.network, tmp_path / "onnx" / "model.onnx", int8=False)
    onnx.checker.check_model(tmp_path / "onnx" / "model.onnx")
    engine, torch_engine = OnnxEngine(tmp_path / "onnx" / "model.onnx"), TorchEngine(made.network, bfloat16=False)
    for lengths in ([1], [3, 8, 48], [17] * 5, [100, 64, 2]):
        rows = random_rows(lengths)
        found, expected = engine.logits(rows, made.pad_id), torch_engine.logits(rows, made.pad_id)
        assert found.dtype == np.float32
        assert found == pytest.approx(expected, abs=1e-4), lengths


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_int8_ranks_pairs_as_float32_does(untrained: Callable[..., Trained], tmp_path: Path, kind: str) -> None:
    """Eight bits a value: 3 % of the logits' spread on average, and the same order but for near ties."""
    made = untrained(kind)
    export_onnx(made.network, tmp_path / "whole.onnx", int8=False)
    export_onnx(made.network, tmp_path / "small.onnx", int8=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "whole.onnx"]
    kinds = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= kinds
    rows = random_rows(np.random.default_rng(1).integers(3, 60, size=200).tolist())
    found, expected = (OnnxEngine(tmp_path / name).logits(rows, made.pad_id) for name in ("small.onnx", "whole.onnx"))
    drift = np.abs(found - expected)
    assert 1e-5 < drift.mean() < 0.03 * np.ptp(expected)
    for column in range(3):
        assert rank_agreement(found[:, column], expected[:, column]) > 0.97


def test_exporting_leaves_the_network_as_it_was(untrained: Callable[..., Trained], tmp_path: Path) -> None:
    network = untrained().network
    attention = network.encoder.config._attn_implementation
    before = TorchEngine(network, bfloat16=False).logits([[2, 5, 3]], 0)
    export_onnx(network, tmp_path / "model.onnx", int8=False)
    assert network.encoder.config._attn_implementation == attention
    assert (TorchEngine(network, bfloat16=False).logits([[2, 5, 3]], 0) == before).all()


@pytest.mark.parametrize("engine", ["onnx", "onnx_int8"])
def test_a_decoder_has_no_onnx_form(untrained: Callable[..., Trained], tmp_path: Path, engine: str) -> None:
    save_teacher(untrained("llama"), tmp_path, "")
    message = "onnx: expected an encoder, found the decoder llama; score it with the torch engine"
    with pytest.raises(ModelError, match=message):
        load_teacher(tmp_path, engine=engine)
    assert not list((tmp_path / "onnx").glob("*"))


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"model\.onnx: cannot be opened"):
        OnnxEngine(tmp_path / "model.onnx")


def test_an_export_that_fails_leaves_no_file(
    untrained: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(RuntimeError, match="no room"):
        export_onnx(untrained().network, tmp_path / "model.onnx", int8=False)
    assert not list(tmp_path.iterdir())
