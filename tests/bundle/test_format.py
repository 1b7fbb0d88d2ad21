from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import open_bundle
from pertinent.bundle.format import (
    bundle_files,
    bundle_folder,
    read_description,
    read_items,
    read_statistics,
    write_description,
)
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import ModelError, PertinentError
from pertinent.features.lexical import FIELDS
from pertinent.features.terms import terms_of
from pertinent.files import read_json, write_json, write_parquet

FILES = [str(path) for path in bundle_files(Path())]


def rewrite(bundle: Path, **changes: Any) -> None:
    """Change bundle.json, and make its hashes those of the files as they are now."""
    document = read_json(bundle / "bundle.json")
    write_description(bundle, {key: value for key, value in document.items() if key not in ("files", "format")})
    write_json(bundle / "bundle.json", {**read_json(bundle / "bundle.json"), **changes})


def change_probe(bundle: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    write_parquet(bundle / "probe.parquet", change(pl.read_parquet(bundle / "probe.parquet")))
    rewrite(bundle)


def test_the_listed_files_are_all_the_files_there_are(bundle: Path) -> None:
    there = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert there == {*FILES, "bundle.json"} == {*read_json(bundle / "bundle.json")["files"], "bundle.json"}


def test_statistics_and_items_come_back_as_they_were_written(bundle: Path) -> None:
    statistics = read_statistics(bundle)
    ids, vectors, lexical = read_items(bundle)
    assert ids == [f"i{k}" for k in range(6)]
    assert (vectors.shape, vectors.dtype) == ((6, 8), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    assert statistics.n_items == 6
    assert statistics.mean_length == {"title": 16 / 6, "body": 1.0}
    assert {field: values.shape for field, values in statistics.idf.items()} == dict.fromkeys(
        FIELDS, (len(statistics.terms),)
    )
    assert lexical.terms["title"].take(np.array([1])).values.tolist() == statistics.ids(terms_of("Oak table 24 in"))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_changed_byte_is_refused(bundle: Path, file: str, where: float) -> None:
    raw = bytearray((bundle / file).read_bytes())
    raw[round(where * (len(raw) - 1))] ^= 1
    (bundle / file).write_bytes(raw)
    with pytest.raises(ModelError, match=rf"{file}: expected SHA-256 \w+, found \w+: the file was changed"):
        open_bundle(bundle)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused_with_or_without_hashes(bundle: Path, file: str) -> None:
    (bundle / file).unlink()
    for check_hashes in (True, False):
        with pytest.raises(ModelError, match=f"{file}: the bundle lists this file, found none"):
            open_bundle(bundle, check_hashes=check_hashes)


@pytest.mark.parametrize("file", FILES)
def test_a_description_that_leaves_out_a_file_is_refused(bundle: Path, file: str) -> None:
    document = read_json(bundle / "bundle.json")
    files = {name: value for name, value in document["files"].items() if name != file}
    write_json(bundle / "bundle.json", {**document, "files": files})
    with pytest.raises(ModelError, match=file):
        open_bundle(bundle)


def test_another_format_is_refused_with_the_version_that_made_it(bundle: Path) -> None:
    rewrite(bundle, format=2, package_version="9.1")
    with pytest.raises(
        ModelError, match=r"expected bundle format 3, found 2 \(pertinent 9\.1\); export the bundle again"
    ):
        open_bundle(bundle)


def test_other_features_are_refused(bundle: Path) -> None:
    rewrite(bundle, features=read_json(bundle / "bundle.json")["features"][::-1])
    with pytest.raises(ModelError, match="expected the features of this version, found others"):
        open_bundle(bundle)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}'])
def test_a_broken_description_is_refused_in_one_line(bundle: Path, content: str) -> None:
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(PertinentError, match=r"bundle\.json"):
        open_bundle(bundle)


def test_a_damaged_network_with_a_right_hash_is_refused(bundle: Path) -> None:
    (bundle / "student.onnx").write_bytes((bundle / "student.onnx").read_bytes()[:200])
    rewrite(bundle)
    with pytest.raises(ModelError, match=r"student\.onnx: cannot be opened"):
        open_bundle(bundle)


def test_a_run_folder_and_its_student_are_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    bundle.rename(run / "student")
    assert bundle_folder(run) == bundle_folder(run / "student") == run / "student"
    assert read_description(run / "student")["n_items"] == 6
    with pytest.raises(ModelError, match=r"expected a bundle or a run folder with student/bundle\.json, found neither"):
        bundle_folder(tmp_path)


def test_a_whole_bundle_verifies(bundle: Path) -> None:
    found = verify_bundle(bundle)
    assert found["features"] <= 1e-6
    assert found["probabilities"] <= 1e-5


def test_a_changed_probe_is_refused_by_the_parity_gate(bundle: Path) -> None:
    change_probe(bundle, lambda probe: probe.with_columns(pl.col("p_2") + pl.Series([0.0] * 17 + [1e-3])))
    with pytest.raises(
        ModelError, match=r"parity: p_2 of \('lamp', i5\): expected within 1e-05 of training, found .* 0\.001"
    ):
        verify_bundle(bundle)


def test_a_changed_feature_is_named(bundle: Path) -> None:
    features = pl.read_parquet(bundle / "probe.parquet")["features"].to_list()
    features[7][1] += 0.5  # title.matched of the second query's second item
    changed = pl.Series("features", features, dtype=pl.List(pl.Float32))
    change_probe(bundle, lambda probe: probe.with_columns(changed))
    with pytest.raises(ModelError, match=r"title\.matched of \('oak table', i1\): expected within 1e-06 .* of 0\.5"):
        verify_bundle(bundle)


@pytest.mark.parametrize("n_nan", [1, 18])
def test_a_nan_in_the_probe_is_refused_and_named(bundle: Path, n_nan: int) -> None:
    nan = pl.when(pl.int_range(pl.len()) < n_nan).then(float("nan")).otherwise("p_3").cast(pl.Float32).alias("p_3")
    change_probe(bundle, lambda probe: probe.with_columns(nan))
    with pytest.raises(ModelError, match=r"parity: p_3 of \('red sofa', i0\)"):
        verify_bundle(bundle)


def test_a_probe_that_is_wholly_nan_is_refused(bundle: Path) -> None:
    nan = pl.lit(float("nan"), pl.Float32)
    change_probe(bundle, lambda probe: probe.with_columns(p_1=nan, p_2=nan, p_3=nan))
    with pytest.raises(ModelError, match="parity: p_1 of"):
        verify_bundle(bundle)


def test_a_probe_of_an_item_that_the_bundle_lacks_is_refused(bundle: Path) -> None:
    change_probe(bundle, lambda probe: probe.with_columns(pl.col("item_id").replace("i3", "other")))
    with pytest.raises(ModelError, match="other"):
        verify_bundle(bundle)


def test_a_probe_without_pairs_is_refused(bundle: Path) -> None:
    change_probe(bundle, lambda probe: probe.head(0))
    with pytest.raises(ModelError, match="probe"):
        verify_bundle(bundle)


def test_changed_token_vectors_with_right_hashes_are_refused_by_the_parity_gate(bundle: Path) -> None:
    vectors = np.load(bundle / "token_vectors.npy")
    np.save(bundle / "token_vectors.npy", vectors[::-1])
    rewrite(bundle)
    with pytest.raises(ModelError, match="parity: p_"):
        verify_bundle(bundle)
