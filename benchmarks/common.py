"""What every benchmark shares: rows that carry their own command, commit, date and seconds; targets; the results file."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from pertinent.errors import ConfigError, DataError, PertinentError
from pertinent.files import read_json, write_json
from pertinent.pipeline.revision import code_revision

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "runs" / "quick" / "results"  # never among the figures that the docs quote
LIST_ROWS = "?"
PACKAGES = ("pertinent", "torch", "transformers", "peft", "onnxruntime", "numpy", "polars", "lightgbm")
# What decides how fast matrices are multiplied, as /proc/cpuinfo names it.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# A change here does not change what a row measures.
_NOT_MEASURED = (":!benchmarks/results", ":!benchmarks/LOG.md", ":!docs", ":!*.md")

# Linux counts the memory of the process that forks as its child's, up to the child's exec: this one in between is small.
_LAUNCHER = """
import os, sys
pid = os.fork()
if pid == 0:
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(pid, 0)
os.write(int(sys.argv[1]), str(usage.ru_maxrss).encode())
os._exit(os.waitstatus_to_exitcode(status) & 255)
"""


@dataclass(frozen=True)
class Row:
    """One row of a benchmark's table, with how it was made.

    name: of the row, unique in its benchmark. figures: what was measured, plain JSON values. seconds: wall seconds
    that it took, over all attempts where it was continued. commit: ``+dirty`` where files differ from it.
    """

    name: str
    figures: Mapping[str, Any]
    seconds: float
    command: str
    commit: str
    date: str
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands in the results file, the figures beside the rest."""
        made = {key: getattr(self, key) for key in ("command", "commit", "date", "machine")}
        return {**self.figures, "row": self.name, "seconds": round(self.seconds, 1), **made}


@dataclass(frozen=True)
class Target:
    """One aim of a benchmark. measured: None where the row that would tell is not there yet."""

    name: str
    aim: float
    direction: Literal[">=", "<="]
    measured: float | None

    @property
    def met(self) -> bool:
        """Whether the figure is there and reaches the aim."""
        if self.measured is None:
            return False
        return self.measured >= self.aim if self.direction == ">=" else self.measured <= self.aim

    def to_dict(self) -> dict[str, Any]:
        """The target as it stands in the results file."""
        keys = ("name", "aim", "direction", "measured", "met")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Child:
    """A finished process: its stdout, wall seconds, and the most memory that it held at once."""

    stdout: str
    seconds: float
    peak_bytes: int


def new_row(name: str, figures: Mapping[str, Any], seconds: float, *, date: str | None = None) -> Row:
    """A row of this command, this commit and this machine; date: when it was measured, today if not told."""
    return Row(name, figures, seconds, command_line(), commit(), date or today(), machine())


def measured_row(name: str, measure: Callable[[], Mapping[str, Any]]) -> Row:
    """``new_row`` of what ``measure`` returns, timed."""
    started = time.monotonic()
    figures = measure()
    return new_row(name, figures, time.monotonic() - started)


def write_results(
    name: str,
    rows: Sequence[Row],
    targets: Callable[[Mapping[str, Mapping[str, Any]]], Sequence[Target]],
    *,
    seeds: Sequence[int],
    started: float,
    folder: Path = RESULTS,
) -> dict[str, Any]:
    """Merge ``rows`` by name into folder/NAME.json, and return the document.

    A row of the file that is not among ``rows`` stays as it is, so a table grows over several runs. targets: gets
    every row of the merged table by name. started: ``time.monotonic()`` at the start of the command.
    """
    file = folder / f"{name}.json"
    earlier = read_json(file) if file.is_file() else {}
    merged = {row["row"]: row for row in earlier.get("rows", ())} | {row.name: row.to_dict() for row in rows}
    document = {
        "benchmark": name,
        "command": command_line(),
        "seeds": sorted({*earlier.get("seeds", ()), *seeds}),
        "versions": versions(),
        "machine": machine(),
        "date": today(),
        "seconds": round(time.monotonic() - started, 1),
        "rows": list(merged.values()),
        "targets": [target.to_dict() for target in targets(merged)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, document)
    return document


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: --rows, --quick and --out."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        help="redo these rows only (a * stands for anything) and merge them; '?' lists the names of all",
    )
    parser.add_argument("--quick", action="store_true", help="a small form that shows that it runs; figures are void")
    parser.add_argument("--out", type=Path, help="folder of the results file (default: benchmarks/results)")
    return parser


def results_folder(arguments: argparse.Namespace) -> Path:
    """Where the results of these arguments go; those of --quick never to the real ones unless told to."""
    given: Path | None = arguments.out
    return given or (QUICK_RESULTS if arguments.quick else RESULTS)


