"""Which bundle is served: workers agree on it through files, so that a new one takes over in all of them or in none.

The control folder holds committed.json (generation, bundle, previous, signature of the link), prepare.json (a bundle
that every worker is to open beside the old one), workers/PID (who serves, and at which generation), waiting/PID (who
cannot open what is committed) and acks/PID. A reload replays the new bundle's probe pairs, has every live worker open it,
and only then commits.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.bundle import Scorer, bundle_folder, open_bundle
from pertinent.bundle.format import DESCRIPTION
from pertinent.bundle.items import ItemEncoder
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import DataError, ModelError, PertinentError
from pertinent.features.assemble import all_specs
from pertinent.files import read_json, reason_of, sha256_of_file, sha256_of_json, write_json
from pertinent.progress import say
from pertinent.serving.metrics import alive
from pertinent.serving.settings import Settings
from pertinent.serving.stores import ItemStore, check_store, open_store

_FOLDERS = ("workers", "waiting", "acks")


class BusyError(PertinentError):
    """Another reload is under way."""


@dataclass(frozen=True)
class Loaded:
    """An opened bundle. hash: SHA-256 of its bundle.json, which lists the hash of every other file. store: its items."""

    scorer: Scorer
    folder: Path
    hash: str
    store: ItemStore

    @cached_property
    def items(self) -> ItemEncoder:
        """Encodes items given anew. Raises ModelError for a bundle that cannot."""
        return ItemEncoder.of(self.scorer, self.folder)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of the features."""
        return self.scorer.feature_names

    @cached_property
    def defaults(self) -> NDArray[np.float32]:
        """(F,): what each feature is where it is missing."""
        return np.array([spec.default for spec in all_specs(self.scorer.sides)], dtype=np.float32)


def resolved(bundle: Path) -> Path:
    """The bundle's own folder, links followed, so that a link that changes later does not matter.

    Raises ModelError where there is none, or where no file could have that name.
    """
    try:
        return bundle_folder(Path(os.path.realpath(bundle))).resolve()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        raise ModelError(f"{str(bundle)[:200]!r}: expected the path of a bundle, found {error.args[-1]}") from None


def hash_of(folder: Path) -> str:
    """The bundle's hash. Raises ModelError where there is no bundle."""
    try:
        return sha256_of_file(folder / DESCRIPTION)
    except OSError as error:
        raise ModelError(f"{folder / DESCRIPTION}: cannot be read: {reason_of(error)}") from None


def verified(folder: Path) -> dict[str, str]:
    """A bundle as the control files name it, once it has passed its parity check: folder, hash, stamp.

    Raises ModelError if it does not pass.
    """
    told = {"folder": str(folder), "hash": hash_of(folder), "stamp": _stamp(folder)}
    verify_bundle(folder)
    return told


def load(settings: Settings, target: dict[str, str]) -> Loaded:
    """Open a bundle that was `verified`, and its store. Files that were touched since are hashed again.

    Raises ModelError if it is another by now, or not whole.
    """
    folder, expected = Path(target["folder"]), target["hash"]
    if (found := hash_of(folder)) != expected:
        raise ModelError(f"{folder}: expected bundle {expected[:12]}, found {found[:12]}")
    touched = _stamp(folder) != target["stamp"]
    scorer = open_bundle(folder, check_hashes=touched, whole=touched)
    return Loaded(scorer, folder, expected, open_store(settings, scorer))


def _stamp(folder: Path) -> str:
    """Changes when any file of the bundle is written, replaced or removed."""
    stamps: list[list[object]] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            told = file.stat()
            stamps.append([str(file.relative_to(folder)), told.st_ino, told.st_size, told.st_mtime_ns])
        except OSError:
            continue  # gone since it was listed; whoever opens the bundle says what is wrong with it
    return sha256_of_json(stamps)


def start(settings: Settings, control: Path) -> None:
    """Verify the first bundle (and the shadow) and commit it.

    Raises ModelError if it fails its parity check, ConfigError for a store's address that cannot be used.
    """
    check_store(settings)
    signature = _signature(settings.bundle)
    served = verified(resolved(settings.bundle))
    if settings.shadow:
        verify_bundle(resolved(settings.shadow))
    for name in _FOLDERS:
        (control / name).mkdir(parents=True, exist_ok=True)
    write_json(
        control / "committed.json", {"generation": 1, "signature": signature, "bundle": served, "previous": None}
    )


