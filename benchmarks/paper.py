"""The paper's tables on public data: measures what is missing, one row after the other, and writes their page.

    PERTINENT_DATA=FOLDER python benchmarks/paper.py             what fits into an hour, in the order that tells most first
    PERTINENT_DATA=FOLDER python benchmarks/paper.py --full      all rows

Parts: (a) language models compared, (b) text fields, (c) label scaling, (d) languages without labels, (e) the student
against its teacher and what a team would use instead. Each row is measured by the benchmark that it belongs to, in a
process of its own, and merged into benchmarks/results; runs/paper/done.json notes it, so the same command goes on where it
was stopped. A row is begun only where its time, as it took before, still fits. At the end docs/paper.md and docs/results.md
are written from the results files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import paper_page
import results_page
from common import LIST_ROWS, QUICK_RESULTS, RESULTS, ROOT, commit, run_main, today
from pertinent.errors import ConfigError, DataError
from pertinent.files import read_json, write_json
from pertinent.report.numbers import duration

BENCHMARKS = ROOT / "benchmarks"
HOUR_MINUTES = 60.0
PARTS = {
    "a": "language models compared",
    "b": "text fields",
    "c": "label scaling",
    "d": "languages without labels",
    "e": "student against teacher and baselines",
}


@dataclass(frozen=True)
class Step:
    """Rows of one benchmark. part: of the paper's tables. rows: patterns, in the order in which they are measured.

    minutes: of a row that was never measured. together: whether all rows of a pattern come out of one run. only_full:
    whether its first row has hours of work before it (a best teacher, a pool that it labels), so that no hour holds it.
    """

    part: str
    script: str
    rows: tuple[str, ...]
    minutes: float
    together: bool = False
    only_full: bool = False


@dataclass(frozen=True)
class Unit:
    """What one process measures. rows: their names. pattern: what --rows gets. minutes: that it is expected to take."""

    step: Step
    pattern: str
    rows: tuple[str, ...]
    minutes: float

    @property
    def name(self) -> str:
        """As it is told."""
        return f"({self.step.part}) {self.step.script} {self.pattern}"


# First what tells something of every part in an hour, then the rest, seeds and large models last.
PLAN = (
    Step("a", "teacher_models", ("random", "majority", "bm25", "cosine-e5", "e5-4k"), 5),
    Step("e", "alternatives", ("lightgbm", "lightgbm-lambdarank"), 3),
    Step("e", "pipeline", ("esci_us_small/*",), 15, together=True),
    Step("b", "text_fields", ("msrd/title/0", "msrd/links/0", "msrd/engaged/0"), 10),
    Step("e", "pipeline", ("homedepot/*",), 40, together=True),
    Step("a", "teacher_models", ("e5/0", "minilm", "cosine-use", "cosine-minilm", "gemma-lora", "e5-random"), 20),
    Step("b", "text_fields", ("msrd/*/0", "cxc/*/0", "esci/*/0"), 10),
    Step("d", "language_transfer", ("*",), 5, only_full=True),
    Step("a", "teacher_models", ("e5/*", "best/*", "best"), 20),
    Step("c", "label_scaling", ("*",), 10, only_full=True),
    Step("e", "student_quality", ("*",), 10, only_full=True),
    Step("e", "alternatives", ("*",), 35),
    Step("b", "text_fields", ("msrd/*/[0-9]", "esci/*/[0-9]", "cxc/*/[0-9]", "*/differences"), 10),
)


class Notes:
    """Which rows this checkout has measured, kept in a file: ``script`` -> ``row`` -> {"commit", "date", "seconds"}."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._done: dict[str, dict[str, Any]] = read_json(file) if file.is_file() else {}

    def has(self, script: str, row: str) -> bool:
        """Whether the row is noted as done."""
        return row in self._done.get(script, {})

    def add(self, unit: Unit, seconds: float) -> None:
        """Note the rows of ``unit`` as done."""
        made = {"commit": commit(), "date": today(), "seconds": round(seconds, 1)}
        self._done.setdefault(unit.step.script, {}).update(dict.fromkeys(unit.rows, made))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file, self._done)


def main() -> None:
    """Measure what is missing and fits, tell what was left or failed, write the pages."""
    arguments = _arguments()
    results = QUICK_RESULTS if arguments.quick else RESULTS
    notes_file = ROOT / "runs" / ("quick" if arguments.quick else "") / "paper" / "done.json"
    if arguments.restart:
        notes_file.unlink(missing_ok=True)
    units = [] if arguments.page else units_of(PLAN, arguments.parts, results)
    limit = float("inf") if arguments.full else arguments.minutes
    left, failed = measure(units, Notes(notes_file), limit, quick=arguments.quick)
    pages = write_pages(results, ROOT / "runs" / "quick" if arguments.quick else ROOT / "docs")
    for unit in left:
        print(f"left for later, {unit.minutes:.0f} min: {unit.name}")
    for unit in failed:
        print(f"FAILED: {unit.name}")
    print(f"Written: {', '.join(map(str, pages))}")
    if failed:
        sys.exit(1)


