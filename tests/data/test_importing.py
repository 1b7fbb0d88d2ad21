"""An imported set reads back, through the ordinary folder reader, to the same canonical tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from pertinent.data.build import Dataset, build_dataset, load_dataset
from pertinent.data.config import DataConfig, EsciConfig
from pertinent.data.importing import import_dataset
from pertinent.errors import ConfigError, DataError


def built(config: DataConfig, out: Path) -> Dataset:
    out.mkdir()
    build_dataset(config, out)
    return load_dataset(out)


def same(first: Dataset, second: Dataset) -> bool:
    tables = first.items.equals(second.items) and first.judgments.equals(second.judgments)
    about = [(d.name, d.scale, d.attributes, d.languages, d.generated, d.note, d.licence) for d in (first, second)]
    return tables and about[0] == about[1] and first.items.schema == second.items.schema


@pytest.mark.parametrize(("name", "folder"), [("homedepot", "homedepot"), ("esci", "esci_us_small"), ("msrd", "msrd")])
def test_a_real_set_makes_the_round_trip(real_data: Path, tmp_path: Path, name: str, folder: str) -> None:
    source = real_data / folder
    direct = built(DataConfig.model_validate({"reader": name, "path": source}), tmp_path / "direct")
    import_dataset(name, source, tmp_path / "imported")
    again = built(DataConfig(path=tmp_path / "imported"), tmp_path / "again")
    assert same(direct, again)


def test_a_made_set_with_its_own_split_makes_the_round_trip(tmp_path: Path, official_esci: Path) -> None:
    direct = built(DataConfig(reader="esci", path=official_esci), tmp_path / "direct")
    result = import_dataset("esci", official_esci, tmp_path / "imported", esci=EsciConfig())
    again = built(DataConfig(path=tmp_path / "imported"), tmp_path / "again")
    assert same(direct, again)
    assert set(again.judgments["split"]) == {"train", "dev", "test"}
    assert result.counts["judgments"] == direct.judgments.height


def test_an_unknown_set_and_an_unwritable_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="import: expected one of homedepot, esci, cxc, msrd, wands, pinboard, found trec"
    ):
        import_dataset("trec", tmp_path, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        import_dataset("esci", tmp_path, tmp_path / "file" / "out")
