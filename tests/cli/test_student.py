"""`pertinent student index`: the command, and what is told of bad input."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import orjson
import pytest

from pertinent.cli import main
from shops import ITEMS, Shop, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_backbone / "tokenizer.json", sides=False)


def run(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], *arguments: object
) -> tuple[object, bytes, str]:
    monkeypatch.setattr(sys, "argv", ["pertinent", "student", "index", *map(str, arguments)])
    capfdbinary.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main()
    out, error = capfdbinary.readouterr()
    return exit_.value.code, out, error.decode()


def test_a_catalogue_is_indexed_and_reported(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    bundle = shutil.copytree(shop.bundle, tmp_path / "run" / "student")
    items = tmp_path / "items.jsonl"
    items.write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in [*ITEMS[1:], {**ITEMS[0], "title": "Blue bed"}]))
    code, out, error = run(monkeypatch, capfdbinary, tmp_path / "run", items)
    assert code == 0, error
    told = orjson.loads(out)
    assert (told["bundle"], told["store"]) == (str(bundle), "items-2")
    assert (told["items"], told["changed"], told["kept"], told["deleted"]) == (5, 1, 4, 0)
    code, out, _ = run(monkeypatch, capfdbinary, bundle, shop.data / "items.parquet", "--share", "1", "--no-title")
    assert (code, orjson.loads(out)["small_changes"]) == (0, 1)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b'{"title": "no id"}\n', "items.jsonl: expected the column item_id, found title"),
        (b'{"item_id": "", "title": "a"}\n', "items.jsonl:1: item_id must not be empty"),
        (None, "items.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    rows: bytes | None,
    said: str,
) -> None:
    items = tmp_path / "items.jsonl"
    if rows is not None:
        items.write_bytes(rows)
    code, out, error = run(monkeypatch, capfdbinary, shop.bundle, items)
    assert (code, out) == (2, b"")
    assert error.startswith("pertinent: ")
    assert said in error
    assert error.count("\n") == 1
