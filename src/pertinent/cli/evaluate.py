"""`pertinent evaluate SCORES RUN`: measure a stranger's scores on a run's held-out judgments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pertinent.cli.app import JsonFlag, app, emit, wants_json


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet: query, item_id and p_1..p_n, or score")],
    run: Annotated[Path, typer.Argument(help="run folder, or its data folder, with the judgments")],
    resamples: Annotated[int, typer.Option(min=0, help="bootstrap resamples of queries; 0: no intervals")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """Metrics, with intervals and slices, of any system's scores on the same held-out pairs as the run's own."""
    from pertinent.cli.tables import print_metrics
    from pertinent.pipeline.evaluate import evaluate_scores

    metrics = evaluate_scores(scores, run, resamples=resamples)
    print_metrics(metrics)
    if wants_json(as_json):
        emit(metrics)
