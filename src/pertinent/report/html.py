"""A template of this package -> one self-contained HTML file, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pertinent.errors import DataError
from pertinent.files import atomic_path, reason_of


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page as text. context: what the template names, beside ``style``, which is the style sheet."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pertinent.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(environment.get_template("report.css").render())  # our own file: nothing of the run is in it
    page = environment.get_template(template).render(style=style, **context)
    # Control characters in a stranger's text are not allowed in HTML.
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", page)


def write_page(page: str, target: Path) -> None:
    """Write the page, whole or not at all. Raises DataError where it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{target}: the report cannot be written: {reason_of(error)}") from None
