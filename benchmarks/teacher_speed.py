"""Training and scoring speed of the teacher against sentence-transformers' CrossEncoder: same model, rows and labels.

    python benchmarks/teacher_speed.py

Every measurement is a process of its own; rivals and ours alternate, and a row holds the median and the spread of its
rounds. Peers run at their defaults; at their best flags (bfloat16, batches of like length; in scoring the fastest attention
and batch size); and, in training, also without dropout and with eager attention, as ours trains on a CPU: the rest of the
gain is our own. "share_of_peak" is the arithmetic of the language model's linear layers over this machine's measured rate for products of the same shapes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import (
    Row,
    Target,
    chosen_rows,
    new_row,
    parser_of,
    print_table,
    print_targets,
    results_folder,
    run_child,
    run_main,
    runs_in_turn,
    write_results,
)
from homedepot import HomeDepot
from pertinent.files import atomic_path, cache_folder

TRAIN_PAIRS, SCORE_PAIRS, BATCH = 1_024, 4_096, 32
QUALITY_PAIRS = 8_000
ROUNDS = 3
MAX_TOKENS = 80
SEED = 0
QUALITY_SEEDS = (0, 1, 2)
PEER = "sentence-transformers"
COLUMNS = ("pairs_per_s", "lowest", "highest", "share_of_peak", "peak_gib", "auroc_4+")
TRAINING = ("train/ours", f"train/{PEER}", f"train/{PEER}-best", f"train/{PEER}-best-no-dropout")
SCORING = ("score/ours", "score/ours-int8", f"score/{PEER}", f"score/{PEER}-best")
QUALITY = (
    *(f"quality/{side}/{seed}" for seed in QUALITY_SEEDS for side in ("ours", PEER)),
    "quality/float32",
    "quality/bfloat16",
    "quality/int8",
)


def main() -> None:
    """Run the rounds, or, as a child process, one measurement."""
    started = time.monotonic()
    parser = parser_of(__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](quick=arguments.quick)))
        return
    wanted = chosen_rows([*TRAINING, *SCORING, *QUALITY], arguments.rows)
    HomeDepot.prepared()
    e5_folder()
    # Trained and exported before the clock, in a process of its own: no measurement's memory holds it.
    run_child([sys.executable, __file__, "--measure", "prepare", *(["--quick"] if arguments.quick else [])])
    document: dict[str, Any] = {}
    for group, rounds in ((TRAINING, ROUNDS), (SCORING, ROUNDS), (QUALITY, 1)):
        names = [name for name in group if name in wanted]
        found = runs_in_turn(names, 1 if arguments.quick else rounds, quick=arguments.quick)
        rows = [row_of(name, runs) for name, runs in found.items()]
        folder = results_folder(arguments)
        document = write_results(
            "teacher_speed", rows, targets, seeds=list(QUALITY_SEEDS), started=started, folder=folder
        )
        print_table(document["rows"], COLUMNS)
    print_targets(document)


def row_of(name: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    """The rounds of one row, summed up."""
    rates = [run["pairs_per_s"] for run in runs]
    figures = {
        "pairs_per_s": round(median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "peak_gib": round(max(run["peak"] for run in runs) / 2**30, 2),
    }
    if "setting" in runs[0]:
        figures["settings"] = [run["setting"] for run in runs]
    for key in ("share_of_peak", "auroc_3+", "auroc_4+", "auroc_5+"):
        if runs[0].get(key) is not None:
            figures[key] = round(median([run[key] for run in runs]), 4)
    return new_row(name, figures, sum(run["seconds"] for run in runs))


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """The ratios to the peer's defaults and best, and what speed costs in quality."""

    def ratio(ours: str, peer: str) -> float | None:
        if ours not in rows or peer not in rows:
            return None
        return round(rows[ours]["pairs_per_s"] / rows[peer]["pairs_per_s"], 2)

    def loss(ours: Sequence[str], reference: Sequence[str]) -> float | None:
        if not all(name in rows for name in (*ours, *reference)):
            return None

        def mean(names: Sequence[str], metric: str) -> float:
            return sum(rows[name][metric] for name in names) / len(names)

        metrics = ("auroc_3+", "auroc_4+", "auroc_5+")
        return round(max(mean(reference, metric) - mean(ours, metric) for metric in metrics), 4)

    return [
        Target("training, times its defaults", 2.5, ">=", ratio("train/ours", f"train/{PEER}")),
        Target("training, times its best flags", 1.2, ">=", ratio("train/ours", f"train/{PEER}-best")),
        Target(
            "training, times its best flags without dropout",
            1.2,
            ">=",
            ratio("train/ours", f"train/{PEER}-best-no-dropout"),
        ),
        Target("scoring, times its defaults", 2.0, ">=", ratio("score/ours", f"score/{PEER}")),
        Target("scoring, times its best flags", 1.2, ">=", ratio("score/ours", f"score/{PEER}-best")),
        Target("int8 scoring, times its defaults", 3.0, ">=", ratio("score/ours-int8", f"score/{PEER}")),
        Target("AUROC lost to bfloat16, worst threshold", 0.002, "<=", loss(["quality/bfloat16"], ["quality/float32"])),
        Target("AUROC lost to int8, worst threshold", 0.002, "<=", loss(["quality/int8"], ["quality/float32"])),
        Target(
            "AUROC below its models, mean of 3 seeds, worst threshold",
            0.002,
            "<=",
            loss(*([f"quality/{side}/{seed}" for seed in QUALITY_SEEDS] for side in ("ours", PEER))),
        ),
    ]


