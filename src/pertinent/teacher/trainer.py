"""transformers' Trainer for a cross-encoder: batches of like length, layer-wise learning rates, EMA, and a watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.optimization import get_linear_schedule_with_warmup
from transformers.utils import logging as transformers_logging

from pertinent.errors import ConfigError
from pertinent.files import read_json, write_json
from pertinent.progress import Progress, say
from pertinent.teacher.checkpoints import CHECKPOINTS, COMPLETE, NotANumberError, keep_complete
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.pairs import batch_inputs
from pertinent.teacher.precision import wants_bfloat16
from pertinent.teacher.rows import TrainingRows
from pertinent.teacher.trackers import TRACKERS, logging_under

HISTORY = "history.json"
_AVERAGE = "average.safetensors"
_LOG_STEPS = 50  # optimiser steps between two values that a tracker gets
_SHOWN_ROWS = 3  # pairs named in the message when the loss is not a number

Judge = Callable[[], dict[str, float]]


def train_network(
    network: CrossEncoder,
    trained: nn.Module,
    rows: TrainingRows,
    config: TeacherConfig,
    pad_id: int,
    out: Path,
    *,
    seed: int,
    judge: Judge,
) -> None:
    """Train; continues from the last whole checkpoint in out/checkpoints and appends to out/history.json.

    trained: the network itself, or the peft model round it. pad_id: in the ids of ``rows``. judge: measures the
    network on dev, called after each epoch. Raises NotANumberError naming the batch's rows when the loss is not a
    number; the whole checkpoints stay.
    """
    processes = PartialState(cpu=not torch.cuda.is_available())
    with processes.main_process_first():
        if processes.is_main_process:
            keep_complete(out / CHECKPOINTS)
    average = _Average(trained, config.ema) if config.ema else None
    with logging_under(out / TRACKERS, config.trackers):
        trainer = _trainer(network, trained, rows, config, pad_id, out, seed, judge, average)
        trainer.train(resume_from_checkpoint=bool(list((out / CHECKPOINTS).glob("checkpoint-*"))))
    # Mixed precision wrapped the forward pass; what is saved is the plain float32 model.
    trainer.accelerator.unwrap_model(trained, keep_fp32_wrapper=False)
    if average is not None:
        average.copy_to(trained)


class _Pairs(Dataset[dict[str, Any]]):
    """Pair i of epoch e is number e * N + i."""

    def __init__(self, rows: TrainingRows, epochs: int) -> None:
        self._rows, self._epochs = rows, epochs

    def __len__(self) -> int:
        return self._rows.n_pairs * self._epochs

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, pair = divmod(number, self._rows.n_pairs)
        weight = None if self._rows.weights is None else self._rows.weights[pair]
        ids = self._rows.of_epoch(epoch, pair)
        return {"ids": ids, "target_probs": self._rows.target_probs[pair], "weight": weight, "pair": pair}


class LengthGrouped(Sampler[int]):
    """Every epoch's order, one after the other: rows of like length side by side, batches in random order.

    Little padding is computed, and a resumed run skips forward in the same order. length_of: (epoch, pair) -> tokens.
    """

    def __init__(
        self, length_of: Callable[[int, int], int], n_pairs: int, batch_size: int, epochs: int, seed: int
    ) -> None:
        super().__init__()
        self._length_of, self._n_pairs = length_of, n_pairs
        self._batch_size, self._epochs, self._seed = batch_size, epochs, seed

    def __len__(self) -> int:
        return self._n_pairs * self._epochs

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self._epochs):
            lengths = np.array([self._length_of(epoch, pair) for pair in range(self._n_pairs)])
            for pair in self._order(lengths, epoch):
                yield epoch * self._n_pairs + pair

    def _order(self, lengths: np.ndarray[Any, Any], epoch: int) -> list[int]:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(lengths.size)
        pool = self._batch_size * 64
        # The first rows fill the batch that the epoch before left short, so that later ones stay whole.
        carried = -epoch * order.size % self._batch_size
        chunks: list[list[int]] = []
        for start in range(carried, order.size, pool):
            part = order[start : start + pool]
            by_length = part[np.argsort(lengths[part], kind="stable")]
            chunks += [by_length[i : i + self._batch_size].tolist() for i in range(0, by_length.size, self._batch_size)]
        whole = [chunk for chunk in chunks if len(chunk) == self._batch_size]
        rest = [chunk for chunk in chunks if len(chunk) < self._batch_size]
        shuffled = [whole[position] for position in rng.permutation(len(whole))]
        return [*order[:carried].tolist(), *(pair for chunk in [*shuffled, *rest] for pair in chunk)]


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    def __init__(self, sampler: LengthGrouped, names: Sequence[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: it is divided by the accumulation steps
        self._sampler, self._names = sampler, names
        self.loss_sum, self.n_losses = 0.0, 0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        return self._sampler

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        pairs = inputs.pop("pairs")
        loss: Tensor = model(**inputs).loss
        value = float(loss.detach())
        if not np.isfinite(value):
            named = [self._names[pair] for pair in pairs.tolist()]
            raise NotANumberError(
                f"teacher: the loss is {value} at step {self.state.global_step + 1}, in a batch of {len(pairs)} rows such "
                f"as {'; '.join(named[:_SHOWN_ROWS])}",
                named,
            )
        self.loss_sum, self.n_losses = self.loss_sum + value, self.n_losses + 1
        return loss


class _Average:
    """An exponential moving average of the trained weights; its decay rises to the configured one in the first steps."""

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._values = {name: value.detach().clone() for name, value in _trainable(trained).items()}

    def update(self, trained: nn.Module) -> None:
        """Take in the weights after an optimiser step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in _trainable(trained).items():
            self._values[name] = self._values[name].to(value.device)
            self._values[name].lerp_(value.detach(), 1.0 - decay)

    def copy_to(self, trained: nn.Module) -> None:
        """Replace the weights by their average."""
        with torch.no_grad():
            for name, value in _trainable(trained).items():
                value.copy_(self._values[name])

    def swap(self, trained: nn.Module) -> None:
        """Exchange the weights and their average; a second call puts them back."""
        with torch.no_grad():
            for name, value in _trainable(trained).items():
                held = value.detach().clone()
                value.copy_(self._values[name])
                self._values[name] = held

    def save(self, file: Path) -> None:
        """Write the average and its number of steps."""
        steps = {"steps": str(self._steps)}
        save_file({name: value.cpu().contiguous() for name, value in self._values.items()}, file, metadata=steps)

    def load(self, file: Path) -> None:
        """Take up what ``save`` wrote."""
        from safetensors import safe_open

        with safe_open(file, framework="pt") as stored:
            self._steps = int(stored.metadata()["steps"])
        self._values = load_file(file)


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _trainer(
    network: CrossEncoder,
    trained: nn.Module,
    rows: TrainingRows,
    config: TeacherConfig,
    pad_id: int,
    out: Path,
    seed: int,
    judge: Judge,
    average: _Average | None,
) -> _Trainer:
    transformers_logging.disable_progress_bar()
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        # On a CPU the fused kernel's backward pass, which runs where there is no dropout, is 3 times slower.
        network.encoder.set_attn_implementation("eager")
    n_devices = PartialState().num_processes
    per_device = min(config.device_batch_size or config.batch_size, max(config.batch_size // n_devices, 1))
    if config.batch_size % (per_device * n_devices):
        raise ConfigError(
            f"teacher.batch_size: expected a multiple of {n_devices} processes times {per_device} pairs, found "
            f"{config.batch_size}"
        )
    sampler = LengthGrouped(
        lambda epoch, pair: len(rows.of_epoch(epoch, pair)), rows.n_pairs, config.batch_size, config.epochs, seed
    )
    total_steps = -(-len(sampler) // config.batch_size)
    set_seed(seed)
    optimizer = torch.optim.AdamW(parameter_groups(trained, network, config), betas=(0.9, 0.98), fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(config.warmup * total_steps), total_steps)
    arguments = TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=config.batch_size // (per_device * n_devices),
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        max_steps=total_steps,
        bf16=wants_bfloat16(config.precision, "cpu" if on_cpu else "cuda"),
        max_grad_norm=1.0,
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_strategy="steps" if config.trackers else "no",
        logging_steps=_LOG_STEPS,
        report_to=list(config.trackers) or "none",
        disable_tqdm=True,
        seed=seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
    )

    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU: torchrun uses the others

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        made = batch_inputs([row["ids"] for row in batch], pad_id, segments=network.config.segments)
        made["target_probs"] = torch.from_numpy(np.stack([row["target_probs"] for row in batch]))
        made["pairs"] = torch.tensor([row["pair"] for row in batch])
        if batch[0]["weight"] is not None:
            made["weights"] = torch.tensor([row["weight"] for row in batch])
        return made

    trainer = _Trainer(
        sampler,
        rows.names,
        model=trained,
        args=arguments,
        train_dataset=_Pairs(rows, config.epochs),
        data_collator=collate,
        optimizers=(optimizer, schedule),
    )
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is kept for one JSON document
    trainer.add_callback(_Watch(trainer, out / HISTORY, total_steps, config, judge, trained, average))
    return trainer


def parameter_groups(trained: nn.Module, network: CrossEncoder, config: TeacherConfig) -> list[dict[str, Any]]:
    """Learning rates that fall by layer_decay a layer from the head down; no decay on biases, norms and word vectors.

    Adapters are new weights in every layer: they all learn at the head's rate.
    """
    layers = network.config.encoder.num_hidden_layers
    full = config.tuning == "full"
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in _trainable(trained).items():
        undecayed = parameter.ndim < 2 or "embed" in name or name.endswith("shared.weight")
        depth = layer_depth(name, layers) if full else layers + 1
        groups.setdefault((depth, undecayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * config.layer_decay ** (layers + 1 - depth),
            "weight_decay": 0.0 if undecayed else config.weight_decay,
        }
        for (depth, undecayed), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def layer_depth(name: str, layers: int) -> int:
    """0 for word vectors, 1..layers for the language model's layers, layers + 1 for the head."""
    if name.startswith("head."):
        return layers + 1
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    if numbers:
        return min(numbers[0] + 1, layers)
    return layers if "final" in name or name.startswith("encoder.norm") else 0


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Shows progress, judges the model on dev after each epoch, keeps the average, marks whole checkpoints."""

    def __init__(
        self,
        trainer: _Trainer,
        history_file: Path,
        total: int,
        config: TeacherConfig,
        judge: Judge,
        trained: nn.Module,
        average: _Average | None,
    ) -> None:
        self._trainer, self._file, self._total = trainer, history_file, total
        self._per_epoch, self._batch = total / config.epochs, config.batch_size
        self._judge, self._trained, self._average = judge, trained, average
        self._bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        rows = read_json(self._file) if self._file.exists() else []
        # Epochs judged after the checkpoint that is continued from are trained and judged again.
        if state.is_world_process_zero:
            write_json(self._file, [row for row in rows if row["step"] <= state.global_step])
        if state.global_step:
            say(f"teacher: continuing from step {state.global_step:,} of {self._total:,}")
            if self._average is not None:
                self._average.load(self._checkpoint(args, state) / _AVERAGE)
        done = state.global_step * self._batch
        if state.is_world_process_zero:
            self._bar = Progress("teacher: train", self._total * self._batch, "pairs", done)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._average is not None:
            self._average.update(self._trained)
        if self._bar is not None:
            self._bar.advance(self._batch)
        finished = state.global_step / self._per_epoch
        last = state.global_step == self._total
        if state.is_world_process_zero and (last or int(finished) > int((state.global_step - 1) / self._per_epoch)):
            self._record(state.global_step, finished)
        if last and self._bar is not None:
            self._bar.close()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = self._checkpoint(args, state)
            if self._average is not None:
                self._average.save(folder / _AVERAGE)
            (folder / COMPLETE).touch()

    def _checkpoint(self, args: Any, state: Any) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}"

    def _record(self, step: int, epoch: float) -> None:
        if self._average is not None:
            self._average.swap(self._trained)
        found = self._judge()
        if self._average is not None:
            self._average.swap(self._trained)
        loss = self._trainer.loss_sum / max(self._trainer.n_losses, 1)
        self._trainer.loss_sum, self._trainer.n_losses = 0.0, 0
        row = {"step": step, "epoch": round(epoch, 2), "loss": loss, **found}
        write_json(self._file, [*read_json(self._file), row])
        say(f"teacher: epoch {row['epoch']:g}: dev loss {row['dev_loss']:.4f}, mean AUROC {row['dev_auroc']:.4f}")
