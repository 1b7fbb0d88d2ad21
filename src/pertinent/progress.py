"""Progress of long work on stderr: a live bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Counts finished units of work and tells, at most once a period, how far it is.

    total: units in all. unit: what one unit is, plural ("pairs"). done: units finished before this start,
    which count towards the share done and not towards the rate.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._start_done = done
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._period_s = 0.2 if self._live else 15.0
        self._started_s = self._told_s = time.monotonic()
        self._width = 0

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units; ``note`` is shown at the end of the line (a loss, say)."""
        self.done += n
        now = time.monotonic()
        if now - self._told_s >= self._period_s:
            self._told_s = now
            self._tell(note)

    def close(self) -> None:
        """Tell the final state and end the line."""
        seconds = time.monotonic() - self._started_s
        line = f"{self.label}: {self.done:,} {self.unit} in {_clock(seconds)}"
        self._write(line, end="\n")

    def _tell(self, note: str) -> None:
        seconds = max(time.monotonic() - self._started_s, 1e-9)
        rate = (self.done - self._start_done) / seconds
        left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        bar = ""
        if self._live:
            filled = round(share * 24)
            bar = "█" * filled + "░" * (24 - filled) + " "
        tail = f" · {note}" if note else ""
        shown_rate = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        line = f"{self.label}: {bar}{share:4.0%} {self.done:,}/{self.total:,} {self.unit} · {shown_rate}/s · {left} left{tail}"
        self._write(line, end="" if self._live else "\n")

    def _write(self, line: str, end: str) -> None:
        if self._live:
            self._stream.write("\r" + line.ljust(self._width) + end)
            self._width = len(line)
        else:
            self._stream.write(line + end)
        self._stream.flush()


@contextmanager
def progress(label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """A Progress that closes its line at the end of the block."""
    bar = Progress(label, total, unit, done)
    try:
        yield bar
    finally:
        bar.close()


def say(message: str) -> None:
    """One line for the person at the terminal, on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
