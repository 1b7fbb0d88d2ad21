from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from pertinent.errors import ConfigError, DataError, ModelError
from pertinent.evaluation.classification import log_loss, mean_auroc
from pertinent.files import read_json
from pertinent.teacher import trainer
from pertinent.teacher.backbones import resolve_backbone
from pertinent.teacher.calibration import Calibration
from pertinent.teacher.config import TeacherConfig
from pertinent.teacher.model import score_rows
from pertinent.teacher.saving import load_teacher
from pertinent.teacher.train import train_teacher
from pertinent.types import StageResult

# 48 training rows in batches of 8: 6 steps an epoch, checkpoints at 4, 8, 12, 16, judgements at 6, 12, 18.
Stages = tuple[Path, Path]
Train = Callable[..., StageResult]
ConfigOf = Callable[..., TeacherConfig]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="4-bit weights need bitsandbytes"
)


def largest_difference(one: Path, other: Path) -> float:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def dev_pairs(stages: Stages) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """Queries, texts and grades of the dev split."""
    judgments = pl.read_parquet(stages[0] / "judgments.parquet").filter(pl.col("split") == "dev")
    texts = dict(pl.read_parquet(stages[1] / "items.parquet").iter_rows())
    return judgments["query"].to_list(), [texts[i] for i in judgments["item_id"]], judgments["grade"].to_numpy()


