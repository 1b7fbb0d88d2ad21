"""The teacher stage: human judgments -> a calibrated teacher folder, or an ensemble of several."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import PreTrainedConfig

from pertinent.data.build import load_dataset
from pertinent.errors import ConfigError, ModelError
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.files import read_json, write_json
from pertinent.progress import progress, say
from pertinent.teacher.adapters import with_adapters
from pertinent.teacher.backbones import Architecture, Backbone, architecture_of, load_backbone
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.card import calibration_report, model_card
from pertinent.teacher.checkpoints import CHECKPOINTS, NotANumberError, last_checkpoint_kept, stopped_folder
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder, CrossEncoderConfig
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.ensemble import describe_ensemble
from pertinent.teacher.model import score_rows
from pertinent.teacher.pairs import PairEncoder, load_tokenizer, marks_segments
from pertinent.teacher.precision import scoring_tokens, wants_bfloat16
from pertinent.teacher.rows import TrainingRows, dev_judgments, training_judgments, training_rows
from pertinent.teacher.saving import Trained, load_teacher, recalibrate, save_ensemble, save_teacher
from pertinent.teacher.trackers import require_trackers
from pertinent.teacher.trainer import HISTORY, train_network
from pertinent.teacher.vocabulary import CompactVocabulary, position_padding
from pertinent.text.item_texts import ItemTexts
from pertinent.types import StageResult

SUMMARY = "summary.json"
_JUDGED = ("dev_loss", "dev_auroc")


def train_teacher(
    config: TeacherConfig, data: Path, text: Path, out: Path, *, backbone: Backbone, seed: int
) -> StageResult:
    """Train on the human judgments of the train split and calibrate on dev; write a teacher folder.

    data, text: folders of those stages. out: an existing folder; checkpoints of an interrupted run with the same
    configuration in out/checkpoints are continued, and removed at the end. With ``config.members`` above 1, each
    member is trained in out/member-K with seed + K, and a finished one found there is kept; the counts are then those
    of `ensemble.describe_ensemble`.
    Also writes, in each member's folder, history.json:
    [{"step", "epoch", "loss", "dev_loss", "dev_auroc"}]. Raises ModelError where the loss is not a number: with the rows of
    the batch, what to change, and the path of the last good checkpoint, which is kept beside ``out``.
    """
    require_trackers(config.trackers)
    PartialState(cpu=not torch.cuda.is_available())  # each of several processes must know its own device from now on
    if config.members == 1:
        with last_checkpoint_kept(out, stopped_folder(out)):
            return StageResult(_train_member(config, data, text, out, backbone, seed, rows_seed=seed))
    names = [f"member-{k}" for k in range(config.members)]
    members = []
    for k, name in enumerate(names):
        (out / name).mkdir(exist_ok=True)
        say(f"teacher: member {k + 1} of {config.members}")
        with last_checkpoint_kept(out / name, stopped_folder(out) / name):
            members.append(_train_member(config, data, text, out / name, backbone, seed + k, rows_seed=seed))
    if not PartialState().is_main_process:
        return StageResult({})
    save_ensemble(names, out)
    seeds = [seed + k for k in range(config.members)]
    return StageResult(describe_ensemble(out, config, data, text, dict(zip(seeds, members, strict=True))))


@dataclass
class PreparedNetwork:
    """A network that is ready to be trained: adapters put on it where it is tuned with them."""

    network: CrossEncoder
    adapters: PeftModel | None
    architecture: Architecture
    tokenizer: Tokenizer
    pairs: PairEncoder
    pad_id: int


def new_network(backbone: Backbone, config: TeacherConfig, n_grades: int, seed: int) -> CrossEncoder:
    """The pretrained language model with a freshly drawn head; no adapters yet."""
    torch.manual_seed(seed)
    device = _device()
    # Adapters leave the base as it is: a large one is held in half precision where it multiplies in it.
    half = config.tuning == "lora" and device == "cuda" and wants_bfloat16(config.precision, device)
    encoder = load_backbone(backbone, four_bit=config.tuning == "qlora", half=half, dropout=config.dropout)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    encoder.config.use_cache = False
    pooling = config.pooling or ("last" if architecture_of(encoder.config.model_type) == "decoder" else "mean")
    segments = reads_segments(encoder.config, backbone.tokenizer_file)
    made = CrossEncoderConfig.of(encoder.config, pooling, config.head, n_grades, segments=segments)
    return CrossEncoder(made, encoder)


def reads_segments(encoder: PreTrainedConfig, tokenizer_file: Path) -> bool:
    """Whether a language model was pretrained to tell the two texts of a pair apart by their type ids.

    It was if it has vectors for two types or more and its tokenizer's own template marks the second text: BERT and its
    kin. XLM-R's template marks none, nor does that of multilingual-e5-small, a BERT that was pretrained with zeros.
    """
    return (getattr(encoder, "type_vocab_size", None) or 0) >= 2 and marks_segments(load_tokenizer(tokenizer_file))


def prepare_network(backbone: Backbone, config: TeacherConfig, n_grades: int, seed: int) -> PreparedNetwork:
    """Load the language model, draw the head, put adapters on, and settle how pairs are written for it.

    Raises ConfigError when max_tokens is beyond the model's positions or it has no padding token and none is told.
    """
    network = new_network(backbone, config, n_grades, seed)
    tokenizer = load_tokenizer(backbone.tokenizer_file)
    architecture = architecture_of(network.config.encoder.model_type)
    budgets = (config.max_tokens, config.max_query_tokens)
    if architecture == "decoder":
        pairs = PairEncoder.of_decoder(tokenizer, config.template, *budgets)
    else:
        pairs = PairEncoder.of_encoder(tokenizer, *budgets, segments=network.config.segments)
    positions = getattr(network.config.encoder, "max_position_embeddings", None)
    if positions is not None and (padding := position_padding(network.encoder)) is not None:
        positions -= padding + 1
    if positions is not None and config.max_tokens > positions:
        raise ConfigError(f"teacher.max_tokens: expected at most the backbone's {positions}, found {config.max_tokens}")
    table: Any = network.get_input_embeddings()
    known = max(tokenizer.get_vocab().values(), default=-1) + 1
    if known > table.num_embeddings:
        allowed = f"expected a tokenizer of at most {table.num_embeddings} tokens, as its weights"
        raise ModelError(f"{backbone.name}: {allowed}, found {known}")
    pad_id = padding_id(network, tokenizer, config.pad_token, backbone.name)
    network.config.pad_token_id = pad_id
    adapters = None
    if config.tuning != "full":
        adapters = with_adapters(network, config.lora, four_bit=config.tuning == "qlora")
    return PreparedNetwork(network, adapters, architecture, tokenizer, pairs, pad_id)


def padding_id(network: CrossEncoder, tokenizer: Tokenizer, pad_token: str | None, name: str) -> int:
    """The padding token's id: the one told, else the backbone's own. Raises ConfigError when there is neither."""
    if pad_token is not None:
        found = tokenizer.token_to_id(pad_token)
        if found is None:
            raise ConfigError(f"teacher.pad_token: expected a token of {name}, found {pad_token!r}")
        return int(found)
    own = network.config.encoder.pad_token_id
    if own is None:
        raise ConfigError(f"teacher.pad_token: missing; {name} names no padding token (its end-of-text token will do)")
    return int(own)


def _train_member(
    config: TeacherConfig, data: Path, text: Path, out: Path, backbone: Backbone, seed: int, *, rows_seed: int
) -> dict[str, Any]:
    """One network from judgments to a teacher folder; returns the counts of the manifest.

    rows_seed: of the choice of rows, the same for every member of an ensemble. The counts are kept in out/summary.json,
    by which a folder that a kill left after the training is known to be done.
    """
    if (out / SUMMARY).is_file():
        return dict(read_json(out / SUMMARY))
    dataset = load_dataset(data)
    n_grades = dataset.scale.n_grades
    texts = ItemTexts.read(text)
    train = training_judgments(dataset.judgments, config.max_train_rows, rows_seed)
    dev = dev_judgments(dataset.judgments)
    made = prepare_network(backbone, config, n_grades, seed)
    rows = training_rows(train, texts.of_pairs(train), made.pairs, config, n_grades, seed)
    dev_pairs = made.pairs.encode(dev["query"].to_list(), texts.of_pairs(dev))

    dev_logits = _dev_logits(config, made, rows, dev_pairs.rows, dev["grade"].to_numpy(), n_grades, out, seed)
    if not PartialState().is_main_process:
        return {}  # what several processes trained together, the first one saves
    grades = dev["grade"].to_numpy()
    calibration = Calibration.fit(config.head, dev_logits, grades, n_grades)
    report = calibration_report(dev, *_before_and_after(calibration, dev_logits, n_grades))
    judged = {key: read_json(out / HISTORY)[-1][key] for key in _JUDGED}

    def card() -> str:
        return model_card(dataset, config, backbone.description, train.height, report)

    trained = Trained(
        network=made.network,
        adapters=made.adapters,
        pairs=made.pairs,
        tokenizer_file=backbone.tokenizer_file,
        pad_id=made.pad_id,
        calibration=calibration,
        precision=config.precision,
        batch_tokens=config.score_batch_tokens,
        backbone=backbone.description,
        template=config.template if made.architecture == "decoder" else None,
    )
    saved = save_teacher(trained, out, card())
    sizes = {
        "n_parameters": sum(p.numel() for p in saved.parameters()),
        "n_trained_parameters": sum(p.numel() for p in (made.adapters or saved).parameters() if p.requires_grad),
    }
    if config.tuning == "qlora":
        # Training judged the network of 4-bit weights; the one that is saved, and scores, is the merged one.
        del trained, saved
        dev_logits = _saved_logits(out, dev_pairs.rows)
        calibration = Calibration.fit(config.head, dev_logits, grades, n_grades)
        report = calibration_report(dev, *_before_and_after(calibration, dev_logits, n_grades))
        judged = _dev_figures(dev_logits, grades, calibration)
        recalibrate(out, calibration, card())
    counts = {
        "train_rows": train.height,
        "train_queries": train["query_id"].n_unique(),
        "train_rows_cut": rows.n_cut,
        "dev_rows": dev.height,
        "dev_rows_cut": dev_pairs.n_cut,
        "backbone": backbone.description,
        "precision": "bfloat16" if wants_bfloat16(config.precision, _device()) else "float32",
        **sizes,
        "loss": read_json(out / HISTORY)[-1]["loss"],
        **judged,
        "calibration": calibration.to_dict(),
        "calibration_error": report,
    }
    write_json(out / SUMMARY, counts)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return counts


def _dev_logits(
    config: TeacherConfig,
    made: PreparedNetwork,
    rows: TrainingRows,
    dev_ids: list[list[int]],
    grades: NDArray[np.int64],
    n_grades: int,
    out: Path,
    seed: int,
) -> NDArray[np.float32]:
    """Train; returns the finished network's logits of the dev pairs. Only the word vectors that occur are trained."""
    vocabulary = None
    pad_id = made.pad_id
    if config.tuning == "full":
        used = {i for row in [*rows.ids, *dev_ids] for i in row}
        vocabulary = CompactVocabulary(made.network.encoder, used, pad_id)
        vocabulary.swap_in()
        rows = TrainingRows(
            [vocabulary.rows(row) for row in rows.ids], rows.target_probs, rows.weights, rows.names, rows.n_cut
        )
        dev_ids = [vocabulary.rows(row) for row in dev_ids]
        pad_id = int(vocabulary.position[pad_id])
    logits_of = _scores_of(made.network, dev_ids, pad_id, config)
    judged: list[NDArray[np.float32]] = []

    def judge() -> dict[str, float]:
        logits = logits_of()
        judged[:] = [logits]
        if not np.isfinite(logits).all():
            raise NotANumberError("teacher: the logits of dev pairs are not all numbers after an epoch")
        return _dev_figures(logits, grades, Calibration.fit(config.head, logits, grades, n_grades))

    train_network(made.network, made.adapters or made.network, rows, config, pad_id, out, seed=seed, judge=judge)
    # The last step is always judged: only a run continued after it has nothing yet.
    logits = judged[0] if judged else logits_of()
    made.network.encoder.set_attn_implementation("sdpa")
    made.network.to("cpu")
    if vocabulary is not None:
        vocabulary.swap_out()
    return logits


