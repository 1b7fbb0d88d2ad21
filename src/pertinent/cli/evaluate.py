"""`pertinent evaluate RUN QRELS MEASURE ...`: measure, compare and gate runs; `evaluate SCORES RUN`: on a run's held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pertinent.cli.app import JsonFlag, app, emit, wants_json
from pertinent.errors import DataError

Intervals = Literal["bootstrap", "analytic"]
Correction = Literal["holm", "benjamini-hochberg", "none"]


@app.command()
def evaluate(
    run: Annotated[
        Path, typer.Argument(help="TREC run, CSV, JSONL or Parquet (query, item_id, score or p_1..p_n), or run folder")
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QRELS] [MEASURE]...",
            help="judgments: qrels, a table (query, item_id, grade), WANDS, run or data folder; then measures by ir_measures' "
            "names and ours: nDCG@20, P(rel=3)@8, AUROC@4, PairAccuracy, QWK, ...",
        ),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="another run, or a system of the run folder; may be repeated")
    ] = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE[=MARGIN]", help="exit 1 if RUN is significantly worse than a baseline by more than this"
        ),
    ] = None,
    slice_: Annotated[
        list[str] | None, typer.Option("--slice", metavar="COLUMN[=VALUE]", help="measure (and gate) these parts too")
    ] = None,
    system: Annotated[str | None, typer.Option(help="of run folders, the system to measure (default: student)")] = None,
    judged_only: Annotated[
        bool, typer.Option(help="leave unjudged items out of every list (a condensed list)")
    ] = False,
    undefined_as_zero: Annotated[
        bool, typer.Option(help="a query without a relevant item counts as 0, as in trec_eval; else it is left out")
    ] = False,
    grades: Annotated[int | None, typer.Option(min=2, help="grades of the scale (default: of the judgments)")] = None,
    intervals: Annotated[Intervals, typer.Option(help="of 95%")] = "bootstrap",
    correction: Annotated[
        Correction | None, typer.Option(help="with --against: of p-values, over runs and slices (default: holm)")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="bootstrap resamples of queries; 0: no intervals")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of resamples and exchanges")] = 0,
    trec_out: Annotated[
        Path | None, typer.Option(help="also write the judgments and runs as TREC files into this folder")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure a run on judgments, alone or against others; with --fail-below, a gate for continuous integration.

    A table of scores with a run folder and no measure: every metric, with intervals and slices, on the same held-out
    pairs as the run's own systems.
    """
    from pertinent.cli.tables import print_comparison, print_metrics
    from pertinent.evaluation.comparison import Settings
    from pertinent.pipeline.evaluate import evaluate_scores, is_dataset
    from pertinent.pipeline.measuring import Request, measure_runs, write_trec

    judgments, measures = _split(rest or [])
    if system is not None and not any(Path(path).is_dir() for path in (run, *(against or ()))):
        raise DataError(f"--system {system}: expected a run folder to take it from, found {run}")
    if correction is not None and not against:
        raise DataError(f"--correction {correction}: expected a run to compare with, --against, found none")
    plain = not (measures or against or fail_below or slice_ or trec_out or grades or judged_only or undefined_as_zero)
    if plain and judgments is not None and run.is_file() and is_dataset(judgments):
        metrics = evaluate_scores(run, judgments, method=intervals, resamples=resamples, seed=seed)
        print_metrics(metrics)
        if wants_json(as_json):
            emit(metrics)
        return
    request = Request(
        run,
        judgments,
        tuple(measures),
        tuple(against or ()),
        system or "student",
        tuple(slice_ or ()),
        tuple(fail_below or ()),
        judged_only,
        grades,
        correction or "holm",
        Settings(intervals, resamples, seed=seed, undefined_as_zero=undefined_as_zero),
    )
    found = measure_runs(request)
    if trec_out is not None:
        found["trec"] = write_trec(request, trec_out)
    print_comparison(found)
    if wants_json(as_json):
        emit(found)
    if found["gate"] is not None and not found["gate"]["passed"]:
        raise typer.Exit(1)


def _split(rest: list[str]) -> tuple[Path | None, list[str]]:
    """Judgments and measures: the first word is judgments where such a file is there or it names no measure."""
    from pertinent.evaluation.measures import parse_measure

    if not rest:
        return None, []
    if not Path(rest[0]).exists():
        try:
            parse_measure(rest[0])
        except DataError as error:
            if "/" in rest[0] or "." in rest[0]:
                raise DataError(f"{rest[0]}: no such file") from None
            raise DataError(f"{rest[0]}: no such file, and {error}") from None
        return None, rest
    return Path(rest[0]), rest[1:]
