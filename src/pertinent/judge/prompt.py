"""The judge's prompt: a template with the graded guideline, and a pair as data that cannot leave its place."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from pertinent.errors import ConfigError
from pertinent.files import reason_of, sha256_of_json
from pertinent.types import Scale

_SYMBOLS = "123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Quotes and backslashes end or bend a JSON string; the others begin the markers of chat templates and fences
# (<|im_start|>, </s>, <start_of_turn>, [INST], ```), which some servers read as control tokens wherever they stand.
_ESCAPED = re.compile(r"""["\\<>\[\]`]|[^\x20-\x7e]""")
_PROBES = ("a query \x01", "an item \x02")


def data_string(text: str) -> str:
    """``text`` as one JSON string on one line, which json.loads gives back exactly.

    It holds no unescaped quote, no line break or other character that does not print, and no marker of a chat template.
    """
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in '"\\':
        return "\\" + char
    if char.isprintable() and not char.isascii():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k]:02x}{units[k + 1]:02x}" for k in range(0, len(units), 2))


def symbols_of(scale: Scale) -> tuple[str, ...]:
    """What the judge answers for each grade, lowest first: one digit or letter, so that it is one token."""
    if scale.n_grades > len(_LETTERS):
        raise ConfigError(f"judge: expected a scale of at most {len(_LETTERS)} grades, found {scale.n_grades}")
    return tuple((_SYMBOLS if scale.n_grades <= len(_SYMBOLS) else _LETTERS)[: scale.n_grades])


class Prompt:
    """A template's messages for a scale. symbols: (n,) answers, lowest grade first. digest: hash of all that is said."""

    def __init__(self, template: Path | None, scale: Scale) -> None:
        """Raises ConfigError for a template that cannot be read or rendered, or that leaves out the query or the item."""
        self.symbols = symbols_of(scale)
        self._where = "the default template" if template is None else str(template)
        source = _read(template)
        grades = zip(self.symbols, scale.shown, scale.guidelines, strict=True)
        self._context: dict[str, Any] = {
            "grades": [{"symbol": symbol, "name": name, "guideline": text} for symbol, name, text in grades],
            "symbols": list(self.symbols),
        }
        environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True)
        try:
            self._template = environment.from_string(source)
            said = "\n".join(message["content"] for message in self.messages(*_PROBES))
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"{self._where}:{error.lineno}: {error.message}") from None
        except Exception as error:  # a user's template may do anything, 1 / 0 too
            raise ConfigError(
                f"{self._where}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            ) from None
        for name, probe in zip(("query", "item"), _PROBES, strict=True):
            if data_string(probe) not in said:
                raise ConfigError(f"{self._where}: expected {{{{ {name} }}}} in the message, found none")
        self.digest = sha256_of_json([source, self._context])

    def messages(self, query: str, text: str) -> list[dict[str, str]]:
        """The chat's messages for a pair: system and user, or all as user where the template has no blocks."""
        context = self._template.new_context({**self._context, "query": data_string(query), "item": data_string(text)})
        blocks = self._template.blocks
        if not blocks:
            return [{"role": "user", "content": "".join(self._template.root_render_func(context)).strip()}]
        roles = [role for role in ("system", "user") if role in blocks]
        return [{"role": role, "content": "".join(blocks[role](context)).strip()} for role in roles]


def _read(template: Path | None) -> str:
    if template is None:
        return (files("pertinent.judge") / "templates" / "default.j2").read_text(encoding="utf-8")
    try:
        return template.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{template}: cannot be read: {reason_of(error)} (judge.template)") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{template}: expected UTF-8, found byte {error.object[error.start]:#04x}") from None
