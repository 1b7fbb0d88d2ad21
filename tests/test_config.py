from __future__ import annotations

from pathlib import Path

import pytest

from pertinent.captions import CaptionsConfig
from pertinent.config import Config, load_config
from pertinent.errors import ConfigError
from pertinent.links import LinksConfig
from pertinent.pipeline import load_run_config

FIELD_STAGES: dict[str, type[Config]] = {"captions": CaptionsConfig, "links": LinksConfig}
EVERY = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
CONFIGS = [file for file in EVERY if file.parent.name not in FIELD_STAGES]


class Inner(Config):
    rate: float = 1.0


class Outer(Config):
    name: str
    inner: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_there_are_shipped_configs() -> None:
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_config_loads(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("homedepot", "esci_us_small"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PERTINENT_DATA", str(tmp_path))
    assert load_run_config(file).name == file.stem


@pytest.mark.parametrize("file", sorted({*EVERY} - {*CONFIGS}), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_config_of_a_stage_that_makes_fields_loads(file: Path) -> None:
    load_config(FIELD_STAGES[file.parent.name], file)


def test_each_stage_that_makes_fields_has_a_config() -> None:
    assert {file.parent.name for file in EVERY} >= FIELD_STAGES.keys()


def test_an_override_reaches_a_nested_key(tmp_path: Path) -> None:
    assert load_config(Outer, write(tmp_path, "name: a"), ["inner.rate=2.5"]).inner.rate == 2.5


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: a\ninner: {rat: 1}", (), "unknown key inner.rat; did you mean rate?"),
        ("inner: {rate: 1}", (), "missing key name"),
        ("name: a\ninner: {rate: fast}", (), "inner.rate: expected a valid number.*found 'fast'"),
        ("- a\n- b", (), "expected a mapping of keys, found a list"),
        ("name: [", (), "not valid YAML"),
        ("name: a", ("inner",), "expected KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_config(Outer, write(tmp_path, text), overrides)
    assert "\n" not in str(error.value)
