"""What else could stand behind the same HTTP stack: LightGBM on the student's features, and a MiniLM cross-encoder in int8.

    python benchmarks/serving_rivals.py lightgbm BUNDLE FOLDER

serves one worker on a free port of loopback, as `pertinent serve` does, with another scorer in it. LightGBM is as Metarank
has it: 100 trees of 31 leaves over features that exist at request time, here those of the bundle. It learns the student's
own relevance, since only its speed is looked at. The cross-encoder is all-MiniLM-L6-v2 with an untrained head: what it
says is void, its cost is that of the trained ones, which have the same body. Both compute on one thread.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle import Scorer, open_bundle
from pertinent.bundle.scorer import grades_and_relevance
from pertinent.bundle.store import PROBE
from pertinent.errors import DataError
from pertinent.files import read_parquet
from pertinent.serving.bundles import Loaded
from pertinent.serving.scoring import Scored, score_documents
from pertinent.serving.settings import Settings
from pertinent.serving.stores.embedded import EmbeddedStore

Documents = Callable[[Loaded, str, Sequence[str | None], Sequence[str | None], int], Scored]
SEED = 0
_TRAINING_PAIRS, _BOOSTER, _MAX_TOKENS = 20_000, "booster.txt", 96


class Booster:
    """Stands for a bundle's onnxruntime session: the same features, LightGBM's prediction."""

    def __init__(self, file: Path, n_grades: int) -> None:
        import lightgbm

        self._model, self._n_grades = lightgbm.Booster(model_file=str(file)), n_grades

    def run(self, _: Sequence[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """(C, n) float32: the prediction as the probability of the top grade, the rest on the lowest."""
        relevance = np.clip(self._model.predict(feeds["features"], num_threads=1), 0.0, 1.0)
        probs = np.zeros((relevance.size, self._n_grades), dtype=np.float32)
        probs[:, -1], probs[:, 0] = relevance, 1.0 - relevance
        return [probs]


def with_booster(scorer: Scorer, folder: Path) -> Scorer:
    """The scorer with LightGBM in the place of its network."""
    return dataclasses.replace(scorer, session=Booster(folder / _BOOSTER, scorer.scale.n_grades))


def probe_queries(scorer: Scorer, bundle: Path) -> list[str]:
    """The queries of the bundle's probe set."""
    probe = read_parquet(bundle / scorer.description["store"] / PROBE, ["query"])
    return list(probe["query"].unique(maintain_order=True))


def prepare_lightgbm(bundle: Path, folder: Path, *, quick: bool) -> None:
    """Train it on random pairs of the bundle's probe queries and items."""
    import lightgbm

    scorer, chance = open_bundle(bundle), random.Random(SEED)
    queries = probe_queries(scorer, bundle)
    n_items = len(scorer.row_of)
    features, relevance = [], []
    for _ in range(5 if quick else _TRAINING_PAIRS // 100):
        rows = np.array(chance.choices(range(n_items), k=100), dtype=np.int64)
        inputs = scorer.inputs(chance.choice(queries), rows)
        features.append(inputs[2])
        relevance.append(grades_and_relevance(scorer.run(*inputs))[1])
    model = lightgbm.LGBMRegressor(random_state=SEED, n_jobs=1, verbose=-1)
    model.fit(np.concatenate(features), np.concatenate(relevance))
    model.booster_.save_model(str(folder / _BOOSTER))


def prepare_minilm(bundle: Path, folder: Path) -> None:
    """Write it as a teacher folder, and its int8 ONNX form."""
    from pertinent.teacher.backbones import resolve_backbone
    from pertinent.teacher.calibration import Calibration
    from pertinent.teacher.config import TeacherConfig
    from pertinent.teacher.saving import Trained, load_teacher, save_teacher
    from pertinent.teacher.train import prepare_network
    from teacher_models import minilm_folder

    n_grades = open_bundle(bundle).scale.n_grades
    config = TeacherConfig(backbone=minilm_folder(), max_tokens=_MAX_TOKENS, precision="float32")
    backbone = resolve_backbone(config.backbone)
    made = prepare_network(backbone, config, n_grades, SEED)
    trained = Trained(
        network=made.network,
        adapters=made.adapters,
        pairs=made.pairs,
        tokenizer_file=backbone.tokenizer_file,
        pad_id=made.pad_id,
        calibration=Calibration.none(config.head, n_grades),
        precision=config.precision,
        batch_tokens=config.score_batch_tokens,
        backbone=backbone.description,
        template=None,
    )
    save_teacher(trained, folder, "all-MiniLM-L6-v2 with an untrained head, to measure its speed.\n")
    load_teacher(folder, engine="onnx_int8")


def minilm(folder: Path) -> Documents:
    """`score_documents` by the cross-encoder, of texts alone."""
    import torch

    from pertinent.teacher.saving import load_teacher

    torch.set_num_threads(1)  # of the ONNX session too
    teacher = load_teacher(folder, engine="onnx_int8")

    def score(loaded: Loaded, query: str, ids: Sequence[str | None], texts: Sequence[str | None], batch: int) -> Scored:
        began = time.perf_counter()
        probs = teacher.score([query] * len(texts), [text or "" for text in texts])
        spent = time.perf_counter() - began
        none = np.zeros((len(texts), len(loaded.feature_names)), dtype=np.float32)
        return Scored(probs, none, *grades_and_relevance(probs), network_s=spent)

    return score


PREPARE: dict[str, Callable[..., None]] = {
    "lightgbm": prepare_lightgbm,
    "minilm": lambda bundle, folder, *, quick: prepare_minilm(bundle, folder),
}


def scorer_of(system: str, bundle: Path, folder: Path) -> tuple[Loaded, Documents]:
    """What the server of a rival holds, for the score without a server."""
    scorer = open_bundle(bundle)
    documents: Documents = score_documents
    if system == "lightgbm":
        scorer = with_booster(scorer, folder)
    else:
        documents = minilm(folder)
    return Loaded(scorer, bundle, "", EmbeddedStore(scorer)), documents


def texts_of(bundle: Path) -> dict[str, str]:
    """Item ID -> the text that a teacher reads. Raises DataError where the bundle lies in no run folder."""
    file = bundle.parent / "text" / "items.parquet"
    if not file.is_file():
        raise DataError(f"{file}: expected the texts of the run that made the bundle, found none")
    rows = read_parquet(file, ["item_id", "text"])
    return dict(rows.unique("item_id", keep="first", maintain_order=True).iter_rows())


def main() -> None:
    """Serve until SIGTERM."""
    system, bundle, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as control:
        # As `pertinent serve`: prometheus_client looks at this when it is first imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = control
        _serve(system, bundle, folder, Path(control))


def _serve(system: str, bundle: Path, folder: Path, control: Path) -> None:
    import socket

    import uvicorn

    from pertinent.serving import answers, bundles
    from pertinent.serving.app import create_app

    settings = Settings(bundle=bundle, access_log=False)
    bundles.start(settings, control)
    if system == "lightgbm":
        opened = bundles.open_bundle
        bundles.open_bundle = lambda *told, **named: with_booster(opened(*told, **named), folder)  # type: ignore[attr-defined]
    else:
        answers.score_documents = minilm(folder)  # type: ignore[attr-defined]
    config = uvicorn.Config(
        create_app(settings, control),
        http="pertinent.serving.protocol:PatientProtocol",
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as bound:
        sys.stderr.write(f"serve: http://127.0.0.1:{bound.getsockname()[1]}\n")
        sys.stderr.flush()
        uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main()
