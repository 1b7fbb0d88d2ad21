"""The parent process: verify the bundle, bind the port, keep the workers alive, drain at SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pertinent.errors import ConfigError, PertinentError
from pertinent.files import reason_of
from pertinent.progress import say
from pertinent.serving.settings import ADMIN_KEYS, API_KEYS, Settings, read_keys

if TYPE_CHECKING:
    from starlette.applications import Starlette

_SETTINGS = "PERTINENT_SERVING"  # how a worker, a fresh process, is told its settings
_BACKLOG = 2048
_RETRY_S = 0.5  # between a waiting worker's looks at the bundle


def serve(settings: Settings, *, host: str = "127.0.0.1", port: int = 8080, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT; a worker that dies is replaced. Port 0 takes a free one, told on stderr.

    Raises ModelError if the bundle fails its parity check, ConfigError for keys that cannot be read, an address that
    cannot be bound, or one beyond loopback without keys.
    """
    keys = read_keys(settings.api_keys_file, API_KEYS)
    read_keys(settings.admin_keys_file, ADMIN_KEYS)
    if not keys and not _is_loopback(host):
        raise ConfigError(
            f"--host {host}: expected API keys ({API_KEYS} or --api-keys-file) beyond loopback, found none"
        )
    with tempfile.TemporaryDirectory(prefix="pertinent-serve-") as folder:
        control = settings.control or Path(folder)
        _run(settings.model_copy(update={"control": control}), control, host, port, workers)


def _run(settings: Settings, control: Path, host: str, port: int, workers: int) -> None:
    # prometheus_client looks at this when it is first imported.
    metrics = control / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)

    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from pertinent.serving.bundles import start
    from pertinent.serving.feature_log import prepare_folder

    start(settings, control)
    if settings.feature_log is not None:
        prepare_folder(settings.feature_log)
    # A worker uses polars for the feature log and for changed items, which must not take the cores from the scoring.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    bound = _bind(host, port)
    os.environ[_SETTINGS] = settings.model_dump_json()
    config = uvicorn.Config(
        "pertinent.serving.server:worker_app",
        factory=True,
        http="pertinent.serving.protocol:PatientProtocol",
        workers=workers,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=settings.drain,
        timeout_worker_healthcheck=30,
        server_header=False,
        ws="none",
        backlog=_BACKLOG,
    )
    name = f"[{host}]" if ":" in host else host
    say(f"serve: http://{name}:{bound.getsockname()[1]} with {workers} worker{'s' if workers > 1 else ''}")
    with bound:
        Multiprocess(config, sockets=[bound]).run()


def worker_app() -> Starlette:
    """The app of a worker, by the settings that its parent left in the environment."""
    from pertinent.serving.app import create_app

    settings = Settings.model_validate_json(os.environ[_SETTINGS])
    control = settings.control
    assert control is not None
    access = logging.getLogger("pertinent.serving.access")
    if not access.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(handler)
    access.setLevel(logging.INFO)
    access.propagate = False
    return _once_it_opens(lambda: create_app(settings, control), settings, control)


def _once_it_opens(create: Callable[[], Starlette], settings: Settings, control: Path) -> Starlette:
    """The app, once its bundle can be opened: uvicorn stops the whole server when one worker cannot start.

    That is the successor of a worker that died after the bundle's files were overwritten or removed. The others serve
    on with what they hold; where none is left, this one takes what the bundle's path has by now, if that is sound.
    """
    from pertinent.serving.bundles import recover, waiting

    try:
        return create()
    except PertinentError as error:
        say(f"serve: worker {os.getpid()} waits for a bundle that it can open: {error}")
    # Nothing is in flight here, so the parent may end this process at once.
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    with waiting(control):
        while True:
            time.sleep(_RETRY_S)
            try:
                recover(settings, control)
                app = create()
                break
            except PertinentError:
                continue
    for number, handler in handlers.items():
        signal.signal(number, handler)
    say(f"serve: worker {os.getpid()} serves")
    return app


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(f"--host {host} --port {port}: cannot be bound: {reason_of(error)}") from None
    bound.set_inheritable(True)
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
