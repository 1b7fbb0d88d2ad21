"""A teacher as files: write, open, check.

config.json, model.safetensors     the whole network in float32, a Hugging Face model with id2label L1..Ln; adapters,
                                   where it was tuned with them, are merged in
adapter/                           the adapters and the head alone, as peft writes them
tokenizer.json, tokenizer_config.json
token_vectors.npy                  the word vectors on their principal axes, which a student begins with
teacher.json                       template, token budgets, calibration, arithmetic, and a probe batch with its logits
onnx/                              the network for the ONNX engines, made when first asked for, with the hash of what it
                                   was made of
README.md                          model card
member-K/                          the same, of each model of an ensemble; teacher.json then names the members, and
                                   README.md is the card of them together
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from pertinent.errors import ConfigError, ModelError
from pertinent.features.encoder import STATIC_FILES, TOKEN_VECTORS
from pertinent.files import atomic_path, link_or_copy, read_json, sha256_of_file, sha256_of_json, write_json
from pertinent.teacher.adapters import merged
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import EngineName, LogitsEngine, OnnxEngine, TorchEngine, export_onnx
from pertinent.teacher.model import Member, Teacher, score_rows
from pertinent.teacher.pairs import PairEncoder, load_tokenizer
from pertinent.teacher.precision import scoring_tokens, wants_bfloat16
from pertinent.teacher.vocabulary import static_vectors

FORMAT = 2
SETTINGS = "teacher.json"
_PROBE = (("red sofa", "title: Red velvet sofa"), ("диван", "title: Oak table | brand: Ikea"), ("", ""))
_NEEDED = (
    "weights",
    "calibration",
    "probe_logits",
    "pad_id",
    "template",
    "max_tokens",
    "max_query_tokens",
    "precision",
)
_SEGMENTED_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]  # transformers' tokenizer gives two by default
_PROBE_TOLERANCE = 1e-3  # in logits: float32 on another processor differs by about 1e-5, a lost head by 0.1


@dataclass(frozen=True)
class Trained:
    """What training leaves of one network. backbone: which weights it began with. precision: as in TeacherConfig."""

    network: CrossEncoder
    adapters: PeftModel | None
    pairs: PairEncoder
    tokenizer_file: Path
    pad_id: int
    calibration: Calibration
    precision: str
    batch_tokens: int | None
    backbone: str
    template: str | None  # of a decoder


def save_teacher(trained: Trained, folder: Path, card: str) -> CrossEncoder:
    """Write a teacher folder (model card: ``card``, Markdown); returns the plain float32 network that was saved."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in ("adapter", "onnx"):  # of a teacher that was here before
        shutil.rmtree(folder / form, ignore_errors=True)
    plain: CrossEncoder = trained.network
    if trained.adapters is not None:
        trained.adapters.save_pretrained(str(folder / "adapter"))
        plain = merged(trained.network)
    plain.to("cpu").eval()
    plain.save_pretrained(folder)
    shutil.copyfile(trained.tokenizer_file, folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", _tokenizer_config(trained))
    (folder / "README.md").write_text(card, encoding="utf-8")
    np.save(folder / TOKEN_VECTORS, static_vectors(plain.encoder), allow_pickle=False)
    probe_logits = _probe_logits(TorchEngine(plain, bfloat16=False), trained.pairs, trained.pad_id)
    settings = {
        "format": FORMAT,
        "package_version": importlib.metadata.version("pertinent"),
        "backbone": trained.backbone,
        "template": trained.template,
        "max_tokens": trained.pairs.max_tokens,
        "max_query_tokens": trained.pairs.max_query_tokens,
        "pad_id": trained.pad_id,
        "precision": trained.precision,
        "batch_tokens": trained.batch_tokens,
        "calibration": trained.calibration.to_dict(),
        "weights": weights_hash(plain),
        "probe_logits": probe_logits.tolist(),
    }
    write_json(folder / SETTINGS, settings)  # last: a folder without it is not a teacher
    return plain


def recalibrate(folder: Path, calibration: Calibration, card: str) -> None:
    """Give a teacher folder another calibration, and the model card that tells of it."""
    settings = read_json(folder / SETTINGS)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_json(folder / SETTINGS, {**settings, "calibration": calibration.to_dict()})


def combine_teachers(teachers: Sequence[Path], out: Path) -> str:
    """Make one teacher of several trained apart, of whatever backbones, in ``out``; returns its teacher_id.

    Its probabilities are the mean of theirs. Their files are linked, or copied to another file system, and opened there.
    Raises ModelError when one cannot be opened, is an ensemble itself or is on another scale, ConfigError when ``out`` is
    there and not empty, or fewer than two are given.
    """
    if len(teachers) < 2:
        raise ConfigError(f"teacher combine: expected two teachers or more, found {len(teachers)}")
    if out.exists() and next(out.iterdir(), None) is not None:
        raise ConfigError(f"{out}: expected a folder that is empty or not there yet, found one with files")
    for folder in teachers:
        if "members" in _settings(folder):
            raise ModelError(f"{folder}: expected a teacher of one model, found an ensemble; name its members")
        if not (folder / TOKEN_VECTORS).is_file():
            raise ModelError(f"{folder}: expected a teacher folder with {TOKEN_VECTORS}, found none")
    with atomic_path(out) as temporary:
        names = [f"member-{k}" for k in range(len(teachers))]
        for name, folder in zip(names, teachers, strict=True):
            ignored = shutil.ignore_patterns("onnx", "manifest.json")
            shutil.copytree(folder, temporary / name, ignore=ignored, copy_function=link_or_copy)
        save_ensemble(names, temporary)
        origins = [f"- {name}: {_settings(folder)['backbone']}" for name, folder in zip(names, teachers, strict=True)]
        card = [
            "# Relevance teacher of several models",
            "",
            "The mean of the calibrated probabilities of:",
            "",
            *origins,
        ]
        (temporary / "README.md").write_text("\n".join(card) + "\n", encoding="utf-8")
        return load_teacher(temporary, device="cpu").teacher_id


def save_ensemble(members: list[str], folder: Path) -> None:
    """Make ``folder``, which holds the teacher folders named, one teacher whose probabilities are their mean.

    What a student begins with is the first one's: its tokenizer and its token vectors.
    """
    settings = {name: read_json(folder / name / SETTINGS) for name in members}
    for shared in STATIC_FILES:
        shutil.copyfile(folder / members[0] / shared, folder / shared)
    backbones = list(dict.fromkeys(str(settings[name]["backbone"]) for name in members))
    write_json(folder / SETTINGS, {"format": FORMAT, "members": members, "backbone": "; ".join(backbones)})


def load_teacher(folder: Path, *, engine: EngineName = "torch", device: str | None = None) -> Teacher:
    """Open a teacher folder, check its weights' hash and replay its probe batch.

    engine: torch, as it is or compiled, on ``device`` (default: the accelerator if there is one, else the CPU), or ONNX
    on the CPU.
    Raises ModelError when a file is missing, the format is another version's, the head was not saved, weights are not
    the saved ones, or the probe's logits are not the stored ones to 1e-3.
    """
    settings = _settings(folder)
    names = settings.get("members")
    folders = [folder] if names is None else [folder / name for name in names]
    members = tuple(_load_member(part, engine, device) for part in folders)
    sizes = {member.n_grades for member in members}
    if len(sizes) != 1:
        raise ModelError(f"{folder / SETTINGS}: expected members on one scale, found {sorted(sizes)} grades")
    return Teacher(tuple(loaded.member for loaded in members), sizes.pop(), teacher_id_of(folder))


def teacher_id_of(folder: Path) -> str:
    """The teacher_id of a teacher folder that is not opened. Raises ModelError where it is none."""
    settings = _settings(folder)
    folders = [folder / name for name in settings["members"]] if "members" in settings else [folder]
    return sha256_of_json([[part["weights"], part["calibration"]] for part in map(_whole_settings, folders)])[:16]


def load_network(folder: Path) -> CrossEncoder:
    """The float32 network of a teacher folder that is no ensemble, on the CPU. Raises ModelError if it is not whole."""
    file = folder / "model.safetensors"
    if not file.is_file() and not (folder / "model.safetensors.index.json").is_file():
        raise ModelError(f"{folder}: expected a model folder with model.safetensors, found none")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: expected a model folder with config.json, found none")
    logging.disable_progress_bar()
    try:
        if file.is_file():
            _check_head(file)
        network, report = CrossEncoder.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot load the network: {str(error).splitlines()[0]}") from None
    absent = sorted(report["missing_keys"])
    if absent:
        raise ModelError(f"{folder}: {len(absent)} weights are missing, such as {absent[0]}")
    return network.float().eval()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Loaded:
    member: Member
    n_grades: int


def _load_member(folder: Path, engine: EngineName, device: str | None) -> _Loaded:
    settings = _whole_settings(folder)
    network = load_network(folder)
    if (weights := weights_hash(network)) != settings["weights"]:
        expected_weights = str(settings["weights"])[:12]
        raise ModelError(f"{folder}: expected the saved weights, {expected_weights}, found others, {weights[:12]}")
    n_grades = network.config.n_grades
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    budgets = (settings["max_tokens"], settings["max_query_tokens"])
    if settings["template"] is None:
        pairs = PairEncoder.of_encoder(tokenizer, *budgets, segments=network.config.segments)
    else:
        pairs = PairEncoder.of_decoder(tokenizer, settings["template"], *budgets)
    try:
        calibration = Calibration.from_dict(settings["calibration"], n_grades)
    except ModelError as error:
        raise ModelError(f"{folder / SETTINGS}: {error}") from None
    pad_id = int(settings["pad_id"])
    expected = np.asarray(settings["probe_logits"])
    _check_probe(folder, _probe_logits(TorchEngine(network, bfloat16=False), pairs, pad_id), expected)
    runner = _engine(engine, network, folder, settings, device)
    if engine == "onnx":  # 8-bit integers give other logits
        _check_probe(folder / "onnx", _probe_logits(runner, pairs, pad_id), expected)
    runs_on = next(runner.network.parameters()).device.type if isinstance(runner, TorchEngine) else "cpu"
    batch_tokens = scoring_tokens(settings.get("batch_tokens"), runs_on)
    member = Member(runner, pairs, calibration, pad_id, batch_tokens)
    return _Loaded(member, n_grades)


def _check_probe(folder: Path, found: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    drift = np.abs(found - expected).max()
    if not drift < _PROBE_TOLERANCE:
        raise ModelError(
            f"{folder}: the stored probe's logits are not reproduced: expected a drift under {_PROBE_TOLERANCE:g}, "
            f"found {drift:.2g}"
        )


def _engine(
    name: EngineName, network: CrossEncoder, folder: Path, settings: Mapping[str, Any], device: str | None
) -> LogitsEngine:
    if name in ("torch", "torch_compile"):
        found = device or ("cuda" if torch.cuda.is_available() else "cpu")
        half = wants_bfloat16(str(settings["precision"]), found)
        return TorchEngine.owning(network, bfloat16=half, device=found, compiled=name == "torch_compile")
    file = folder / "onnx" / ("model.onnx" if name == "onnx" else "model_int8.onnx")
    origin = file.with_suffix(".json")  # of which weights the file was made, and its own hash: an int8 one has no probe
    if not file.is_file() or not origin.is_file():
        export_onnx(network, file, int8=name == "onnx_int8")
        write_json(origin, {"weights": settings["weights"], "sha256": sha256_of_file(file)})
    if read_json(origin) != {"weights": settings["weights"], "sha256": sha256_of_file(file)}:
        raise ModelError(f"{file}: expected the export of this teacher's weights, found another file; remove it")
    return OnnxEngine(file)


def _whole_settings(folder: Path) -> dict[str, Any]:
    """Those of a teacher of one model."""
    settings = _settings(folder)
    absent = [name for name in _NEEDED if name not in settings]
    if absent:
        raise ModelError(f"{folder / SETTINGS}: expected {', '.join(_NEEDED)}, found no {absent[0]}")
    return settings


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / SETTINGS).is_file():
        raise ModelError(f"{folder}: expected a teacher folder with {SETTINGS}, found none")
    settings: dict[str, Any] = read_json(folder / SETTINGS)
    if settings.get("format") != FORMAT:
        raise ModelError(
            f"{folder / SETTINGS}: expected format {FORMAT}, found {settings.get('format')}; train the teacher again"
        )
    return settings


def _check_head(file: Path) -> None:
    # transformers fills absent weights with random ones and only warns: a lost head must not pass for a trained one.
    with safe_open(file, framework="pt") as stored:
        if not any(name.startswith("head.") for name in stored.keys()):  # noqa: SIM118  not a dict
            raise ModelError(f"{file}: the trained head is missing")


def _tokenizer_config(trained: Trained) -> dict[str, Any]:
    tokenizer = trained.pairs.tokenizer
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": trained.pairs.max_tokens,
        "pad_token": tokenizer.id_to_token(trained.pad_id),
        "padding_side": "right",
        **({} if trained.pairs.segments is None else {"model_input_names": _SEGMENTED_INPUTS}),
    }


def _probe_logits(engine: LogitsEngine, pairs: PairEncoder, pad_id: int) -> NDArray[np.float32]:
    queries, texts = zip(*_PROBE, strict=True)
    rows = pairs.encode(queries, texts).rows
    rows = [row or [pad_id] for row in rows]  # a tokenizer without special tokens gives nothing for empty texts
    return score_rows(engine, rows, pad_id, batch_tokens=4096)


def weights_hash(network: CrossEncoder) -> str:
    """SHA-256 of the names and values of all weights, as hex digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).data)
    return digest.hexdigest()
