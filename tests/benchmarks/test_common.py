from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import common
from common import (
    Row,
    Target,
    chosen_rows,
    machine,
    measured_row,
    new_row,
    parser_of,
    peak_memory_bytes,
    require_current_code,
    results_folder,
    run_child,
    run_main,
    write_results,
)
from homedepot import named
from pertinent.errors import ConfigError, DataError
from pertinent.files import read_json
from pertinent.pipeline.revision import code_revision


def row(name: str, value: float, date: str = "2026-01-01") -> Row:
    return Row(name, {"auc": value}, 12.34, "python benchmarks/x.py", "abc", date, "a machine")


def aims(rows: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    return [
        Target("a", 0.5, ">=", rows.get("a", {}).get("auc")),
        Target("b seconds", 10, "<=", rows.get("b", {}).get("seconds")),
    ]


def test_rows_are_merged_by_name_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    started = time.monotonic()
    first = write_results("x", [row("a", 0.4), row("c", 0.1)], aims, seeds=[0], started=started, folder=tmp_path)
    assert [target["met"] for target in first["targets"]] == [False, False]
    assert first["targets"][1]["measured"] is None
    later = [row("b", 0.3, "2026-02-02"), row("a", 0.5, "2026-02-02")]
    write_results("x", later, aims, seeds=[1], started=started, folder=tmp_path)
    document = read_json(tmp_path / "x.json")
    assert [(r["row"], r["auc"], r["date"]) for r in document["rows"]] == [
        ("a", 0.5, "2026-02-02"),
        ("c", 0.1, "2026-01-01"),
        ("b", 0.3, "2026-02-02"),
    ]
    assert document["seeds"] == [0, 1]
    expected = {"name": "b seconds", "aim": 10, "direction": "<=", "measured": 12.3, "met": False}
    assert document["targets"][1] == expected
    assert document["targets"][0]["met"] is True


def test_the_document_has_every_key_of_a_results_file_and_a_row_its_own(tmp_path: Path) -> None:
    document = write_results("x", [new_row("a", {}, 1.0)], aims, seeds=[0], started=time.monotonic(), folder=tmp_path)
    keys = {"benchmark", "command", "seeds", "versions", "machine", "date", "seconds", "rows", "targets"}
    assert set(document) == keys
    assert {"command", "commit", "date", "seconds", "machine"} <= set(document["rows"][0])


def test_a_row_is_timed_while_it_is_measured() -> None:
    def measure() -> dict[str, float]:
        time.sleep(0.05)
        return {"auc": 0.5}

    found = measured_row("a", measure)
    assert found.figures == {"auc": 0.5}
    assert 0.05 <= found.seconds < 30


def test_rows_are_chosen_by_name_or_pattern_in_the_order_of_the_table() -> None:
    names = ["homedepot/bm25", "homedepot/student", "esci/student"]
    assert chosen_rows(names, None) == names
    assert chosen_rows(names, ["esci/student", "homedepot/s*"]) == names[1:]
    with pytest.raises(ConfigError, match=r"--rows nothing\*: expected one of homedepot/bm25, "):
        chosen_rows(names, ["esci/student", "nothing*"])


def test_quick_figures_go_elsewhere_unless_a_folder_is_named(tmp_path: Path) -> None:
    parser = parser_of("A benchmark.\n\nMore.")
    assert results_folder(parser.parse_args([])) == common.RESULTS
    assert results_folder(parser.parse_args(["--quick"])) == common.QUICK_RESULTS
    assert results_folder(parser.parse_args(["--quick", "--out", str(tmp_path)])) == tmp_path


def test_a_stage_of_other_code_is_refused(tmp_path: Path) -> None:
    now = code_revision()
    require_current_code({"data": {"code": now}, "text": {"code": now}}, tmp_path)
    for other in ("0123456789ab", f"0123456789ab, {now}", None):
        with pytest.raises(DataError, match=f"text: expected a stage made by code {now[:12]}.*delete the folder"):
            require_current_code({"data": {"code": now}, "text": {"code": other}}, tmp_path)


def test_a_wrong_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> None:
        raise ConfigError("--rows x: expected y")

    with pytest.raises(SystemExit) as exit_:
        run_main(wrong)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith(": --rows x: expected y\n")


def test_the_memory_of_a_process_of_its_own_is_measured() -> None:
    held = 200 * 2**20
    small = run_child([sys.executable, "-c", "print('small')"])
    large = run_child([sys.executable, "-c", f"held = bytearray({held}); print('large')"])
    assert (small.stdout, large.stdout) == ("small\n", "large\n")
    assert 0.95 * held < large.peak_bytes - small.peak_bytes < 1.2 * held
    assert small.peak_bytes < 50 * 2**20  # and not that of this process, which started it
    assert peak_memory_bytes() > small.peak_bytes
    with pytest.raises(DataError, match="expected exit code 0, found 3"):
        run_child([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_machine_says_what_its_processor_multiplies_fast(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: A Processor\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n")
    assert machine(cpuinfo).startswith("A Processor, avx2 avx512_bf16 amx_bf16, ")
    assert " cores, " in machine(tmp_path / "nowhere")


def test_a_backbone_is_named_without_the_folders_it_lay_in() -> None:
    assert named("/home/ann/.cache/e5/model, weights 0123") == "e5/model, weights 0123"
    assert named("packaged:gemma-3-270m, weights 0123") == "packaged:gemma-3-270m, weights 0123"