def dies_at(step: int, patched: pytest.MonkeyPatch) -> None:
    """The process ends at this step, before its judgement and its checkpoint."""
    whole_step = trainer._Watch.on_step_end

    def dies(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt
        whole_step(self, args, state, control, **rest)

    patched.setattr(trainer._Watch, "on_step_end", dies)


@pytest.fixture(scope="module")
def undisturbed(
    train: Train, config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StageResult]:
    out = tmp_path_factory.mktemp("undisturbed")
    return out, train("bert", out, config_of(epochs=3))


def test_training_lowers_the_loss_and_leaves_a_teacher(undisturbed: tuple[Path, StageResult], stages: Stages) -> None:
    out, result = undisturbed
    history = read_json(out / "history.json")
    assert [row["step"] for row in history] == [6, 12, 18]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["dev_loss"] < history[0]["dev_loss"]
    counts = result.counts
    assert (counts["train_rows"], counts["train_queries"], counts["dev_rows"]) == (48, 12, 12)
    assert (counts["dev_loss"], counts["dev_auroc"]) == (history[-1]["dev_loss"], history[-1]["dev_auroc"])
    assert counts["n_parameters"] == sum(value.numel() for value in load_file(out / "model.safetensors").values())
    assert counts["n_trained_parameters"] == counts["n_parameters"]
    teacher = load_teacher(out)
    assert teacher.members[0].calibration.to_dict() == counts["calibration"]
    assert np.load(out / "token_vectors.npy").dtype == np.float16
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {}),
        ("bert", {"ema": 0.8}),
        ("t5", {"head": "coral"}),
        ("llama", {"tuning": "lora", "head": "corn"}),
        ("xlm-roberta", {"pooling": "first"}),
    ],
)
def test_what_was_judged_last_is_what_was_saved(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    """The folder, opened and given the dev pairs, has the last figures of the history: of the averaged weights too."""
    train(kind, tmp_path, config_of(**changes))
    last = read_json(tmp_path / "history.json")[-1]
    queries, texts, grades = dev_pairs(stages)
    probs = load_teacher(tmp_path).score(queries, texts)
    assert log_loss(grades, probs) == pytest.approx(last["dev_loss"], abs=1e-4)
    assert mean_auroc(grades, probs) == pytest.approx(last["dev_auroc"], abs=1e-4)


@pytest.mark.parametrize("stop_at", [5, 7, 12])
def test_a_resumed_run_gives_the_weights_of_an_undisturbed_one(
    train: Train,
    config_of: ConfigOf,
    undisturbed: tuple[Path, StageResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    """It dies before, after and at a judgement."""
    with monkeypatch.context() as patched:
        dies_at(stop_at, patched)
        with pytest.raises(KeyboardInterrupt):
            train("bert", tmp_path, config_of(epochs=3))
    assert list((tmp_path / "checkpoints").glob("checkpoint-*"))
    result = train("bert", tmp_path, config_of(epochs=3))
    assert largest_difference(tmp_path, undisturbed[0]) <= 1e-6
    assert [row["step"] for row in read_json(tmp_path / "history.json")] == [6, 12, 18]
    assert result.counts["dev_loss"] == pytest.approx(undisturbed[1].counts["dev_loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {"ema": 0.9}),
        ("t5", {"dropout": 0.1}),
        ("llama", {"tuning": "lora", "ema": 0.5, "lora": {"dropout": 0.1}}),
        ("bert", {"augmentation": {"field_dropout": 0.4, "misspelling": 0.5}, "class_weights": "balanced"}),
        pytest.param("llama-64", {"tuning": "qlora"}, marks=needs_bitsandbytes),
    ],
)
def test_so_does_one_with_averages_dropout_adapters_or_augmentation(
    train: Train,
    config_of: ConfigOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    changes: dict[str, Any],
) -> None:
    config = config_of(**changes)
    train(kind, tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        dies_at(9, patched)
        with pytest.raises(KeyboardInterrupt):
            train(kind, tmp_path / "out", config)
    train(kind, tmp_path / "out", config)
    assert largest_difference(tmp_path / "out", tmp_path / "whole") <= 1e-6


def test_members_that_are_whole_are_kept_and_the_others_continued(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(members=2)
    result = train("bert", tmp_path / "whole", config)
    assert [member["seed"] for member in result.counts["members"]] == [3, 4]
    assert largest_difference(tmp_path / "whole" / "member-0", tmp_path / "whole" / "member-1") > 1e-3

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        n_starts = 0
        begin = trainer._Watch.on_train_begin

        def counted(self: Any, *arguments: Any, **rest: Any) -> None:
            nonlocal n_starts
            n_starts += 1
            if n_starts == 2:
                dies_at(9, patched)
            begin(self, *arguments, **rest)

        patched.setattr(trainer._Watch, "on_train_begin", counted)
        with pytest.raises(KeyboardInterrupt):
            train("bert", out, config)
    with pytest.raises(ModelError, match=r"expected a teacher folder with teacher\.json, found none"):
        load_teacher(out)
    kept = (out / "member-0" / "model.safetensors").stat().st_mtime_ns
    again = train("bert", out, config)
    assert (out / "member-0" / "model.safetensors").stat().st_mtime_ns == kept
    for member, whole in zip(again.counts["members"], result.counts["members"], strict=True):
        assert member == pytest.approx(whole, abs=1e-6)
    for k in range(2):
        assert largest_difference(out / f"member-{k}", tmp_path / "whole" / f"member-{k}") <= 1e-6
    figures, expected = (told.counts["calibration_error"]["all"] for told in (again, result))
    assert figures == pytest.approx(expected, abs=1e-4)

    queries, texts, _ = dev_pairs(stages)
    probs = [load_teacher(out / f"member-{k}").score(queries, texts) for k in range(2)]
    assert load_teacher(out).score(queries, texts) == pytest.approx((probs[0] + probs[1]) / 2, abs=1e-6)
    assert (out / "tokenizer.json").read_bytes() == (out / "member-0" / "tokenizer.json").read_bytes()
    assert (out / "token_vectors.npy").is_file()


def test_an_ensemble_is_told_by_the_figures_of_its_mean_beside_its_members(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path
) -> None:
    counts = train("bert", tmp_path, config_of(members=2)).counts
    queries, texts, grades = dev_pairs(stages)
    apart = [load_teacher(tmp_path / f"member-{k}").score(queries, texts) for k in range(2)]
    mean = (apart[0] + apart[1]) / 2
    assert counts["dev_loss"] == pytest.approx(log_loss(grades, mean), abs=1e-6)
    assert counts["dev_auroc"] == pytest.approx(mean_auroc(grades, mean), abs=1e-6)
    assert counts["dev_loss"] < np.mean([member["dev_loss"] for member in counts["members"]])  # log loss is convex
    summaries = [read_json(tmp_path / f"member-{k}" / "summary.json") for k in range(2)]
    assert counts["members"] == [
        {"seed": 3 + k, "dev_loss": one["dev_loss"], "dev_auroc": one["dev_auroc"]} for k, one in enumerate(summaries)
    ]
    for key in ("n_parameters", "n_trained_parameters"):
        assert counts[key] == 2 * summaries[0][key]
    for key in ("train_rows", "train_queries", "dev_rows", "backbone", "precision"):
        assert counts[key] == summaries[0][key]
    figures = counts["calibration_error"]["all"]
    assert figures["accuracy"] == pytest.approx((mean.argmax(axis=1) == grades).mean(), abs=1e-4)
    assert figures["log_loss"] == pytest.approx(counts["dev_loss"], abs=1e-4)
    card = (tmp_path / "README.md").read_text()
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")
    ]
    told = {row[0]: row[1:] for row in table}
    names = [column.replace(" ", "_") for column in told["language"]]
    assert told["all"] == ["12", *(f"{figures[name]:.3f}" for name in names[1:])]
    for k, one in enumerate(summaries):
        own = one["calibration_error"]["all"]
        expected = [own[name] for name in names[1:]]
        assert told[f"{k} (seed {3 + k})"] == ["12", *(f"{value:.3f}" for value in expected)]


def test_another_seed_gives_other_weights(
    train: Train, config_of: ConfigOf, undisturbed: tuple[Path, StageResult], tmp_path: Path
) -> None:
    train("bert", tmp_path, config_of(epochs=1), seed=4)
    assert largest_difference(tmp_path, undisturbed[0]) > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "coral", "target": "grade", "label_smoothing": 0.1},
        {"head": "corn", "target": "interpolated", "class_weights": "balanced"},
        {"head": "softmax", "target": "raters", "augmentation": {"field_dropout": 0.3, "misspelling": 0.3}},
    ],
)
def test_heads_targets_and_augmentation_train_by_config_alone(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path, changes: dict[str, Any]
) -> None:
    train("bert", tmp_path, config_of(epochs=3, **changes))
    history = read_json(tmp_path / "history.json")
    assert history[-1]["loss"] < history[0]["loss"]
    queries, texts, _ = dev_pairs(stages)
    probs = load_teacher(tmp_path).score(queries, texts)
    assert probs.shape == (12, 3)
    assert probs.min() >= 0
    assert probs.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-6)


