"""`pertinent import`: a known public set -> a dataset folder that the folder reader reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pertinent.data.check import Checked, clean_source, counts_of, problems_of, read_source, warnings_of
from pertinent.data.config import DataConfig, EsciConfig, PinboardConfig
from pertinent.data.folder import DatasetDescription, ScaleDescription, write_description
from pertinent.data.sieve import reasons_of
from pertinent.errors import ConfigError, DataError
from pertinent.files import write_parquet
from pertinent.types import StageResult

ImportName = Literal["homedepot", "esci", "cxc", "msrd", "wands", "pinboard"]


def import_dataset(
    name: ImportName,
    source: Path | None,
    out: Path,
    esci: EsciConfig | None = None,
    pinboard: PinboardConfig | None = None,
) -> StageResult:
    """Write the public set ``name`` as a dataset folder: items.parquet, judgments.parquet, dataset.yaml, maybe a log.

    source: the folder of the set as its publisher gives it; None for Pinboard, which is generated. Grades are the
    stored ones, 0..n-1; a set's own split, mean ratings and query ids are kept in columns of judgments.parquet.
    Raises ConfigError for an unknown name, DataError if the source is broken or ``out`` cannot be written.
    """
    if name not in get_args(ImportName):
        raise ConfigError(f"import: expected one of {', '.join(get_args(ImportName))}, found {name}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from None
    config = DataConfig(reader=name, path=source, esci=esci or EsciConfig(), pinboard=pinboard or PinboardConfig())
    checked = clean_source(read_source(config, out), config)
    for problem in problems_of(checked, config):
        raise DataError(problem)
    if name != "pinboard":  # its generator has written the folder already
        _write(checked, out)
    return StageResult(counts_of(checked), reasons_of(checked.quarantined), warnings_of(checked))


def _write(checked: Checked, out: Path) -> None:
    own = [name for name in ("query_id", "split") if name in checked.source.judgments.columns]
    columns = [*own, "query", "item_id", "grade", "grade_mean", "n_ratings", "language"]
    write_parquet(out / "items.parquet", checked.items)
    write_parquet(out / "judgments.parquet", checked.judgments.select(columns))
    if checked.log is not None:
        write_parquet(out / "log.parquet", checked.log.drop("query_id", "split"))
    source = checked.source
    write_description(
        out,
        DatasetDescription(
            name=source.name,
            generated=source.generated,
            note=source.note,
            licence=source.licence,
            languages=list(checked.languages),
            attributes=list(source.attributes),
            split_by=source.split_by,
            scale=ScaleDescription(guidelines=list(source.scale.guidelines)),
        ),
    )
