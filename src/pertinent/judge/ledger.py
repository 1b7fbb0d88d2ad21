"""What the calls of one folder of labels cost, over every start, kept so that a kill forgets no call."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import orjson

from pertinent.errors import DataError, StoppedError
from pertinent.files import reason_of
from pertinent.judge.config import JudgeConfig


class Ledger:
    """Books the most that a call may cost before it is made, and what it did cost after.

    A call whose end is not in the file (a kill, an answer that never came or does not say its tokens) counts with what
    was booked, so the sum is never less than the bill. file: JSON lines, added to and never rewritten.
    """

    def __init__(self, file: Path, config: JudgeConfig) -> None:
        """Raises DataError where the file cannot be read."""
        self._file, self._config, self._changed = file, config, threading.Condition()
        self._open: set[int] = set()
        self._calls: dict[int, tuple[int, int]] = {}  # call -> tokens of prompt and answer
        for line in read_lines(file):
            self._calls[line["call"]] = (line["input_tokens"], line["output_tokens"])
        self._next = max(self._calls, default=-1) + 1
        self._usd = sum(self._price(*tokens) for tokens in self._calls.values())

    @property
    def usd(self) -> float:
        """Spent or booked."""
        return self._usd

    @property
    def counts(self) -> dict[str, Any]:
        """Calls, tokens and dollars of every start."""
        inputs, outputs = (sum(tokens[k] for tokens in self._calls.values()) for k in (0, 1))
        return {"calls": len(self._calls), "input_tokens": inputs, "output_tokens": outputs, "usd": round(self._usd, 6)}

    def book(self, input_tokens: int, output_tokens: int) -> int:
        """Number of a call that may have so many tokens; `end` follows. Raises StoppedError where it could pass max_usd.

        Calls that are under way may come cheaper than they were booked: their end is waited for first.
        """
        with self._changed:
            most = self._price(input_tokens, output_tokens)
            limit = float("inf") if self._config.max_usd is None else self._config.max_usd
            self._changed.wait_for(lambda: self._usd + most <= limit or not self._open)
            if self._usd + most > limit:
                raise StoppedError(
                    f"judge: expected to spend at most ${limit:g} (labels.judge.max_usd), found ${self._usd:.6g} spent and"
                    f" ${most:.2g} that the next call may cost; with a higher limit the same command continues"
                )
            call, self._next = self._next, self._next + 1
            self._set(call, input_tokens, output_tokens)
            self._open.add(call)
            return call

    def settle(self, call: int, input_tokens: int, output_tokens: int) -> None:
        """What a booked call had in truth."""
        with self._changed:
            self._set(call, input_tokens, output_tokens)

    def end(self, call: int) -> None:
        """The call is over, settled or not."""
        with self._changed:
            self._open.discard(call)
            self._changed.notify_all()

    def _set(self, call: int, *tokens: int) -> None:
        self._usd += self._price(*tokens) - self._price(*self._calls.get(call, (0, 0)))
        self._calls[call] = (tokens[0], tokens[1])
        add_line(self._file, {"call": call, "input_tokens": tokens[0], "output_tokens": tokens[1]})

    def _price(self, input_tokens: int, output_tokens: int) -> float:
        prices = (self._config.usd_per_1k_input, self._config.usd_per_1k_output)
        return (input_tokens * prices[0] + output_tokens * prices[1]) / 1000


def add_line(file: Path, document: dict[str, Any]) -> None:
    """Add one JSON line. It begins with a line break, so that it is whole after one that was cut off."""
    try:
        with file.open("ab") as stream:
            stream.write(b"\n" + orjson.dumps(document))
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {reason_of(error)}") from None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of `add_line`; none where there is no file. A line that was cut off is passed over."""
    try:
        found = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {reason_of(error)}") from None
    whole = []
    for line in found:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(document, dict):
            whole.append(document)
    return whole
