"""The few kinds of failure that callers tell apart; each message says what, where, expected, found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PertinentError(Exception):
    """The user's input is wrong: a command prints the message in one line and exits with code 2."""


class DataError(PertinentError):
    """A file or a row breaks the data contract."""


class ConfigError(PertinentError):
    """A configuration key or value is wrong."""


class ModelError(PertinentError):
    """A model folder or a bundle is missing, damaged or from another version."""


class StoppedError(ModelError):
    """Work stopped at a limit or an outage that no other row would fare better with: the same command continues it."""


class RowsError(Exception):
    """Some rows of a batch have no result. results: of all rows, in order; reasons: None where a row has its result."""

    def __init__(self, results: Any, reasons: Sequence[str | None]) -> None:
        super().__init__(next((reason for reason in reasons if reason is not None), ""))
        self.results, self.reasons = results, list(reasons)
