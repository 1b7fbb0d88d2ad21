from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import yaml

from pertinent.captions import CaptionsConfig
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_json
from pertinent.links import LinksConfig
from pertinent.pipeline.fields import data_folder, load_fields_config, run_fields
from pertinent.pipeline.lock import run_lock

Shop = Callable[..., Path]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A run folder with a data stage, a folder of pages, and the config of the links stage."""
    data = tmp_path / "runs" / "shop" / "data"
    data.mkdir(parents=True)
    pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]}).write_parquet(data / "items.parquet")
    judged = {"query_id": ["q"], "query": ["box"], "item_id": ["a"], "grade": [1], "split": ["train"]}
    pl.DataFrame(judged).write_parquet(data / "judgments.parquet")
    about = {"name": "tiny", "generated": True, "note": "", "licence": "", "languages": ["en"], "attributes": []}
    write_json(data / "dataset.json", {**about, "scale": {"guidelines": ["bad", "good"]}})
    config = tmp_path / "shop"
    (config / "pages").mkdir(parents=True)
    for name in ("a", "b"):
        (config / "pages" / f"{name}.html.gz").write_bytes(gzip.compress(f"<title>Page {name}</title>".encode()))
    (config / "links.yaml").write_text(yaml.safe_dump({"pages": {"folder": "pages"}}))
    return tmp_path


def run_links(file: Path, target: Path, out: Path | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    return run_fields("links", load_fields_config("links", LinksConfig, file, overrides), target, out)


def test_the_stage_is_run_beside_the_data_and_skipped_when_nothing_changed(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop")
    out = shop / "runs" / "shop" / "links"
    assert done["folder"] == str(out)
    assert done["counts"]["items_with_link_text"] == 2
    assert pl.read_parquet(out / "fields.parquet")["link_title"].to_list() == ["Page a", "Page b"]
    manifest = orjson.loads((out / "manifest.json").read_bytes())
    assert manifest["stage"] == "links"
    assert manifest["config"]["pages"]["folder"] == str(shop / "shop" / "pages")
    assert run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop" / "data") == done
    assert "links: up to date, skipped" in capsys.readouterr().err
    (shop / "shop" / "pages" / "a.html").write_text("<title>Another</title>")
    again = run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop")
    assert again["inputs"] != done["inputs"]
    assert pl.read_parquet(out / "fields.parquet")["link_title"].to_list() == ["Another", "Page b"]


def test_another_folder_and_other_settings(shop: Path) -> None:
    done = run_links(
        shop / "shop" / "links.yaml",
        shop / "runs" / "shop",
        shop / "here",
        overrides=["max_title_chars=8", "unit_pages=1"],
    )
    assert done["config"]["max_title_chars"] == 8
    assert sorted(file.name for file in (shop / "here").iterdir()) == [
        "fields.parquet",
        "manifest.json",
        "quarantine.parquet",
        "unit-00000.parquet",
        "unit-00001.parquet",
    ]


def test_paths_are_taken_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop" / "images").mkdir(parents=True)
    (tmp_path / "shop" / "blip").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "shop" / "captions.yaml"
    file.write_text(yaml.safe_dump({"model": "blip", "images": {"folder": "images", "table": "none.parquet"}}))
    monkeypatch.chdir(tmp_path)
    config = load_fields_config("captions", CaptionsConfig, file)
    assert config.images.folder == tmp_path / "shop" / "images"
    assert config.model == str(tmp_path / "shop" / "blip")
    assert config.images.table == Path("none.parquet")  # nowhere: told as it was written
    assert config.cache is None
    told = load_fields_config("captions", CaptionsConfig, file, ["images.folder=elsewhere", "model=some/name"])
    assert told.images.folder == Path("elsewhere")
    assert told.model == "some/name"
    warc = tmp_path / "shop" / "x.warc"
    warc.write_bytes(b"")
    pages: dict[str, Any] = {"holds": "url", "column": "link", "warc": ["x.warc", "y.warc"]}
    file.write_text(yaml.safe_dump({"pages": pages}))
    links = load_fields_config("links", LinksConfig, file)
    assert links.pages.warc == (warc, Path("y.warc"))


def test_what_is_no_data_folder(tmp_path: Path, shop: Path) -> None:
    with pytest.raises(DataError, match=r"expected a data stage's folder or a run folder, found no dataset.json"):
        data_folder(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"links.yaml: unknown key pages.foldr; did you mean folder\?"):
        run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop", overrides=["pages.foldr=x"])


def test_a_setting_of_speed_redoes_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop")
    assert run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop", overrides=["workers=2"]) == done
    assert "links: up to date, skipped" in capsys.readouterr().err


def test_a_run_at_work_in_the_folder_is_not_disturbed(shop: Path) -> None:
    with run_lock(shop / "runs" / "shop"), pytest.raises(DataError, match="expected no other run in this folder"):
        run_links(shop / "shop" / "links.yaml", shop / "runs" / "shop")
