"""Fine-tune the cross-encoder on human grades, with checkpoints that a killed run continues from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.optimization import get_linear_schedule_with_warmup
from transformers.utils import logging as transformers_logging

from pertinent.data.build import load_dataset
from pertinent.errors import ModelError
from pertinent.evaluation.calibration import TemperatureScaling
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.files import read_json, read_parquet, write_json
from pertinent.progress import Progress, say
from pertinent.teacher.backbones import Backbone
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import (
    CrossEncoder,
    encode_pairs,
    load_tokenizer,
    new_network,
    pad_batch,
    pad_id_of,
    save_teacher,
)
from pertinent.teacher.precision import wants_bfloat16
from pertinent.teacher.score import score_rows
from pertinent.teacher.vocabulary import TOKEN_VECTORS, CompactVocabulary, static_vectors
from pertinent.types import StageResult

_COMPLETE = "complete"  # written into a checkpoint last: one without it was cut off while being written


def train_teacher(
    config: TeacherConfig, data: Path, text: Path, out: Path, *, backbone: Backbone, seed: int
) -> StageResult:
    """Train on the human judgments of the train split and calibrate on dev; write a teacher folder.

    data, text: folders of those stages. out: an existing folder; checkpoints of an interrupted run with the same
    configuration in out/checkpoints are continued, and removed at the end.
    Also writes token_vectors.npy (see vocabulary.static_vectors) and history.json:
    [{"step", "epoch", "loss", "dev_loss", "dev_auroc"}].
    """
    dataset = load_dataset(data)
    texts = dict(read_parquet(text / "items.parquet", ["item_id", "text"]).iter_rows())
    train = _training_rows(dataset.judgments, config.max_train_rows, seed)
    dev = dataset.judgments.filter(pl.col("split") == "dev")
    n_grades = dataset.scale.n_grades

    model = new_network(backbone, config, n_grades, seed)
    tokenizer = load_tokenizer(backbone.tokenizer_file)
    pad_id = pad_id_of(tokenizer, model.encoder)

    def encode(rows: pl.DataFrame) -> list[list[int]]:
        item_texts = [texts[item] for item in rows["item_id"]]
        return encode_pairs(tokenizer, rows["query"].to_list(), item_texts, config.max_tokens, config.max_query_tokens)

    train_ids, dev_ids = encode(train), encode(dev)
    vocabulary = CompactVocabulary(model.encoder, {i for row in [*train_ids, *dev_ids] for i in row}, pad_id)
    vocabulary.swap_in()
    dev_rows = [vocabulary.rows(row) for row in dev_ids]
    pairs = _Pairs([vocabulary.rows(row) for row in train_ids], _targets(train, config.target, n_grades))
    compact_pad_id = int(vocabulary.position[pad_id])

    def judge() -> dict[str, float]:
        logits = score_rows(
            model, dev_rows, compact_pad_id, config.score_batch_tokens, wants_bfloat16(config.precision)
        )
        if not np.isfinite(logits).all():
            raise ModelError("teacher: the model gives NaN; lower teacher.learning_rate or set precision: float32")
        grades = dev["grade"].to_numpy()
        scaling = TemperatureScaling.fit(logits, grades)
        probs = scaling.probabilities(logits)
        loss = log_loss(grades, probs)
        return {"dev_loss": loss or 0.0, "dev_auroc": mean_auroc(grades, probs), "temperature": scaling.temperature}

    _keep_complete(out / "checkpoints")
    trainer = _trainer(config, model, pairs, compact_pad_id, out, seed, judge)
    trainer.train(resume_from_checkpoint=bool(list((out / "checkpoints").glob("checkpoint-*"))))
    # Mixed precision wrapped the forward pass; what is saved and probed is the plain float32 model.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    history = read_json(out / "history.json")
    vocabulary.swap_out()
    model.encoder.set_attn_implementation("sdpa")
    settings = {
        "n_grades": n_grades,
        "pooling": config.pooling,
        "max_tokens": config.max_tokens,
        "max_query_tokens": config.max_query_tokens,
        "temperature": history[-1]["temperature"],
        "backbone": backbone.description,
    }
    save_teacher(model.eval(), out, backbone.tokenizer_file, settings)
    np.save(out / TOKEN_VECTORS, static_vectors(model.encoder), allow_pickle=False)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    counts = {
        "train_rows": train.height,
        "train_queries": train["query_id"].n_unique(),
        "dev_rows": dev.height,
        "backbone": backbone.description,
        "precision": "bfloat16" if wants_bfloat16(config.precision) else "float32",
        "n_parameters": sum(p.numel() for p in model.parameters()),
        **{key: history[-1][key] for key in ("dev_loss", "dev_auroc", "temperature")},
    }
    return StageResult(counts)


def _training_rows(judgments: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    """Train judgments; with a limit, whole queries in a seeded order until the limit is reached."""
    train = judgments.filter(pl.col("split") == "train")
    if limit is None or train.height <= limit:
        return train
    queries = train["query_id"].unique().sort()
    order = pl.DataFrame({"query_id": queries.sample(fraction=1.0, shuffle=True, seed=seed)}).with_row_index("rank")
    ranked = train.join(order, on="query_id").sort("rank", "item_id")
    return ranked.head(limit).drop("rank")


def _targets(rows: pl.DataFrame, target: str, n_grades: int) -> NDArray[np.float32]:
    """(N, n) float32 target distributions: one-hot grades, or the mean rating shared between its neighbours."""
    values = rows["grade" if target == "grade" else "grade_mean"].to_numpy().astype(np.float64)
    below = np.clip(np.floor(values), 0, n_grades - 1).astype(np.int64)
    above = np.minimum(below + 1, n_grades - 1)
    share = values - below
    targets = np.zeros((values.size, n_grades), dtype=np.float32)
    index = np.arange(values.size)
    targets[index, below] += 1.0 - share
    targets[index, above] += share
    return targets


class _Pairs(Dataset[dict[str, Any]]):
    def __init__(self, rows: list[list[int]], target_probs: NDArray[np.float32]) -> None:
        self.rows, self.target_probs = rows, target_probs

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"ids": self.rows[index], "target_probs": self.target_probs[index]}


class _LengthGrouped(Sampler[int]):
    """Every epoch's order, one after the other: rows of like length side by side, batches in random order.

    Little padding is computed, and a resumed run skips forward in the same order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> None:
        super().__init__()
        self._lengths = np.asarray(lengths)
        self._batch_size, self._epochs, self._seed = batch_size, epochs, seed

    def __len__(self) -> int:
        return self._lengths.size * self._epochs

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self._epochs):
            rng = np.random.default_rng((self._seed, epoch))
            order = rng.permutation(self._lengths.size)
            pool = self._batch_size * 64
            chunks = []
            # The first rows fill the batch that the epoch before left short, so that later ones stay whole.
            carried = -epoch * order.size % self._batch_size
            yield from order[:carried].tolist()
            for start in range(carried, order.size, pool):
                part = order[start : start + pool]
                by_length = part[np.argsort(self._lengths[part], kind="stable")]
                chunks += [by_length[i : i + self._batch_size] for i in range(0, by_length.size, self._batch_size)]
            whole = [chunk for chunk in chunks if chunk.size == self._batch_size]
            rest = [chunk for chunk in chunks if chunk.size < self._batch_size]
            for position in rng.permutation(len(whole)):
                yield from whole[position].tolist()
            for chunk in rest:
                yield from chunk.tolist()


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    def __init__(self, sampler: _LengthGrouped, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sampler = sampler

    def _get_train_sampler(self, train_dataset: Any = None) -> _LengthGrouped:
        return self._sampler


def _trainer(
    config: TeacherConfig, model: CrossEncoder, pairs: _Pairs, pad_id: int, out: Path, seed: int, judge: Any
) -> _Trainer:
    transformers_logging.disable_progress_bar()
    if not torch.cuda.is_available():
        # On a CPU the fused kernel's backward pass, which runs where there is no dropout, is 3 times slower.
        model.encoder.set_attn_implementation("eager")
    sampler = _LengthGrouped([len(row) for row in pairs.rows], config.batch_size, config.epochs, seed)
    total_steps = -(-len(sampler) // config.batch_size)
    set_seed(seed)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), betas=(0.9, 0.98), fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(config.warmup * total_steps), total_steps)
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        max_steps=total_steps,
        bf16=wants_bfloat16(config.precision),
        max_grad_norm=1.0,
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        input_ids, attention_mask = pad_batch([row["ids"] for row in batch], pad_id)
        targets = torch.from_numpy(np.stack([row["target_probs"] for row in batch]))
        return {"input_ids": input_ids, "attention_mask": attention_mask, "target_probs": targets}

    steps_per_epoch = total_steps / config.epochs
    trainer = _Trainer(
        sampler,
        model=model,
        args=arguments,
        train_dataset=pairs,
        data_collator=collate,
        optimizers=(optimizer, schedule),
        callbacks=[_Watch(out / "history.json", total_steps, steps_per_epoch, config.batch_size, judge)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is kept for one JSON document
    return trainer


def _parameter_groups(model: CrossEncoder, config: TeacherConfig) -> list[dict[str, Any]]:
    """Learning rates that fall by layer_decay a layer from the head down; no decay on biases and norms."""
    layers = model.encoder.config.num_hidden_layers
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_vectors = parameter.ndim < 2 or "embedding" in name
        groups.setdefault((_depth(name, layers), is_vectors), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * config.layer_decay ** (layers + 1 - depth),
            "weight_decay": 0.0 if is_vectors else config.weight_decay,
        }
        for (depth, is_vectors), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def _depth(name: str, layers: int) -> int:
    """0 for word vectors, 1..layers for the encoder's layers, layers + 1 for the head."""
    if name.startswith("head."):
        return layers + 1
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return min(numbers[0] + 1, layers) if numbers else 0


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Shows progress, stops on a NaN loss, judges the model on dev after each epoch, marks whole checkpoints."""

    def __init__(self, history_file: Path, total: int, steps_per_epoch: float, batch_size: int, judge: Any) -> None:
        self._file, self._total, self._per_epoch, self._batch = history_file, total, steps_per_epoch, batch_size
        self._judge = judge
        self._bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        rows = read_json(self._file) if self._file.exists() else []
        # Epochs judged after the checkpoint that is continued from are trained and judged again.
        write_json(self._file, [row for row in rows if row["step"] <= state.global_step])
        if state.global_step:
            say(f"teacher: continuing from step {state.global_step:,} of {self._total:,}")
        done = state.global_step * self._batch
        self._bar = Progress("teacher: train", self._total * self._batch, "pairs", done)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self._bar is not None
        self._bar.advance(self._batch)
        finished = state.global_step / self._per_epoch
        last = state.global_step == self._total
        if last or int(finished) > int((state.global_step - 1) / self._per_epoch):
            self._record(state.global_step, finished)
        if last:
            self._bar.close()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()

    def _record(self, step: int, epoch: float) -> None:
        row = {"step": step, "epoch": round(epoch, 2), **self._judge()}
        write_json(self._file, [*read_json(self._file), row])
        say(f"teacher: epoch {row['epoch']:g}: dev loss {row['dev_loss']:.4f}, mean AUROC {row['dev_auroc']:.4f}")


def _keep_complete(folder: Path) -> None:
    """Drop checkpoints that were cut off while being written."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / _COMPLETE).exists():
            shutil.rmtree(checkpoint)
