"""Strict configuration: one frozen model a stage, YAML with ``${VARIABLES}`` and ``a.b=value`` overrides."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pertinent.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every config model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def load_config(model: type[C], path: Path, overrides: Iterable[str] = ()) -> C:
    """Read a YAML file into ``model``.

    overrides: ``a.b=value`` strings, the value read as YAML. ``${NAME}`` stands for an environment variable.
    Raises ConfigError naming the file, the key and the nearest right key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8, found byte {error.object[error.start]:#04x} at {error.start}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found a {type(tree).__name__}")
    return parse_config(model, _expand(overridden(tree, overrides), str(path), ""), str(path))


def overridden(tree: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The tree with each ``a.b=value`` set in it. Raises ConfigError for one that is not of this form."""
    for override in overrides:
        _apply(tree, override)
    return tree


def parse_config(model: type[C], tree: Any, where: str) -> C:
    """Validate a tree of plain values. Raises ConfigError with one line for the first thing wrong."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(model, error)}") from None


def paths_beside(config: C, keys: Iterable[str], folder: Path) -> C:
    """``config`` with the relative paths of ``keys`` ("images.folder") taken from ``folder`` where something is there.

    Else they are left as they are: a path from the working folder, or the name of a model on a hub. A section or path
    that is None is left too.
    """
    for key in keys:
        config = _beside(config, key.split("."), folder)
    return config


def _beside(config: C, key: list[str], folder: Path) -> C:
    name, *rest = key
    value = getattr(config, name)
    if value is None:
        return config
    if rest:
        return config.model_copy(update={name: _beside(value, rest, folder)})
    if isinstance(value, tuple):
        return config.model_copy(update={name: tuple(_path_beside(one, folder) for one in value)})
    return config.model_copy(update={name: _path_beside(value, folder)})


def _path_beside(value: Path | str, folder: Path) -> Path | str:
    path = Path(value)
    there = folder / path
    return type(value)(there) if not path.is_absolute() and there.exists() else value


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, such as teacher.epochs=2")
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, not a section")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None


def _expand(value: Any, where: str, key: str) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, where, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, where, key) for v in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{where}: {key}: environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", variable, value)


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    # An unknown key is told first: it often causes the others (a required key missing).
    problem = next((p for p in error.errors() if p["type"] == "extra_forbidden"), error.errors()[0])
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"missing key {key}"
    found = "" if isinstance(problem.get("input"), dict) else f", found {problem.get('input')!r}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: expected {message}{found}"


def _known_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part)
        inner = _model_inside(field.annotation) if field else None
        if inner is None:
            continue  # a list index, or the key of a mapping of models
        model = inner
    return list(model.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (inner := _model_inside(argument)) is not None:
            return inner
    return None
