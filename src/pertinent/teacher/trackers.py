"""Where a training logs to: tensorboard, mlflow or wandb, each under the teacher's own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pertinent.errors import ConfigError

TRACKERS = "trackers"
_INSTALL = {
    "tensorboard": "pip install 'pertinent[track]'",
    "mlflow": "pip install mlflow",
    "wandb": "pip install wandb",
}


def require_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError, with the line that installs it, for a tracker that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"teacher.trackers: {name} is not installed: {_INSTALL[name]}")


@contextmanager
def logging_under(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Have the trackers write in ``folder``, but where the user's environment says another place.

    transformers asks each tracker's own environment variable; they are put back afterwards.
    """
    places = {
        "TENSORBOARD_LOGGING_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').resolve()}",
        "WANDB_DIR": str(folder),
    }
    told = {name: place for name, place in places.items() if name not in os.environ}
    if names:
        folder.mkdir(exist_ok=True)
        os.environ.update(told)
    try:
        yield
    finally:
        for name in told:
            os.environ.pop(name, None)