def _saved_logits(folder: Path, ids: list[list[int]]) -> NDArray[np.float32]:
    """Logits of pairs by the teacher of a folder, as it will score them."""
    (member,) = load_teacher(folder).members
    with progress("teacher: calibrate", len(ids), "pairs") as bar:
        return score_rows(member.engine, ids, member.pad_id, member.batch_tokens, bar)


def _before_and_after(
    calibration: Calibration, logits: NDArray[np.float32], n_grades: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return Calibration.none(calibration.kind, n_grades).probabilities(logits), calibration.probabilities(logits)


def _dev_figures(logits: NDArray[np.float32], grades: NDArray[np.int64], calibration: Calibration) -> dict[str, float]:
    probs = calibration.probabilities(logits)
    loss = log_loss(grades, probs)
    assert loss is not None
    return {"dev_loss": loss, "dev_auroc": mean_auroc(grades, probs)}


def _scores_of(
    network: CrossEncoder, ids: list[list[int]], pad_id: int, config: TeacherConfig
) -> Callable[[], NDArray[np.float32]]:
    engine = TorchEngine(network, bfloat16=wants_bfloat16(config.precision, _device()))
    batch_tokens = scoring_tokens(config.score_batch_tokens, _device())
    return lambda: score_rows(engine, ids, pad_id, batch_tokens)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