def e5_folder() -> Path:
    """The packaged multilingual-e5-small as a Hugging Face folder, which both sides start from."""
    from pertinent.teacher.backbones import load_backbone, resolve_backbone

    folder = cache_folder() / "benchmarks" / "e5"
    if not (folder / "config.json").is_file():
        from transformers import PreTrainedTokenizerFast

        backbone = resolve_backbone("packaged:multilingual-e5-small")
        with atomic_path(folder) as temporary:
            load_backbone(backbone).save_pretrained(temporary)
            PreTrainedTokenizerFast(
                tokenizer_file=str(backbone.tokenizer_file),
                bos_token="<s>",
                eos_token="</s>",
                cls_token="<s>",
                sep_token="</s>",
                pad_token="<pad>",
                unk_token="<unk>",
                mask_token="<mask>",
            ).save_pretrained(temporary)
    return folder


def pairs_of(
    split: str, n_pairs: int, seed: int = SEED
) -> tuple[list[str], list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Queries, texts and grades of the first pairs of a split in a seeded order."""
    homedepot = HomeDepot.prepared()
    pairs = homedepot.dataset.judgments.filter(split=split).sample(fraction=1.0, shuffle=True, seed=seed).head(n_pairs)
    return pairs["query"].to_list(), [homedepot.texts[item] for item in pairs["item_id"]], pairs["grade"].to_numpy()


def rate(n_pairs: int, seconds: float, n_tokens: int | None = None, passes: int = 1) -> dict[str, Any]:
    """pairs/s, and the share of the measured peak where the tokens are known."""
    found: dict[str, Any] = {"pairs_per_s": n_pairs / seconds, "seconds": seconds}
    if n_tokens is not None:
        found["share_of_peak"] = 2 * LINEAR_WEIGHTS * n_tokens * passes / seconds / peak_flops()
    return found


LINEAR_WEIGHTS = 12 * (4 * 384 * 384 + 2 * 384 * 1536)  # of multilingual-e5-small; attention itself is left out


def peak_flops(tokens: int = 2048) -> float:
    """The best rate, in floating-point operations a second, of the layers' own products in bfloat16."""
    import torch

    rates = []
    for inner, outer in ((384, 1536), (1536, 384), (384, 384)):
        layer = torch.nn.Linear(inner, outer, dtype=torch.bfloat16)
        states = torch.randn(tokens, inner, dtype=torch.bfloat16)
        with torch.inference_mode():
            layer(states)
            seconds = min(
                _timed(lambda layer=layer, states=states: [layer(states) for _ in range(20)]) for _ in range(5)
            )  # type: ignore[misc]
        rates.append(20 * 2 * tokens * inner * outer / seconds)
    return max(rates)


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def train_ours(*, quick: bool) -> dict[str, Any]:
    """Our trainer's loop alone, as the teacher stage runs it."""
    return _train_ours(TRAIN_PAIRS // (8 if quick else 1))[0]


def _train_ours(n_pairs: int, seed: int = SEED) -> tuple[dict[str, Any], Any]:
    import tempfile

    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.config import TeacherConfig
    from pertinent.teacher.engines import TorchEngine
    from pertinent.teacher.model import score_rows
    from pertinent.teacher.pairs import PairEncoder, load_tokenizer
    from pertinent.teacher.rows import TrainingRows
    from pertinent.teacher.train import new_network
    from pertinent.teacher.trainer import train_network
    from pertinent.teacher.vocabulary import CompactVocabulary

    queries, texts, grades = pairs_of("train", n_pairs, seed)
    config = TeacherConfig(max_tokens=MAX_TOKENS, epochs=1, batch_size=BATCH, checkpoint_steps=10**6)
    backbone = resolve_backbone(str(e5_folder()))
    network = new_network(backbone, config, 5, seed)
    encoder = PairEncoder.of_encoder(load_tokenizer(backbone.tokenizer_file), MAX_TOKENS, config.max_query_tokens)
    test_queries, test_texts, _ = pairs_of("dev", 10**6)
    test_ids = encoder.encode(test_queries, test_texts).rows
    started = time.perf_counter()
    ids = encoder.encode(queries, texts).rows
    vocabulary = CompactVocabulary(network.encoder, {i for row in [*ids, *test_ids] for i in row}, pad_id=1)
    vocabulary.swap_in()
    targets_ = np.eye(5, dtype=np.float32)[grades]
    rows = TrainingRows([vocabulary.rows(row) for row in ids], targets_, None, queries, 0)
    pad_id = int(vocabulary.position[1])
    with tempfile.TemporaryDirectory() as folder:
        train_network(
            network,
            network,
            rows,
            config,
            pad_id,
            Path(folder),
            seed=seed,
            judge=lambda: {"dev_loss": 0.0, "dev_auroc": 0.0},  # nothing is measured inside the clock
        )
    seconds = time.perf_counter() - started

    def logits() -> Any:
        engine = TorchEngine(network, bfloat16=True)
        return score_rows(engine, [vocabulary.rows(row) for row in test_ids], pad_id, 4096)

    return rate(n_pairs, seconds, sum(map(len, ids)), passes=3), logits


def train_peer(*, quick: bool, best: bool, dropout: bool = True) -> dict[str, Any]:
    """CrossEncoderTrainer on the same rows, one epoch."""
    return _train_peer(TRAIN_PAIRS // (8 if quick else 1), best=best, dropout=dropout)[0]


def _train_peer(n_pairs: int, *, best: bool, dropout: bool = True, seed: int = SEED) -> tuple[dict[str, Any], Any]:
    import tempfile

    import torch
    from datasets import Dataset
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import CrossEntropyLoss

    class OfLikeLength(DefaultBatchSampler):  # type: ignore[misc]
        """Its batches, with rows of like length side by side and the batches in random order."""

        def __init__(self, dataset: Any, batch_size: int, drop_last: bool = False, **_: Any) -> None:
            lengths = np.array([len(row["query"]) + len(row["text"]) for row in dataset])
            order = np.argsort(lengths, kind="stable")
            chunks = [order[i : i + batch_size].tolist() for i in range(0, order.size, batch_size)]
            np.random.default_rng(seed).shuffle(chunks)
            self.chunks = chunks

        def __iter__(self) -> Any:
            return iter(self.chunks)

        def __len__(self) -> int:
            return len(self.chunks)

    queries, texts, grades = pairs_of("train", n_pairs, seed)
    torch.manual_seed(seed)  # of its new head
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = CrossEncoder(
        str(e5_folder()),
        num_labels=5,
        max_length=MAX_TOKENS,
        model_kwargs={} if dropout else {"attn_implementation": "eager"},
        config_kwargs={} if dropout else without,
    )
    rows = Dataset.from_dict({"query": queries, "text": texts, "label": grades.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        cpu = not torch.cuda.is_available()
        more: dict[str, Any] = {"bf16": True, "use_cpu": cpu, "batch_sampler": OfLikeLength} if best else {}
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            warmup_ratio=0.06,
            save_strategy="no",
            report_to="none",
            seed=seed,
            disable_tqdm=True,
            **more,
        )
        trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=rows, loss=CrossEntropyLoss(model))
        seconds = _timed(trainer.train)

    def logits() -> Any:
        test_queries, test_texts, _ = pairs_of("dev", 10**6)
        return model.predict(list(zip(test_queries, test_texts, strict=True)), batch_size=64)

    return rate(n_pairs, seconds, n_tokens_of(queries, texts), passes=3), logits


def n_tokens_of(queries: Sequence[str], texts: Sequence[str]) -> int:
    """Tokens of the pairs as both sides read them, without padding."""
    from pertinent.teacher.config import TeacherConfig
    from pertinent.teacher.pairs import PairEncoder, load_tokenizer

    tokenizer = load_tokenizer(e5_folder() / "tokenizer.json")
    encoder = PairEncoder.of_encoder(tokenizer, MAX_TOKENS, TeacherConfig().max_query_tokens)
    return sum(map(len, encoder.encode(list(queries), list(texts)).rows))


def score_ours(*, quick: bool, engine: Any) -> dict[str, Any]:
    """`Teacher.score`, from text to probabilities."""
    from pertinent.teacher.saving import load_teacher

    folder = trained_teacher(quick=quick)
    teacher = load_teacher(folder, engine=engine)
    queries, texts, _ = pairs_of("train", SCORE_PAIRS // (8 if quick else 1))
    teacher.score(queries[:64], texts[:64])
    seconds = _timed(lambda: teacher.score(queries, texts))
    return rate(len(queries), seconds, n_tokens_of(queries, texts))


def score_peer(*, quick: bool, best: bool) -> dict[str, Any]:
    """`CrossEncoder.predict`, from text to probabilities; it sorts by length itself."""
    import torch
    from sentence_transformers.cross_encoder import CrossEncoder

    queries, texts, _ = pairs_of("train", SCORE_PAIRS // (8 if quick else 1))
    pairs = list(zip(queries, texts, strict=True))

    def peer(attention: str | None, batch_size: int, some: list[tuple[str, str]]) -> float:
        more: dict[str, Any] = {"dtype": torch.bfloat16, "attn_implementation": attention} if attention else {}
        model = CrossEncoder(str(e5_folder()), num_labels=5, max_length=MAX_TOKENS, model_kwargs=more)
        options: dict[str, Any] = {"batch_size": batch_size, "apply_softmax": True, "show_progress_bar": False}
        model.predict(some[:64], **options)
        return _timed(lambda: model.predict(some, **options))

    attention, batch_size = None, 32
    if best:  # the fastest of its settings on a few pairs, before the clock that counts
        settings = [(kernel, size) for kernel in ("eager", "sdpa") for size in (16, 24, 32, 64)]
        attention, batch_size = min(settings, key=lambda setting: peer(*setting, pairs[:512]))
    found = rate(len(pairs), peer(attention, batch_size, pairs), n_tokens_of(queries, texts))
    return {**found, "setting": f"{attention or 'default'} attention, batches of {batch_size}"}


def trained_teacher(*, quick: bool) -> Path:
    """A teacher of our stage on the quality rows, kept in the user's cache."""
    changes = {"backbone": str(e5_folder()), "epochs": 1, "max_train_rows": 100 if quick else QUALITY_PAIRS}
    return HomeDepot.prepared().train("quick-speed" if quick else "speed", changes, SEED)


def quality_trained(*, quick: bool, side: str, seed: int) -> dict[str, Any]:
    """AUROC on dev of the model that each trainer gives from the same rows, by P(grade >= n); the peer at its best flags."""
    n_pairs = 128 if quick else QUALITY_PAIRS
    found, logits = _train_ours(n_pairs, seed) if side == "ours" else _train_peer(n_pairs, best=True, seed=seed)
    return {**found, **aurocs(np.asarray(logits(), dtype=np.float64))}


def quality_scored(*, quick: bool, arithmetic: str) -> dict[str, Any]:
    """AUROC on dev of one trained teacher in each arithmetic."""
    from dataclasses import replace

    from pertinent.teacher.engines import TorchEngine
    from pertinent.teacher.model import Teacher
    from pertinent.teacher.saving import load_network, load_teacher

    folder = trained_teacher(quick=quick)
    teacher = load_teacher(folder, engine="onnx_int8" if arithmetic == "int8" else "torch")
    if arithmetic != "int8":
        engine = TorchEngine.owning(load_network(folder), bfloat16=arithmetic == "bfloat16")
        teacher = Teacher((replace(teacher.members[0], engine=engine),), teacher.n_grades, teacher.teacher_id)
    queries, texts, _ = pairs_of("dev", 10**6)
    started = time.perf_counter()
    probs = teacher.score(queries, texts)
    return {**rate(len(queries), time.perf_counter() - started), **aurocs(np.log(np.maximum(probs, 1e-30)))}


def aurocs(logits: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float | None]:
    """AUROC 3+, 4+, 5+ on the dev pairs, by P(grade >= n) = softmax."""
    from scipy.special import softmax

    from pertinent.evaluation.classification import at_least, auroc

    _, _, grades = pairs_of("dev", 10**6)
    chances = at_least(softmax(logits, axis=1))
    return {f"auroc_{k + 1}+": auroc(grades >= k, chances[:, k - 1]) for k in (2, 3, 4)}


def prepare(*, quick: bool) -> dict[str, Any]:
    """Train the teacher that is scored with, and export it."""
    from pertinent.teacher.saving import load_teacher

    load_teacher(trained_teacher(quick=quick), engine="onnx_int8")
    return {}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "train/ours": train_ours,
    f"train/{PEER}": lambda quick: train_peer(quick=quick, best=False),
    f"train/{PEER}-best": lambda quick: train_peer(quick=quick, best=True),
    f"train/{PEER}-best-no-dropout": lambda quick: train_peer(quick=quick, best=True, dropout=False),
    "score/ours": lambda quick: score_ours(quick=quick, engine="torch"),
    "score/ours-int8": lambda quick: score_ours(quick=quick, engine="onnx_int8"),
    f"score/{PEER}": lambda quick: score_peer(quick=quick, best=False),
    f"score/{PEER}-best": lambda quick: score_peer(quick=quick, best=True),
    **{
        f"quality/{side}/{seed}": lambda quick, side=side, seed=seed: quality_trained(quick=quick, side=side, seed=seed)
        for side in ("ours", PEER)
        for seed in QUALITY_SEEDS
    },
    "quality/float32": lambda quick: quality_scored(quick=quick, arithmetic="float32"),
    "quality/bfloat16": lambda quick: quality_scored(quick=quick, arithmetic="bfloat16"),
    "quality/int8": lambda quick: quality_scored(quick=quick, arithmetic="int8"),
}


if __name__ == "__main__":
    run_main(main)
