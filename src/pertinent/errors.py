"""The few kinds of failure that callers tell apart; each message says what, where, expected, found."""


class PertinentError(Exception):
    """The user's input is wrong: a command prints the message in one line and exits with code 2."""


class DataError(PertinentError):
    """A file or a row breaks the data contract."""


class ConfigError(PertinentError):
    """A configuration key or value is wrong."""


class ModelError(PertinentError):
    """A model folder or a bundle is missing, damaged or from another version."""