def chosen_rows(names: Iterable[str], patterns: Sequence[str] | None) -> list[str]:
    """The ``names`` that --rows asks for, all without it. Raises ConfigError for a pattern that no name fits.

    Of "?" it prints the names, one a line, and ends the process.
    """
    known = list(names)
    if patterns and list(patterns) == [LIST_ROWS]:
        print("\n".join(known))
        sys.exit(0)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(f"--rows {pattern}: expected one of {', '.join(known)}")
    return [name for name in known if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def require_current_code(stages: Mapping[str, Mapping[str, Any]], run: Path) -> None:
    """Raise DataError unless every stage's manifest says that the code of now made it, and no other."""
    expected = code_revision()
    for stage, manifest in stages.items():
        if (found := manifest.get("code")) != expected:
            raise DataError(
                f"{run / stage}: expected a stage made by code {expected}, found {found}: delete the folder and run again"
            )


def print_targets(document: Mapping[str, Any]) -> None:
    """A line for each target: met or missed, its figure and its aim."""
    for target in document["targets"]:
        state = "met   " if target["met"] else "MISSED"
        measured = "not measured" if target["measured"] is None else target["measured"]
        print(f"{state} {target['name']}: {measured} (aim {target['direction']} {target['aim']})")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """The rows of a document by some of their figures, as a table on stdout; "-" where a row has none."""
    table = Table()
    table.add_column("row")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(str(row["row"]), *[_shown(row.get(column)) for column in columns])
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def run_main(main: Callable[[], None]) -> None:
    """Call a benchmark's ``main``; a wrong input is one line and exit code 2, as on the command line."""
    try:
        main()
    except PertinentError as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {error}\n")
        sys.exit(2)


def run_child(command: Sequence[str]) -> Child:
    """Run a process of its own, whose memory is then measured apart. Raises DataError when it fails."""
    started = time.monotonic()
    read_end, write_end = os.pipe()
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(write_end), *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, pass_fds=(write_end,), check=False)
    seconds = time.monotonic() - started
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        peak = pipe.read()
    if done.returncode != 0:
        raise DataError(f"{' '.join(command)}: expected exit code 0, found {done.returncode}")
    return Child(done.stdout, seconds, int(peak) * _rss_unit())


def measure_rows(
    benchmark: str,
    description: str | None,
    rows_of: Callable[[bool], Mapping[str, Callable[[], Mapping[str, Any]]]],
    targets: Callable[[Mapping[str, Mapping[str, Any]]], Sequence[Target]],
    *,
    columns: Sequence[str],
    seeds: Sequence[int],
    parser: argparse.ArgumentParser | None = None,
) -> None:
    """A benchmark's main: measure the chosen rows, each in a process of its own, and merge each into the results file.

    rows_of: whether the form is the quick one -> what measures each row, by name. A row also has ``peak_gib``, the most
    memory that its process held. columns: of the table that is printed. parser: where there are options beside --rows,
    --quick and --out.
    """
    started = time.monotonic()
    arguments = (parser or parser_of(description)).parse_args()
    makers = rows_of(arguments.quick)
    names = chosen_rows(makers, arguments.rows)
    if each_apart([[name] for name in names], arguments):
        return
    row = measured_row(names[0], lambda: {**makers[names[0]](), "peak_gib": peak_gib()})
    document = write_results(benchmark, [row], targets, seeds=seeds, started=started, folder=results_folder(arguments))
    print_table(document["rows"], columns)
    print_targets(document)


def runs_in_turn(names: Sequence[str], rounds: int, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Every name once a round, each in a process of its own: what this script prints last with ``--measure NAME``, as JSON.

    With "peak", the most bytes that the process held.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, sys.argv[0], "--measure", name, *(["--quick"] if quick else [])]
            child = run_child(command)
            found[name].append({**json.loads(child.stdout.splitlines()[-1]), "peak": child.peak_bytes})
    return found


def each_apart(groups: Sequence[Sequence[str]], arguments: argparse.Namespace) -> bool:
    """Measure each of several groups of rows in a process of its own, so that its peak memory is its own; False for one.

    The process is this script with ``--rows NAME...``: where this returns False, the caller measures the group itself.
    """
    if len(groups) < 2:
        return False
    flags = [*(["--quick"] if arguments.quick else []), *(["--out", str(arguments.out)] if arguments.out else [])]
    for names in groups:
        print(run_child([sys.executable, sys.argv[0], "--rows", *names, *flags]).stdout, end="", flush=True)
    return True


def peak_gib() -> float:
    """The most memory that this process has held at once, in GiB."""
    return round(peak_memory_bytes() / 2**30, 2)


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kibibytes[0] * 1024 if kibibytes else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _rss_unit()


def command_line() -> str:
    """The command as it is typed from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else Path(script.name)
    return " ".join(["python", shown.as_posix(), *sys.argv[1:]])


def commit() -> str:
    """The commit of the checkout, with ``+dirty`` where a file that bears on a figure differs from it."""
    found = _git("rev-parse", "--short=12", "HEAD")
    dirty = _git("status", "--porcelain", "--", ".", *_NOT_MEASURED)
    return f"{found or 'unknown'}{'+dirty' if dirty else ''}"


def today() -> str:
    """The date, UTC."""
    return datetime.now(UTC).date().isoformat()


def versions() -> dict[str, str]:
    """The versions of the packages that figures depend on, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Processor, what it can multiply fast, cores, memory and operating system."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in CPU_FLAGS if flag in facts.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = facts.get("model name", platform.machine())
    parts = [model, *([" ".join(flags)] if flags else []), f"{cores} cores", f"{memory:.0f} GiB"]
    return ", ".join([*parts, f"{platform.system()} {platform.release()}"])


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rss_unit() -> int:
    return 1 if sys.platform == "darwin" else 1024
