"""`pertinent items`: the commands on a folder of changes, and what is told of bad input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.cli import main
from shops import ITEMS, Shop, make_shop

Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_backbone / "tokenizer.json")


@pytest.fixture
def pertinent(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs a command: its exit code, the JSON document on stdout or None, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["pertinent", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        out, error = capfdbinary.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return code, orjson.loads(out) if out else None, error.decode()

    return run


def test_changed_items_are_loaded_and_deleted(pertinent: Command, shop: Shop, tmp_path: Path) -> None:
    store, table = tmp_path / "store", tmp_path / "items.parquet"
    changed = pl.read_parquet(shop.data / "items.parquet").with_columns(
        title=pl.when(pl.col("item_id") == "rug").then(pl.lit("Blue wool rug")).otherwise("title")
    )
    changed.write_parquet(table)
    code, told, error = pertinent("items", "load", store, shop.bundle, table)
    assert (code, told["items"], told["written"], told["unchanged"], told["refused"]) == (0, 5, 1, 4, {})
    assert "items: load: 5 items" in error
    code, told, _ = pertinent("items", "delete", store, shop.bundle, table)
    assert (code, told["deleted"], told["absent"]) == (0, len(ITEMS), 0)
    code, told, _ = pertinent("items", "load", store, shop.bundle)
    assert (code, told["written"]) == (0, len(ITEMS))


@pytest.mark.parametrize(
    ("store", "table", "said"),
    [
        ("ftp://somewhere", "items.jsonl", "expected redis://HOST:PORT/DB or a folder"),
        ("redis://127.0.0.1:1", "items.jsonl", "redis://127.0.0.1:1: Error"),
        ("store", "nowhere.parquet", "nowhere.parquet: no such file"),
        ("store", "broken.parquet", "broken.parquet: not a readable Parquet file"),
        ("store", "titles.csv", "expected the column item_id, found title"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    pertinent: Command, shop: Shop, tmp_path: Path, store: str, table: str, said: str
) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "b"}\n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "titles.csv").write_text("title\nb\n")
    address = store if ":" in store else str(tmp_path / store)
    code, told, error = pertinent("items", "load", address, shop.bundle, tmp_path / table)
    assert (code, told) == (2, None)
    assert said in error.splitlines()[-1]