@pytest.mark.parametrize("kind", ["xlm-roberta", "deberta-v2", "modernbert"])
def test_every_kind_of_encoder_trains_and_opens_in_torch_and_onnx(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path, kind: str
) -> None:
    train(kind, tmp_path, config_of(epochs=1))
    queries, texts, _ = dev_pairs(stages)
    probs = load_teacher(tmp_path).score(queries, texts)
    assert load_teacher(tmp_path, engine="onnx").score(queries, texts) == pytest.approx(probs, abs=1e-4)


def test_half_precision_trains_weights_that_are_kept_in_float32(
    train: Train, config_of: ConfigOf, tmp_path: Path
) -> None:
    result = train("bert", tmp_path, config_of(precision="bfloat16"))
    assert result.counts["precision"] == "bfloat16"
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    # Trained on in float32: few of the weights are numbers of bfloat16.
    moved = weights["encoder.encoder.layer.1.output.dense.weight"]
    assert (moved == moved.bfloat16().float()).float().mean() < 0.1
    load_teacher(tmp_path)


def test_adapters_train_fewer_weights_and_save_the_whole(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    counts = train("llama", tmp_path, config_of(tuning="lora", lora={"rank": 2})).counts
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert all((tmp_path / "adapter" / name).is_file() for name in names)
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert counts["n_trained_parameters"] == sum(value.numel() for value in adapter.values())
    assert counts["n_parameters"] == sum(value.numel() for value in load_file(tmp_path / "model.safetensors").values())


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_four_bit_teacher_is_calibrated_as_the_merged_network_that_is_saved(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path, precision: str
) -> None:
    """In the arithmetic that will score, which is not that of bitsandbytes' 4-bit layers."""
    counts = train("llama-64", tmp_path, config_of(tuning="qlora", precision=precision)).counts
    teacher = load_teacher(tmp_path)
    (member,) = teacher.members
    queries, texts, grades = dev_pairs(stages)
    rows = member.pairs.encode(queries, texts).rows
    logits = score_rows(member.engine, rows, member.pad_id, member.batch_tokens)
    expected = Calibration.fit("softmax", logits, grades, 3)
    assert member.calibration == expected
    assert counts["calibration"] == expected.to_dict()
    probs = teacher.score(queries, texts)
    assert counts["dev_loss"] == pytest.approx(log_loss(grades, probs), abs=1e-6)
    assert counts["dev_auroc"] == pytest.approx(mean_auroc(grades, probs), abs=1e-6)
    log_losses = counts["calibration_error"]["all"]["log_loss"], read_json(tmp_path / "history.json")[-1]["dev_loss"]
    assert log_losses[0] == pytest.approx(counts["dev_loss"], abs=1e-4)
    assert abs(log_losses[1] - counts["dev_loss"]) > 1e-6  # what training judged were other logits
    card = (tmp_path / "README.md").read_text()
    assert f"| all | 12 | {counts['calibration_error']['all']['accuracy']:.3f} |" in card


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "llama"])
def test_more_tokens_than_the_backbone_has_positions_are_a_config_error(
    train: Train, config_of: ConfigOf, tmp_path: Path, kind: str
) -> None:
    """128 in each: XLM-R's 130 begin after that of padding, which is 1."""
    with pytest.raises(ConfigError, match=r"teacher\.max_tokens: expected at most the backbone's 128, found 129"):
        train(kind, tmp_path, config_of(max_tokens=129))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "llama"])
