"""The `pertinent` command: exit 0; 2 with one line when the input is wrong; a traceback only for a bug of ours."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import orjson
import typer

from pertinent.errors import PertinentError

_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

app = typer.Typer(
    name="pertinent",
    help="From human relevance judgments to a relevance score that a search engine serves in milliseconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, even on a terminal")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a config key, such as teacher.epochs=2")
]


def emit(document: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def wants_json(asked: bool) -> bool:
    """JSON goes to a pipe or a file always, to a terminal only when asked for."""
    return asked or not sys.stdout.isatty()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("pertinent"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Entry point of the console script."""
    from pertinent.cli import (  # noqa: F401  each registers its command
        audit,
        caption,
        doctor,
        evaluate,
        importing,
        init,
        items,
        label,
        links,
        mine,
        report,
        run,
        score,
        serve,
        student,
        teacher,
        text,
        validate,
    )

    try:
        app()
    except PertinentError as error:
        sys.stderr.write(f"pertinent: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as stop:
        # Typer itself ends a command that was interrupted, in silence.
        if stop.code == _INTERRUPTED:
            _stopped()
        raise


def _stopped() -> NoReturn:
    resumes = (["run"], ["caption"], ["links"], ["mine"], ["label"], ["items"])
    continues = "; the same command continues from here" if sys.argv[1:2] in resumes else ""
    sys.stderr.write(f"\npertinent: stopped{continues}\n")
    sys.exit(_INTERRUPTED)
