from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pertinent.bundle import format as format_of_bundles
from pertinent.bundle import open_bundle
from pertinent.bundle.format import (
    bundle_files,
    bundle_folder,
    read_description,
    read_statistics,
    write_description,
)
from pertinent.bundle.store import ItemStore
from pertinent.bundle.verify import verify_bundle
from pertinent.errors import ModelError, PertinentError
from pertinent.features.corpus import FIELDS
from pertinent.features.lexical import FEATURE_NAMES
from pertinent.features.terms import terms_of
from pertinent.files import read_json, write_json, write_parquet

FILES = [str(path) for path in bundle_files(Path())]
PROBE = "items/probe.parquet"


def rewrite(bundle: Path, **changes: Any) -> None:
    """Change bundle.json, and make its hashes those of the files as they are now."""
    document = read_json(bundle / "bundle.json")
    write_description(bundle, {key: value for key, value in document.items() if key not in ("files", "format")})
    write_json(bundle / "bundle.json", {**read_json(bundle / "bundle.json"), **changes})


def change_probe(bundle: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    write_parquet(bundle / PROBE, change(pl.read_parquet(bundle / PROBE)))
    rewrite(bundle)


def test_the_listed_files_are_all_the_files_there_are(bundle: Path) -> None:
    there = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert there == {*FILES, "bundle.json"} == {*read_json(bundle / "bundle.json")["files"], "bundle.json"}


def test_statistics_and_items_come_back_as_they_were_written(bundle: Path) -> None:
    statistics = read_statistics(bundle)
    store = ItemStore.open(bundle, "items")
    assert list(store.ids) == [f"i{k}" for k in range(6)]
    assert (len(store.vectors), store.vectors.widths, store.vectors.precision) == (6, (8, 16), "float16")
    assert np.linalg.norm(store.vectors.first(np.arange(6)), axis=1) == pytest.approx(np.ones(6), abs=1e-3)
    assert statistics.n_items == 6
    assert statistics.mean_length == {"title": 16 / 6, "body": 1.0}
    assert {field: values.shape for field, values in statistics.idf.items()} == dict.fromkeys(
        FIELDS, (len(statistics.terms),)
    )
    assert store.lexical.terms["title"].take(np.array([1])).values.tolist() == statistics.ids(
        terms_of("Oak table 24 in")
    )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_changed_byte_is_refused(bundle: Path, file: str, where: float) -> None:
    raw = bytearray((bundle / file).read_bytes())
    raw[round(where * (len(raw) - 1))] ^= 1
    (bundle / file).write_bytes(raw)
    with pytest.raises(ModelError, match=rf"{file}: expected SHA-256 \w+, found \w+: the file was changed"):
        open_bundle(bundle)


def test_a_file_that_was_cut_off_is_refused_even_without_hashes(bundle: Path) -> None:
    raw = (bundle / "token_vectors.npy").read_bytes()
    (bundle / "token_vectors.npy").write_bytes(raw[:-16])
    with pytest.raises(ModelError, match=rf"token_vectors\.npy: expected {len(raw):,} bytes, found {len(raw) - 16:,}"):
        open_bundle(bundle, check_hashes=False)


def test_a_large_file_is_sampled_when_opened_and_hashed_whole_when_verified(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 blocks of a file, every other one sampled: a change there is seen at once, another by the verification."""
    for name, value in (("WHOLE_BYTES", 1024), ("_BLOCK_BYTES", 16), ("_BLOCKS", 64)):
        monkeypatch.setattr(format_of_bundles, name, value)
    file = bundle / "tokenizer.json"
    rewrite(bundle)
    raw = file.read_bytes()
    last = len(raw) - 16
    sampled = {p for k in range(64) for p in range(last * k // 63, last * k // 63 + 16)}
    skipped = next(p for p in range(len(raw)) if p not in sampled)
    for place in (0, len(raw) - 1, last * 31 // 63 + 5):
        assert place in sampled
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(ModelError, match=r"tokenizer\.json: expected SHA-256"):
            open_bundle(bundle)
    file.write_bytes(raw[:skipped] + bytes([raw[skipped] ^ 1]) + raw[skipped + 1 :])
    read_description(bundle)
    for refuses in (verify_bundle, lambda folder: open_bundle(folder, whole=True)):
        with pytest.raises(ModelError, match=r"tokenizer\.json: expected SHA-256"):
            refuses(bundle)


def test_every_array_is_mapped_and_none_read(bundle: Path) -> None:
    """The whole of a store stays in the file, where the pages are shared between workers."""
    scorer = open_bundle(bundle)
    arrays = [scorer.item_vectors.values, scorer.encoder.vectors, *vars(scorer.row_of).values()]
    arrays += [part for rows in scorer.lexical.terms.values() for part in (rows.values, rows.starts)]
    arrays += [*scorer.lexical.n_grams.values(), *scorer.statistics.idf.values(), scorer.statistics.grams.terms.values]
    for array in arrays:
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable


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


@pytest.mark.parametrize("key", ["store", "encoder", "features", "guidelines"])
def test_a_description_without_what_opening_needs_is_refused_in_one_line(bundle: Path, key: str) -> None:
    document = read_json(bundle / "bundle.json")
    write_json(bundle / "bundle.json", {name: value for name, value in document.items() if name != key})
    with pytest.raises(ModelError, match=rf"bundle\.json: expected the key {key}, found none; export the bundle again"):
        open_bundle(bundle)


def test_an_encoder_that_this_version_does_not_know_is_refused(bundle: Path) -> None:
    rewrite(bundle, encoder="mood")
    with pytest.raises(ModelError, match="expected an encoder of kind static, sentence, found mood"):
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
    features = pl.read_parquet(bundle / PROBE)["features"].to_list()
    features[7][1] += 0.5  # title.matched of the second query's second item
    changed = pl.Series("features", features, dtype=pl.List(pl.Float32))
    change_probe(bundle, lambda probe: probe.with_columns(changed))
    with pytest.raises(ModelError, match=r"title\.matched of \('oak table', i1\): expected exactly .* of 0\.5"):
        verify_bundle(bundle)


def test_a_lexical_feature_must_be_equal_to_the_last_bit(bundle: Path) -> None:
    features = np.array(pl.read_parquet(bundle / PROBE)["features"].to_list(), dtype=np.float32)
    column = FEATURE_NAMES.index("query_mean_idf")
    features[3, column] = np.nextafter(features[3, column], np.float32(9))
    changed = pl.Series("features", features.tolist(), dtype=pl.List(pl.Float32))
    change_probe(bundle, lambda probe: probe.with_columns(changed))
    with pytest.raises(
        ModelError, match=r"query_mean_idf of \('red sofa', i3\): expected exactly what it was in training"
    ):
        verify_bundle(bundle)


def test_changed_item_vectors_with_right_hashes_are_refused_by_the_parity_gate(bundle: Path) -> None:
    values = np.load(bundle / "items" / "vectors.npy")
    np.save(bundle / "items" / "vectors.npy", values[::-1])
    rewrite(bundle)
    with pytest.raises(ModelError, match="parity: p_"):
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