def test_pairs_of_as_many_tokens_as_there_are_positions_are_read(untrained: Callable[..., Any], kind: str) -> None:
    made = untrained(kind, max_tokens=128)
    (row,) = made.pairs.encode(["red"], ["oak " * 200]).rows
    assert len(row) == 128
    with torch.inference_mode():
        logits = made.network(torch.tensor([row]), torch.ones(1, 128, dtype=torch.int64)).logits
    assert logits.isfinite().all()


def test_a_backbone_without_a_padding_token_needs_one_told(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.pad_token: missing; .* names no padding token"):
        train("llama", tmp_path / "none", config_of(pad_token=None))
    with pytest.raises(ConfigError, match=r"teacher\.pad_token: expected a token of .*, found '<pad>'"):
        train("llama", tmp_path / "unknown", config_of(pad_token="<pad>"))
    train("llama", tmp_path / "told", config_of(pad_token="[SEP]", epochs=1))
    assert load_teacher(tmp_path / "told").members[0].pad_id == 3
    assert read_json(tmp_path / "told" / "tokenizer_config.json")["pad_token"] == "[SEP]"


def test_the_padding_token_is_never_attended_to(
    train: Train, config_of: ConfigOf, stages: Stages, tmp_path: Path
) -> None:
    for token in ("[SEP]", "lamp"):
        train("llama", tmp_path / token, config_of(pad_token=token, epochs=1, tuning="lora"))
    assert largest_difference(tmp_path / "[SEP]", tmp_path / "lamp") < 1e-6


def test_pairs_that_are_cut_are_counted(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    # A pair has 2 and 10 tokens; BERT adds 3, Llama's template 22.
    whole = train("bert", tmp_path / "whole", config_of(max_tokens=16, epochs=1)).counts
    assert (whole["train_rows_cut"], whole["dev_rows_cut"]) == (0, 0)
    cut = train("llama", tmp_path / "cut", config_of(max_tokens=32, epochs=1)).counts
    assert (cut["train_rows_cut"], cut["dev_rows_cut"]) == (48, 12)


def test_a_limit_on_rows_is_reported(train: Train, config_of: ConfigOf, tmp_path: Path) -> None:
    counts = train("bert", tmp_path, config_of(max_train_rows=10, epochs=1)).counts
    assert (counts["train_rows"], counts["train_queries"], counts["dev_rows"]) == (10, 3, 12)


def with_judgments(stages: Stages, folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Stages:
    """The stages with other judgments."""
    folder.mkdir()
    for file in stages[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(pl.read_parquet(stages[0] / "judgments.parquet")).write_parquet(folder / "judgments.parquet")
    return folder, stages[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.with_columns(grade=pl.lit(1)), r"at least two grades, found \[1\]"),
        (lambda rows: rows.filter(pl.col("split") == "dev"), r"at least two grades, found \[\]"),
        (lambda rows: rows.filter(pl.col("split") == "train"), "dev judgments of at least two grades, found"),
        (
            lambda rows: rows.filter((pl.col("split") == "train") | (pl.col("grade") == 0)),
            r"dev judgments of at least two grades, found \[0\]",
        ),
    ],
)
def test_a_split_of_one_grade_or_none_is_a_data_error(
    stages: Stages,
    tiny_backbone: Path,
    config_of: ConfigOf,
    tmp_path: Path,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
) -> None:
    changed = with_judgments(stages, tmp_path / "data", change)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=message):
        train_teacher(config_of(), *changed, tmp_path / "out", backbone=resolve_backbone(str(tiny_backbone)), seed=3)
