from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from pertinent.data.config import DataConfig
from pertinent.data.cxc import read_cxc
from pertinent.data.importing import import_dataset
from pertinent.data.splits import SplitConfig, split_of
from pertinent.errors import DataError

N_IMAGES = 40
SPLIT = SplitConfig(test=0.3, dev=0.15)


def caption(image: int, k: int) -> str:
    return f"Caption {k} of image {image}."


def write(folder: Path, extra: list[dict[str, Any]] = [], items: list[list[str]] | None = None) -> Path:  # noqa: B006
    """Each image's first and last caption are queries, rated on its own image and on all others."""
    captions = items or [[caption(i, k) for k in range(5)] for i in range(N_IMAGES)]
    rows = [{"image": f"im{i}.jpg", "captions": captions[i]} for i in range(N_IMAGES)]
    judgments = list(extra)
    for i in range(N_IMAGES):
        for k in (0, 4):
            query = {"query_id": f"s{i}-{k}", "query": captions[i][k]}
            judgments.append({**query, "image": f"im{i}.jpg", "score": 4.9 - (i + k) % 3, "sampling": "c2i_original"})
            for j in range(N_IMAGES):
                if j != i:
                    score = (i * 7 + j * 3 + k) % 26 / 5
                    judgments.append({**query, "image": f"im{j}.jpg", "score": score, "sampling": "c2i_intrasim"})
    for name, table in (("items_test.jsonl.gz", rows), ("judgments.jsonl.gz", judgments)):
        (folder / name).write_bytes(gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in table)))
    return folder


def side(image: str) -> str:
    return split_of(image, SPLIT)


def test_a_pair_counts_where_both_its_images_are_on_one_side(tmp_path: Path, build: Any) -> None:
    dataset, quarantine, _ = build(write(tmp_path), reader="cxc")
    assert quarantine.is_empty()
    kept = set()
    for row in dataset.judgments.to_dicts():
        own = f"im{row['query_id'].partition('-')[0].removeprefix('s')}.jpg"
        assert own != row["item_id"]
        assert row["split"] == side(own) == side(row["item_id"])
        kept.add((own, row["item_id"]))
    images = [f"im{i}.jpg" for i in range(N_IMAGES)]
    assert kept == {(a, b) for a in images for b in images if a != b and side(a) == side(b)}
    assert set(dataset.judgments["split"]) == {"train", "dev", "test"}
    assert f"left out: {2 * (N_IMAGES * (N_IMAGES - 1) - len(kept)):,} pairs whose images" in dataset.note


@pytest.mark.parametrize(
    ("score", "grade", "mean"),
    [(0, 0, 0.0), (0.99, 0, 0.49), (1, 1, 0.5), (2.5, 2, 2.0), (3.99, 3, 3.49), (4, 4, 3.5), (5, 4, 4.0)],
)
def test_ratings_are_cut_at_1_2_3_and_4(tmp_path: Path, score: float, grade: int, mean: float) -> None:
    query = {"query_id": "s0-0", "query": caption(0, 0)}
    same = next(i for i in range(1, N_IMAGES) if side(f"im{i}.jpg") == side("im0.jpg"))
    row = {**query, "image": f"im{same}.jpg", "score": score, "sampling": "c2i_intrasim"}
    source = read_cxc(write(tmp_path, [row]), DataConfig(reader="cxc", path=tmp_path))
    found = source.judgments.rows.row(0, named=True)
    assert (found["grade"], found["image"]) == (grade, f"im{same}.jpg")
    assert found["grade_mean"] == pytest.approx(mean)
    assert round(found["grade_mean"] + 1e-9) == grade or found["grade_mean"] % 1 == 0.5


@pytest.mark.parametrize("n", [1, 4])
def test_a_query_never_stands_in_the_text_it_is_scored_against(tmp_path: Path, build: Any, n: int) -> None:
    # Image 1 has, as its second caption, the words of a query of image 0, in another case.
    items = [[caption(i, k) for k in range(5)] for i in range(N_IMAGES)]
    twin = next(i for i in range(1, N_IMAGES) if side(f"im{i}.jpg") == side("im0.jpg"))
    items[twin][1] = caption(0, 4).upper()
    for sampling in ("c2i_intrasim", "c2i_original"):
        settings = {"captions": n, "sampling": sampling}
        dataset, _, _ = build(write(tmp_path, items=items), reader="cxc", cxc=settings)
        texts = dict(dataset.items.select("item_id", "captions").iter_rows())
        assert {len(captions) for captions in texts.values()} == {n}
        pairs = dataset.judgments.select("query", "item_id").rows()
        assert not [pair for pair in pairs if pair[0].lower() in [text.lower() for text in texts[pair[1]]]]
        if sampling == "c2i_original":  # the first caption is in every text: of each image its fifth one is left
            assert {query for query, _ in pairs} == {caption(i, 4) for i in range(N_IMAGES)}
        else:
            assert ((caption(0, 4), f"im{twin}.jpg") in pairs) == (n == 1)


def test_a_rating_off_its_scale_is_quarantined_and_a_missing_file_named(tmp_path: Path) -> None:
    row = {"query_id": "s0-0", "query": caption(0, 0), "image": "im1.jpg", "score": 5.5, "sampling": "c2i_intrasim"}
    config = DataConfig(reader="cxc", path=tmp_path)
    source = read_cxc(write(tmp_path, [row]), config)
    expected = [("judgments.jsonl.gz", 1, "score must be a number from 0 to 5, got 5.5")]
    assert source.judgments.broken.select("file", "line", "reason").rows() == expected
    (tmp_path / "items_test.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"items_test\.jsonl\.gz: no such file"):
        read_cxc(tmp_path, config)


def test_import_gives_the_folder_that_the_folder_reader_reads(tmp_path: Path, build: Any) -> None:
    source = tmp_path / "cxc"
    source.mkdir()
    dataset, _, _ = build(write(source), reader="cxc")
    import_dataset("cxc", source, tmp_path / "imported")
    again, _, _ = build(tmp_path / "imported", reader="folder")
    columns = ["query", "item_id", "grade", "split"]
    assert again.judgments.select(columns).sort(columns).equals(dataset.judgments.select(columns).sort(columns))
    assert again.items["captions"].to_list() == dataset.items["captions"].to_list()


def test_the_real_set_has_its_known_counts(real_data: Path, build: Any) -> None:
    dataset, quarantine, result = build(real_data / "cxc", reader="cxc")
    assert quarantine.is_empty()
    assert result.counts["items"] == 5_000
    judged = {split: part["judgments"] for split, part in result.counts["splits"].items()}
    assert 8_000 < sum(judged.values()) < 8_138  # 8,138 pairs have both images on one side
    assert judged["test"] > 1_900
    assert dataset.judgments.filter(pl.col("grade").is_null()).is_empty()
    assert set(result.counts["grades"]) == {"L1", "L2", "L3", "L4", "L5"}
    assert min(result.counts["grades"].values()) > 500
