"""A trained head survives saving: Gemma-3-270M with QLoRA on a CPU, e5 in full and with LoRA, each form reloaded.

    python benchmarks/head_round_trip.py

A row is a model and a form: how far its logits on held-out pairs are from those of the network that was trained, and how
far they would be with a fresh head (which shows that the check can fail).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import (
    Row,
    Target,
    chosen_rows,
    each_apart,
    new_row,
    parser_of,
    peak_gib,
    print_table,
    print_targets,
    results_folder,
    run_main,
    write_results,
)
from homedepot import HomeDepot
from pertinent.teacher.adapters import load_adapters
from pertinent.teacher.backbones import Backbone, resolve_backbone
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.cross_encoder import CrossEncoder
from pertinent.teacher.engines import TorchEngine
from pertinent.teacher.model import score_rows
from pertinent.teacher.rows import training_judgments, training_rows
from pertinent.teacher.saving import Trained, load_network, load_teacher, save_teacher
from pertinent.teacher.train import PreparedNetwork, new_network, prepare_network
from pertinent.teacher.trainer import train_network

N_PROBE = 64
BATCH = 16
STEPS = 12
MODELS: dict[str, dict[str, Any]] = {
    "gemma-qlora": {"backbone": "packaged:gemma-3-270m", "tuning": "qlora", "learning_rate": 2e-4},
    "e5-lora": {"backbone": "packaged:multilingual-e5-small", "tuning": "lora", "learning_rate": 5e-4},
    "e5-full": {"backbone": "packaged:multilingual-e5-small", "tuning": "full"},
}
FORMS = {"gemma-qlora": ("adapter", "merged"), "e5-lora": ("adapter", "merged", "onnx"), "e5-full": ("merged", "onnx")}
TOLERANCE = 1e-4
COLUMNS = ("largest_difference", "with_a_fresh_head", "peak_gib")


def main() -> None:
    """Train, save, reload and compare the chosen rows; each model in a process of its own."""
    started = time.monotonic()
    arguments = parser_of(__doc__).parse_args()
    names = chosen_rows([f"{model}/{form}" for model, forms in FORMS.items() for form in forms], arguments.rows)
    groups = [[name for name in names if name.startswith(f"{model}/")] for model in FORMS]
    groups = [group for group in groups if group]
    if each_apart(groups, arguments):
        return
    model = names[0].partition("/")[0]
    rows = round_trip(model, [name.partition("/")[2] for name in names], steps=2 if arguments.quick else STEPS)
    folder = results_folder(arguments)
    document = write_results("head_round_trip", rows, targets, seeds=[0], started=started, folder=folder)
    print_table(document["rows"], COLUMNS)
    print_targets(document)


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Every form within 1e-4 of the trained network's logits (4-bit: within 1e-3 of its own dequantised weights)."""
    found = []
    for model, forms in FORMS.items():
        for form in forms:
            aim = 1e-3 if (model, form) == ("gemma-qlora", "merged") else TOLERANCE
            measured = rows.get(f"{model}/{form}", {}).get("largest_difference")
            found.append(Target(f"{model}, {form}: largest difference of a logit", aim, "<=", measured))
    return found


def round_trip(model: str, forms: list[str], *, steps: int) -> list[Row]:
    """Train ``steps`` batches, save, reload each form, and compare it with the network that was trained."""
    homedepot = HomeDepot.prepared()
    config = TeacherConfig(
        **{**MODELS[model], "max_tokens": 64, "epochs": 1, "batch_size": BATCH, "max_train_rows": BATCH * steps}
    )
    backbone = resolve_backbone(config.backbone)
    n_grades = homedepot.dataset.scale.n_grades
    pairs = homedepot.held_out.filter(split="test").head(N_PROBE)
    queries, texts = pairs["query"].to_list(), [homedepot.texts[item] for item in pairs["item_id"]]
    made = prepare_network(backbone, config, n_grades, seed=0)
    judgments = training_judgments(homedepot.dataset.judgments, config.max_train_rows, 0)
    texts_read = [homedepot.texts[item] for item in judgments["item_id"]]
    rows = training_rows(judgments, texts_read, made.pairs, config, n_grades, 0)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        started = time.monotonic()
        train_network(
            made.network,
            made.adapters or made.network,
            rows,
            config,
            made.pad_id,
            folder,
            seed=0,
            judge=lambda: {"dev_loss": 0.0, "dev_auroc": 0.0},
        )
        ids = made.pairs.encode(queries, texts).rows

        def logits(network: CrossEncoder) -> NDArray[np.float32]:
            for module in network.modules():
                if hasattr(module, "compute_dtype"):  # a 4-bit layer: its weights are compared, not its rounding
                    module.compute_dtype = torch.float32
            return score_rows(TorchEngine(network, bfloat16=False), ids, made.pad_id, 4096)

        reference = logits(made.network)
        save_teacher(trained_of(made, config, backbone), folder, "")
        fresh = load_network(folder)
        fresh.head.reset()
        figures = {
            "with_a_fresh_head": float(np.abs(logits(fresh) - reference).max()),
        }
        measured = []
        for form in forms:
            if form == "adapter":
                plain = new_network(backbone, config, n_grades, seed=1)
                found = logits(load_adapters(plain, folder / "adapter"))
            elif form == "merged":
                found = logits(load_network(folder))
            else:
                engine = load_teacher(folder, engine="onnx").members[0].engine
                found = score_rows(engine, ids, made.pad_id, 4096)
            difference = {"largest_difference": float(np.abs(found - reference).max())}
            memory = {"peak_gib": peak_gib()}
            measured.append(new_row(f"{model}/{form}", {**difference, **figures, **memory}, time.monotonic() - started))
    return measured


def trained_of(made: PreparedNetwork, config: TeacherConfig, backbone: Backbone) -> Trained:
    """What is saved, without a calibration."""
    return Trained(
        network=made.network,
        adapters=made.adapters,
        pairs=made.pairs,
        tokenizer_file=backbone.tokenizer_file,
        pad_id=made.pad_id,
        calibration=Calibration.none(config.head, made.network.config.n_grades),
        precision="float32",
        batch_tokens=config.score_batch_tokens,
        backbone=backbone.description,
        template=config.template if made.architecture == "decoder" else None,
    )


if __name__ == "__main__":
    run_main(main)