def recover(settings: Settings, control: Path) -> None:
    """Where no worker serves, and another bundle is there than the committed one, commit it, if it passes its parity check.

    Raises ModelError if it does not, BusyError when another worker is at it.
    """
    with _locked(control):
        if _pids(control, "workers"):
            return
        signature = _signature(settings.bundle)
        served = verified(resolved(settings.bundle))
        state = read_json(control / "committed.json")
        if served == state["bundle"]:
            return  # something else stands in the way
        changed = {"generation": state["generation"] + 1, "signature": signature, "bundle": served, "previous": None}
        write_json(control / "committed.json", changed)


@contextmanager
def waiting(control: Path) -> Iterator[None]:
    """Say, as long as the block runs, that this process waits for a bundle that it can open."""
    file = control / "waiting" / str(os.getpid())
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


class Bundles:
    """One worker's bundles: the served one, the one before, and the shadow. `current` may be read by any thread."""

    def __init__(self, settings: Settings, control: Path, on_event: Callable[[str, str], None]) -> None:
        """on_event: called with what happened ("served", "reloaded", "refused") and a hash or a reason."""
        self.settings, self.control, self._tell = settings, control, on_event
        state = self._committed()
        self.current = self._open(state["bundle"])
        self._before: Loaded | None = None
        self._ahead: Loaded | None = None
        self._token = ""
        self.generation: int = state["generation"]
        self.shadow = self._shadow()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="bundles", daemon=True)

    def begin(self) -> None:
        """Say that this worker serves, and follow the others and the link from now on."""
        self._say_served()
        self._watcher.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._watcher.join(timeout=5)
        (self.control / "workers" / str(os.getpid())).unlink(missing_ok=True)

    def reload(self, bundle: Path, *, only_if_changed: bool = False) -> dict[str, Any]:
        """Serve another bundle in every worker; returns what is committed then (`state`).

        only_if_changed: do nothing when the link is as it was at the last reload.
        Raises ModelError when it is refused (the old one serves on), BusyError when another reload is under way.
        """
        with _locked(self.control):
            signature = _signature(self.settings.bundle)
            if only_if_changed and signature == self._committed()["signature"]:
                return self.state()
            try:
                self._agree(verified(resolved(bundle)), signature)
            except PertinentError as error:
                # Remembered, so that a link to a bad bundle is tried once, not at each look.
                write_json(self.control / "committed.json", {**self._committed(), "signature": signature})
                self._tell("refused", str(error))
                raise
            self._tell("reloaded", self.current.hash)
        return self.state()

    def rollback(self) -> dict[str, Any]:
        """Serve the bundle before this one again, in every worker. Raises ModelError where there is none."""
        with _locked(self.control):
            previous = self._committed()["previous"]
            if previous is None:
                raise ModelError("rollback: expected a bundle served before this one, found none")
            self._agree(previous, self._committed()["signature"])
            self._tell("reloaded", self.current.hash)
        return self.state()

    def state(self) -> dict[str, Any]:
        """What is committed: {"generation", "bundle", "previous"}, bundles by hash and folder."""
        state = self._committed()
        for name in ("bundle", "previous"):
            if state[name] is not None:
                del state[name]["stamp"]
        return {key: value for key, value in state.items() if key != "signature"}

    def n_serving(self) -> int:
        """Workers that take traffic."""
        return len(self._workers())

    def n_waiting(self) -> int:
        """Workers that cannot open the committed bundle."""
        return len(_pids(self.control, "waiting"))

    def _agree(self, target: dict[str, str], signature: str) -> None:
        state = self._committed()
        token = uuid.uuid4().hex
        write_json(self.control / "prepare.json", {"token": token, "bundle": target})
        try:
            self._wait(
                lambda pid: self._ack(pid, token), f"bundle {target['hash'][:12]} was not opened by every worker"
            )
        finally:
            (self.control / "prepare.json").unlink()
        previous = state["bundle"] if state["bundle"]["hash"] != target["hash"] else state["previous"]
        generation = state["generation"] + 1
        changed = {"generation": generation, "signature": signature, "bundle": target, "previous": previous}
        write_json(self.control / "committed.json", changed)
        self._wait(lambda pid: self._at(pid) >= generation, "the switch was not seen by every worker")

    def _wait(self, ready: Callable[[int], bool], otherwise: str) -> None:
        until = time.monotonic() + self.settings.load_timeout
        while not all(ready(pid) for pid in self._workers()):
            if time.monotonic() > until:
                raise ModelError(f"{otherwise} within {self.settings.load_timeout:g} s")
            time.sleep(min(self.settings.poll, 0.05))

    def _workers(self) -> list[int]:
        return _pids(self.control, "workers")

    def _ack(self, pid: int, token: str) -> bool:
        file = self.control / "acks" / str(pid)
        document = read_json(file) if file.is_file() else {}
        if document.get("token") != token:
            return False
        if document["problem"]:
            raise ModelError(document["problem"])
        return True

    def _at(self, pid: int) -> int:
        file = self.control / "workers" / str(pid)
        return int(read_json(file)["generation"]) if file.is_file() else 0

    def _watch(self) -> None:
        while not self._stop.wait(self.settings.poll):
            try:
                self._follow()
            except (PertinentError, OSError) as error:
                self._tell("refused", str(error))

    def _follow(self) -> None:
        with suppress(DataError):  # gone when nothing is to be prepared
            self._prepare(read_json(self.control / "prepare.json"))
        state = self._committed()
        if state["generation"] != self.generation:
            self._switch(state)
        elif _signature(self.settings.bundle) != state["signature"]:
            # In a thread of its own: this one has to open the new bundle for the reload to come to an end.
            threading.Thread(target=self._reload_link, name="reload", daemon=True).start()

    def _reload_link(self) -> None:
        try:
            self.reload(self.settings.bundle, only_if_changed=True)
        except PertinentError:
            return  # told already, or another worker is at it

    def _prepare(self, prepare: dict[str, Any]) -> None:
        if prepare["token"] == self._token:
            return
        self._token = prepare["token"]
        problem = ""
        try:
            self._ahead = self._open(prepare["bundle"])
        except (PertinentError, OSError) as error:
            problem = str(error)
        write_json(self.control / "acks" / str(os.getpid()), {"token": self._token, "problem": problem})

    def _switch(self, state: dict[str, Any]) -> None:
        target = self._open(state["bundle"])
        if target.hash != self.current.hash:
            self._before, self.current = self.current, target
        self._ahead, self.generation = None, state["generation"]
        self._say_served()

    def _open(self, target: dict[str, str]) -> Loaded:
        # None of them is there yet when a worker opens its first bundle.
        held = [vars(self).get(name) for name in ("current", "_ahead", "_before")]
        for one in held:
            if isinstance(one, Loaded) and one.hash == target["hash"]:
                return one
        return load(self.settings, target)

    def _shadow(self) -> Loaded | None:
        if self.settings.shadow is None:
            return None
        try:
            folder = resolved(self.settings.shadow)
            scorer = open_bundle(folder)
            return Loaded(scorer, folder, hash_of(folder), open_store(self.settings, scorer))
        except ModelError as error:  # it was sound when the server started; what is served does not depend on it
            say(f"serve: the shadow is left out: {error}")
            return None

    def _say_served(self) -> None:
        write_json(self.control / "workers" / str(os.getpid()), {"generation": self.generation})
        self._tell("served", self.current.hash)

    def _committed(self) -> dict[str, Any]:
        document: dict[str, Any] = read_json(self.control / "committed.json")
        return document


@contextmanager
def _locked(control: Path) -> Iterator[None]:
    with (control / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("reload: another one is under way") from None
        yield


def _pids(control: Path, kind: str) -> list[int]:
    return [int(file.name) for file in (control / kind).glob("[0-9]*") if alive(int(file.name))]


def _signature(bundle: Path) -> str:
    """Changes when the link points elsewhere, or the bundle behind it is another file."""
    real = os.path.realpath(bundle)
    try:
        status = (bundle_folder(Path(real)) / DESCRIPTION).stat()
    except (PertinentError, OSError):
        return f"{real} absent"
    return f"{real} {status.st_ino} {status.st_mtime_ns}"