def units_of(plan: Sequence[Step], parts: Sequence[str], results: Path) -> list[Unit]:
    """The plan as processes, each row once. Raises DataError where a benchmark has no row that a pattern fits."""
    known: dict[str, list[str]] = {}
    taken: set[tuple[str, str]] = set()
    found: list[Unit] = []
    for step in plan:
        if step.part not in parts:
            continue
        if not (BENCHMARKS / f"{step.script}.py").is_file():
            print(f"paper: there is no benchmarks/{step.script}.py here: its rows of ({step.part}) stay gaps")
            continue
        if step.script not in known:
            known[step.script] = rows_of(step.script)
        rows = known[step.script]
        for pattern in step.rows:
            names = [row for row in rows if fnmatchcase(row, pattern)]
            if not names:
                raise DataError(f"benchmarks/{step.script}.py: expected a row {pattern}, found {', '.join(rows)}")
            fresh = [row for row in names if (step.script, row) not in taken]
            taken |= {(step.script, row) for row in fresh}
            groups = [tuple(fresh)] if step.together and fresh else [(row,) for row in fresh]
            for group in groups:
                minutes = expected_minutes(results, step, group)
                found.append(Unit(step, pattern if step.together else group[0], group, minutes))
    return found


def rows_of(script: str) -> list[str]:
    """The names of a benchmark's rows, as it lists them itself."""
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--rows", LIST_ROWS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DataError(f"benchmarks/{script}.py: expected a list of rows, found {done.stderr.strip()[-300:]}")
    return done.stdout.split()


def expected_minutes(results: Path, step: Step, rows: Sequence[str]) -> float:
    """As the rows took when they were last measured, else what the step says. Rows of one run share its time."""
    file = results / f"{step.script}.json"
    measured = {row["row"]: row["seconds"] / 60 for row in read_json(file)["rows"]} if file.is_file() else {}
    times = [measured.get(row, step.minutes) for row in rows]
    return max(times) if step.together else sum(times)


def measure(units: Sequence[Unit], notes: Notes, limit_minutes: float, *, quick: bool) -> tuple[list[Unit], list[Unit]]:
    """Measure what is not noted as done and fits into the limit, in order; returns what was left, and what failed."""
    started = time.monotonic()
    left, failed = [], []
    for place, unit in enumerate(units, start=1):
        if all(notes.has(unit.step.script, row) for row in unit.rows):
            continue
        spent = (time.monotonic() - started) / 60
        waits = unit.step.only_full and limit_minutes < float("inf")
        if not quick and (waits or spent + unit.minutes > limit_minutes):
            left.append(unit)
            continue
        print(
            f"paper {place}/{len(units)}: {unit.name}, about {unit.minutes:.0f} min; so far {spent:.0f} min", flush=True
        )
        begun = time.monotonic()
        if _measured(unit, quick=quick):
            notes.add(unit, time.monotonic() - begun)
            print(f"paper: {unit.name} took {duration(time.monotonic() - begun)}", flush=True)
        else:
            failed.append(unit)
    return left, failed


def write_pages(results: Path, folder: Path) -> list[Path]:
    """docs/paper.md and docs/results.md."""
    written = []
    for name, page in (("paper.md", paper_page.page(results)), ("results.md", results_page.page(results))):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page, encoding="utf-8")
        written.append(folder / name)
    return written


def _measured(unit: Unit, *, quick: bool) -> bool:
    command = [sys.executable, f"benchmarks/{unit.step.script}.py", "--rows", unit.pattern]
    return subprocess.run([*command, *(["--quick"] if quick else [])], cwd=ROOT, check=False).returncode == 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all rows, however long they take")
    parser.add_argument(
        "--minutes", type=float, default=HOUR_MINUTES, help="without --full: what may be begun must fit"
    )
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), metavar="PART", help="; ".join(f"{k}: {v}" for k, v in PARTS.items())
    )
    parser.add_argument("--page", action="store_true", help="measure nothing, write the pages")
    parser.add_argument("--restart", action="store_true", help="measure rows anew that an earlier call has measured")
    parser.add_argument(
        "--quick", action="store_true", help="each row in its small form, results apart; figures are void"
    )
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        raise ConfigError(f"--parts {unknown[0]}: expected one of {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    run_main(main)
