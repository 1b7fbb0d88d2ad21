"""DuckDB as the stages use it: within a memory limit, spilling to the stage's own folder, each step whole or absent."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pertinent.errors import ConfigError, DataError
from pertinent.files import atomic_path, reason_of
from pertinent.mining.sql import literal
from pertinent.progress import progress

if TYPE_CHECKING:
    import duckdb

SPILL = ".spill"
_POLL_S = 0.5
_SHARES = 100


class Engine:
    """One DuckDB connection. Results do not depend on the number of threads: sums are of integers, rows are sorted."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, label: str) -> None:
        self.connection, self._label = connection, label

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        try:
            return self.connection.execute(sql).fetchall()
        except _duckdb().OutOfMemoryException as error:
            raise DataError(f"{self._label}: out of memory or disk (memory_gib): {_first_line(error)}") from None
        except (_duckdb().IOException, _duckdb().InvalidInputException, _duckdb().DataError) as error:
            raise DataError(f"{self._label}: {_first_line(error)}") from None

    def row(self, sql: str) -> tuple[Any, ...]:
        """The single row of a query."""
        return self.rows(sql)[0]

    def table(self, name: str, sql: str, what: str = "") -> None:
        """Make a temporary table of a query's result. what: shown with the progress of a long one."""
        with self._watched(what):
            self.rows(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")

    def write(self, path: Path, sql: str, what: str = "", compression: str = "zstd") -> None:
        """Write a query's result as Parquet, whole or not at all."""
        try:
            with atomic_path(path) as temporary, self._watched(what):
                self.rows(f"COPY ({sql}) TO {literal(temporary)} (FORMAT parquet, COMPRESSION {compression})")
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {reason_of(error)}") from None

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Show how far the statement is, as DuckDB estimates it."""
        if not what:
            yield
            return
        stop = threading.Event()
        with progress(f"{self._label}: {what}", _SHARES, "%") as bar:

            def watch() -> None:
                while not stop.wait(_POLL_S):
                    share = self.connection.query_progress()
                    bar.advance(max(int(share * _SHARES / 100) - bar.done, 0))

            thread = threading.Thread(target=watch, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
            bar.advance(_SHARES - bar.done)


@contextmanager
def open_engine(folder: Path, label: str, *, threads: int | None, memory_gib: float) -> Iterator[Engine]:
    """An Engine that spills below ``folder``; what an attempt that was killed left half written there is removed.

    Raises ConfigError where DuckDB is not installed.
    """
    duckdb = _duckdb(label)
    spill = folder / SPILL
    shutil.rmtree(spill, ignore_errors=True)
    for left in folder.glob(".*.partial"):
        left.unlink()
    settings: dict[str, Any] = {
        "memory_limit": f"{round(memory_gib * 1024)}MiB",
        "temp_directory": str(spill),
        "preserve_insertion_order": False,  # rows are sorted where their order is kept
        "autoinstall_known_extensions": False,  # nothing is downloaded
        "TimeZone": "UTC",
    }
    connection = duckdb.connect(":memory:", config={} if threads is None else {"threads": threads})
    try:
        for name, value in settings.items():
            connection.execute(f"SET {name} = {literal(value)}")
        connection.execute("SET enable_progress_bar = true")
        connection.execute("SET enable_progress_bar_print = false")
        yield Engine(connection, label)
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def _duckdb(label: str = "mine") -> Any:
    try:
        import duckdb
    except ImportError:
        raise ConfigError(f"{label}: expected DuckDB, found none: pip install 'pertinent[mine]'") from None
    return duckdb


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
