"""`pertinent serve BUNDLE`: relevance scores over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import SetOption, app


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="bundle folder, a run folder, or a link to one that may change later")],
    host: Annotated[str, typer.Option(help="address to bind; beyond loopback it needs API keys")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one, told on stderr")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes, each with one scoring thread")] = 1,
    store: Annotated[
        str | None,
        typer.Option(help="redis:// of all items, or a folder of changes to the bundle's (default: its own)"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings: limits, queue, blend, keys")] = None,
    shadow: Annotated[Path | None, typer.Option(help="second bundle that scores a share of requests too")] = None,
    shadow_share: Annotated[float, typer.Option(min=0, max=1, help="with --shadow: share of requests")] = 0.1,
    feature_log: Annotated[Path | None, typer.Option(help="folder for the features and scores of a sample")] = None,
    feature_log_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="with --feature-log: share of requests (default 0.01)")
    ] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="keys, one a line (else $PERTINENT_API_KEYS)")] = None,
    admin_keys_file: Annotated[Path | None, typer.Option(help="keys of /admin (else $PERTINENT_ADMIN_KEYS)")] = None,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="write query texts to the access log")] = False,
    overrides: SetOption = None,
) -> None:
    """Serve a bundle over HTTP with onnxruntime alone: /v1/score, /v1/rank, /v1/rerank, /rerank."""
    from pertinent.config import load_config, overridden, parse_config
    from pertinent.serving.server import serve as run
    from pertinent.serving.settings import Settings

    told: dict[str, object] = {"bundle": str(bundle)}
    if shadow is not None:
        told |= {"shadow": str(shadow), "shadow_share": shadow_share}
    told |= {"store": store} if store else {}
    told |= {"feature_log": str(feature_log)} if feature_log else {}
    told |= {"feature_log_share": feature_log_share} if feature_log_share is not None else {}
    told |= {"api_keys_file": api_keys_file} if api_keys_file else {}
    told |= {"admin_keys_file": admin_keys_file} if admin_keys_file else {}
    told |= {"log_queries": True} if log_queries else {}
    if config is not None:
        sets = [f"{key}={value}" for key, value in told.items()]
        settings = load_config(Settings, config, [*sets, *(overrides or [])])
    else:
        settings = parse_config(Settings, overridden(told, overrides or []), "serve")
    run(settings, host=host, port=port, workers=workers)
