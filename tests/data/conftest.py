"""Small dataset folders made on the spot, and the real ones where PERTINENT_DATA names their folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from pertinent.data.build import Dataset, build_dataset, load_dataset
from pertinent.data.config import DataConfig
from pertinent.data.esci import EXAMPLES, PRODUCTS
from pertinent.types import StageResult

N_QUERIES = 60  # "q 0" .. "q 59": 45 in train, 8 in dev, 7 in test
N_ESCI = 120
Write = Callable[..., Path]
Build = Callable[..., tuple[Dataset, pl.DataFrame, StageResult]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(items=..., judgments=..., log=...) -> a folder of CSV files; by default a whole, valid data set."""

    def make(
        items: str | None = None, judgments: str | None = None, extra: Sequence[str] = (), log: str | None = None
    ) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        default_items = "\n".join(["item_id,title", *(f"i{k},Title {k}" for k in range(20))])
        rows = [f"q {q},i{(q * 3 + k) % 20},{(q + k) % 5}" for q in range(N_QUERIES) for k in range(4)]
        default_judgments = "\n".join(["query,item_id,grade", *rows, *extra])
        (folder / "items.csv").write_text(items if items is not None else default_items + "\n")
        (folder / "judgments.csv").write_text(judgments if judgments is not None else default_judgments + "\n")
        if log is not None:
            (folder / "log.csv").write_text(log)
        return folder

    return make


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """build(folder, **config) -> the loaded canonical data set, its quarantine and the stage's result."""

    def run(folder: Path, **settings: object) -> tuple[Dataset, pl.DataFrame, StageResult]:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        config = DataConfig.model_validate({"path": folder, **settings})
        result = build_dataset(config, out)
        return load_dataset(out), pl.read_parquet(out / "quarantine.parquet"), result

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real judged data; tests on it are skipped where there is none."""
    folder = os.environ.get("PERTINENT_DATA")
    if not folder:
        pytest.skip("PERTINENT_DATA is unset: no real judged data here")
    return Path(folder)


@pytest.fixture
def official_esci(tmp_path: Path) -> Path:
    """120 queries in two marketplaces: every fifth one in the release's own test split, every second small."""
    folder = tmp_path / "esci"
    folder.mkdir()
    rows = [
        {
            "example_id": k,
            "query": f"query {k % N_ESCI}",
            "query_id": k % N_ESCI,
            "product_id": f"{locale}{k % 37}",
            "product_locale": locale,
            "esci_label": "ISCE"[k % 4],
            "small_version": int(k % N_ESCI % 2),
            "large_version": 1,
            "split": "test" if k % N_ESCI % 5 == 0 else "train",
        }
        for locale in ("us", "jp")
        for k in range(2 * N_ESCI)
    ]
    pl.DataFrame(rows).write_parquet(folder / EXAMPLES)
    products = [
        {
            "product_id": f"{locale}{k}",
            "product_title": f"Title {k}",
            "product_description": None,
            "product_bullet_point": "one\n\ntwo" if k % 2 else None,
            "product_brand": "Acme",
            "product_color": "red",
            "product_locale": locale,
        }
        for locale in ("us", "jp")
        for k in range(50)
    ]
    pl.DataFrame(products).write_parquet(folder / PRODUCTS)
    return folder
