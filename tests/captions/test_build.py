from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pertinent.captions import CaptionsConfig, caption_inputs, caption_items
from pertinent.captions import build as build_module
from pertinent.captions.model import ModelCaptioner
from pertinent.config import parse_config
from pertinent.errors import ConfigError, DataError, ModelError
from pertinent.pipeline.fields import load_fields_config, run_fields
from pertinent.types import StageResult

COLOURS = ["red", "blue", "green", "orange", "purple", "teal", "gold", "navy", "pink", "grey"]


def endpoint_config(server: Any, tmp_path: Path, **changes: Any) -> CaptionsConfig:
    return parse_config(CaptionsConfig, endpoint_tree(server, tmp_path, **changes), "captions.yaml")


def endpoint_tree(server: Any, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "endpoint": {"base_url": f"{server.url}/v1", "model": "tiny", "concurrency": 3, "timeout_s": 5},
        "images": {"folder": str(tmp_path)},
        "fetch": {"allow_hosts": ["127.0.0.1"], "timeout_s": 5, **changes.pop("fetch", {})},
        "retry": {"attempts": 3, "base_s": 0.01, "max_s": 0.02, **changes.pop("retry", {})},
        "cache": str(tmp_path / "cache"),
        "unit_images": 3,
        **changes,
    }


def run(config: CaptionsConfig, data: Path, out: Path) -> StageResult:
    out.mkdir(exist_ok=True)
    return caption_items(config, data, out, seed=0)


def fields(out: Path) -> dict[str, list[str]]:
    return {item: captions for item, version, captions in pl.read_parquet(out / "fields.parquet").iter_rows()}


def quarantine(out: Path) -> dict[int, str]:
    return dict(pl.read_parquet(out / "quarantine.parquet").select("line", "reason").iter_rows())


def everything(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def write_images(folder: Path, draw: Any) -> dict[str, str | None]:
    """An image file a colour; item "i07" shows the colour 7."""
    folder.mkdir(exist_ok=True)
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(draw(colour))
    return {f"i{k:02d}": f"{colour}.png" for k, colour in enumerate(COLOURS)}


def test_a_tiny_blip_captions_image_files(tmp_path: Path, tiny_blip: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path / "images", draw))
    tree = {
        "model": str(tiny_blip),
        "max_new_tokens": 6,
        "unit_images": 4,
        "batch_size": 3,
        "cache": str(tmp_path / "cache"),
    }
    checks = {"max_repeats": 9}  # random weights like to say one word again
    config = parse_config(
        CaptionsConfig, {**tree, "checks": checks, "images": {"folder": str(tmp_path / "images")}}, "x"
    )
    result = run(config, data, tmp_path / "out")
    found = fields(tmp_path / "out")
    assert list(found) == [f"i{k:02d}" for k in range(10)]
    assert all(len(captions) == 1 and captions[0] for captions in found.values())
    assert result.counts["captions"] == result.counts["items_with_captions"] == result.counts["distinct_images"] == 10
    schema = {"item_id": pl.String, "text_version": pl.Int8, "captions": pl.List(pl.String)}
    assert pl.read_parquet_schema(tmp_path / "out" / "fields.parquet") == schema
    assert pl.read_parquet(tmp_path / "out" / "fields.parquet")["text_version"].unique().to_list() == [-1]
    # The same picture, asked alone of the model itself.
    unit = pl.read_parquet(tmp_path / "out" / "unit-00000.parquet").row(0, named=True)
    from pertinent.captions.images import decode

    data_bytes = (tmp_path / "images" / "red.png").read_bytes()
    picture = decode(data_bytes, unit["image_sha256"], config.images)
    assert unit["text"] == ModelCaptioner(config).caption([picture])[0]


def test_a_cached_caption_needs_no_model(
    tmp_path: Path, tiny_blip: Path, draw: Any, write_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path / "images", draw))
    tree = {"model": str(tiny_blip), "max_new_tokens": 3, "cache": str(tmp_path / "cache")}
    config = parse_config(CaptionsConfig, {**tree, "images": {"folder": str(tmp_path / "images")}}, "x")
    run(config, data, tmp_path / "first")
    monkeypatch.setattr("pertinent.captions.model._load", lambda *arguments: pytest.fail("loaded"))
    monkeypatch.setattr(build_module, "decode", lambda *arguments: pytest.fail("decoded"))
    run(config, data, tmp_path / "second")
    assert everything(tmp_path / "first") == everything(tmp_path / "second")


def test_files_urls_and_bytes_of_one_picture_are_asked_once(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    red, blue = draw("red"), draw("blue")
    (tmp_path / "red.png").write_bytes(red)
    data = write_data(
        tmp_path / "data", {"b": server.put("red.png", red), "a": "red.png", "c": server.put("b.png", blue), "d": None}
    )
    result = run(endpoint_config(server, tmp_path), data, tmp_path / "out")
    assert len(server.asked) == 2
    found = fields(tmp_path / "out")
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == found["b"] != found["c"]
    assert result.counts["images"] == 3
    assert result.counts["distinct_images"] == 2

    table = pl.DataFrame(
        {"sku": ["a", "a", "c", "stranger"], "photo": [[red], [blue, red], [], [blue]]},
        schema_overrides={"photo": pl.List(pl.Binary)},
    )
    table.write_parquet(tmp_path / "photos.parquet")
    images = {"table": str(tmp_path / "photos.parquet"), "id_column": "sku", "column": "photo"}
    result = run(endpoint_config(server, tmp_path, images=images), data, tmp_path / "bytes")
    assert len(server.asked) == 2  # all are in the cache
    assert fields(tmp_path / "bytes") == {"a": [found["a"][0], found["c"][0]]}
    assert caption_inputs(endpoint_config(server, tmp_path, images=images), data, seed=0).keys() == {
        "captioner",
        "table",
    }
    assert result.counts["rows_of_unknown_items"] == 1


def test_the_form_of_hugging_face_image_columns(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    (tmp_path / "blue.png").write_bytes(draw("blue"))
    data = write_data(tmp_path / "data", {"a": None, "b": None})
    photos = [{"bytes": draw("red"), "path": "x.png"}, {"bytes": None, "path": "blue.png"}]
    pl.DataFrame({"item_id": ["a", "b"], "image": photos}).write_parquet(tmp_path / "hf.parquet")
    images = {"table": str(tmp_path / "hf.parquet"), "folder": str(tmp_path)}
    run(endpoint_config(server, tmp_path, images=images), data, tmp_path / "out")
    assert sorted(fields(tmp_path / "out")) == ["a", "b"]


def test_whatever_is_wrong_with_an_image_costs_its_row_only(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    from PIL import Image

    jpeg = draw("green", (200, 200), "JPEG")
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "huge.png").write_bytes(draw("red", (2_000, 30)))
    (tmp_path / "text.png").write_bytes(b"no image")
    (tmp_path / "good.png").write_bytes(draw("blue"))
    server.redirects["/away"] = f"http://localhost:{server.port}/good.png"
    server.put("good.png", draw("gold"))
    server.put("page.html", b"<html>", "text/html")
    server.faults["/busy.png"] = [429] * 9
    server.faults["/once.png"] = [503]
    server.put("once.png", draw("pink"))
    server.put("refused.png", draw("navy"))
    images = {
        "good": "good.png",
        "cut": "cut.jpg",
        "huge": "huge.png",
        "moving": "moving.gif",
        "text": "text.png",
        "absent": "absent.png",
        "outside": "../outside.png",
        "private": "http://10.0.0.1/x.png",
        "rebound": f"{server.url}/away",
        "page": f"{server.url}/page.html",
        "lost": f"{server.url}/lost.png",
        "busy": f"{server.url}/busy.png",
        "once": f"{server.url}/once.png",
        "refused": f"{server.url}/refused.png",
        "scheme": "ftp://shop.test/x.png",
    }
    navy = (0, 0, 128)
    usual = server.caption
    near = lambda pixel: sum(abs(a - b) for a, b in zip(pixel, navy, strict=True)) < 20  # noqa: E731
    server.caption = lambda image: "I'm sorry, I can't help." if near(image.getpixel((20, 15))) else usual(image)
    data = write_data(tmp_path / "data", images)
    config = endpoint_config(server, tmp_path, images={"folder": str(tmp_path), "max_pixels": 50_000})
    result = run(config, data, tmp_path / "out")
    assert list(fields(tmp_path / "out")) == ["good", "moving", "once"]
    line_of = {item: line for line, item in enumerate(images, start=1)}
    reasons = quarantine(tmp_path / "out")
    localhost = reasons.pop(line_of["rebound"])
    assert localhost.startswith("image must come from a public address or an allowed host, got localhost at ")
    cut = reasons.pop(line_of["cut"])
    assert cut.startswith(
        "image must be a whole JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file, got image file is truncated"
    )
    types = "image/, application/octet-stream, binary/octet-stream"
    assert reasons == {
        line_of["huge"]: "image must have at most 50,000 pixels, got 2000 x 30",
        line_of[
            "text"
        ]: "image must be a whole JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file, got no image format that is read",
        line_of["absent"]: "image must be a readable file, got No such file or directory",
        line_of["outside"]: "image must be a file inside images.folder, got '../outside.png'",
        line_of[
            "private"
        ]: "image must come from a public address or an allowed host, got 10.0.0.1 at 10.0.0.1 (private)",
        line_of["page"]: f"image must have a content type of {types}, got text/html",
        line_of["lost"]: "image must be answered with status 200, got 404",
        line_of["busy"]: "image must be answered with status 200, got 429",
        line_of["refused"]: "caption must describe the image, got a refusal \"I'm sorry, I can't help.\"",
        line_of["scheme"]: "image must be an http or https URL or a file, got 'ftp://shop.test/x.png'",
    }
    assert result.counts["images"] == 15
    assert sum((result.quarantined or {}).values()) == 12
    assert server.gotten.count("/busy.png") == 3
    assert result.warnings
    kept = (
        pl.read_parquet(tmp_path / "out" / "quarantine.parquet")
        .filter(pl.col("line") == line_of["huge"])
        .row(0, named=True)
    )
    assert kept["file"] == "items.parquet"
    assert '"item_id":"huge"' in kept["row"]
    assert '"image":"huge.png"' in kept["row"]


def test_a_fault_of_the_endpoint_costs_its_row_only(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    server.faults["POST"] = ["malformed", 500, {"status": 429, "Retry-After": "0"}, "cut", "reset", 400]
    config = endpoint_config(server, tmp_path, retry={"attempts": 7, "base_s": 0.01, "max_s": 0.02})
    run(config, data, tmp_path / "out")
    assert len(fields(tmp_path / "out")) == 9
    assert list(quarantine(tmp_path / "out").values()) == [
        "endpoint's answer must be answered with status 200, got 400"
    ]


def test_an_unreachable_endpoint_stops_the_stage_and_loses_nothing(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    # Ten images in one unit, for of fewer than eight nothing can be told.
    down = endpoint_config(server, tmp_path, unit_images=10)
    server.faults["POST"] = [503] * 99
    with pytest.raises(ModelError, match="none of 10 calls got through"):
        run(down, data, tmp_path / "out")
    server.faults["POST"] = []
    run(down, data, tmp_path / "out")
    assert len(fields(tmp_path / "out")) == 10


def test_the_bytes_do_not_depend_on_the_order_of_answers(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    quick = random.Random(3)
    lock = threading.Lock()

    def wait() -> None:
        with lock:
            seconds = quick.random() * 0.03
        time.sleep(seconds)

    server.on_request = wait
    for name, concurrency in (("one", 1), ("five", 5)):
        endpoint = {"base_url": f"{server.url}/v1", "model": "tiny", "concurrency": concurrency}
        config = endpoint_config(
            server,
            tmp_path,
            endpoint=endpoint,
            cache=str(tmp_path / name / "cache"),
            fetch={"concurrency": concurrency},
        )
        run(config, data, tmp_path / f"out-{name}")
    assert len(server.asked) == 20
    assert everything(tmp_path / "out-one") == everything(tmp_path / "out-five")


def test_damaged_shards_are_made_again(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    config = endpoint_config(server, tmp_path)
    run(config, data, tmp_path / "out")
    before = everything(tmp_path / "out")
    (tmp_path / "out" / "unit-00001.parquet").write_bytes(b"PAR1")
    (tmp_path / "out" / ".unit-00002.parquet.99.partial").write_bytes(b"PAR1")
    shards = sorted((tmp_path / "cache").rglob("captions-*.parquet"))
    assert len(shards) == 4
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:-9])
    run(config, data, tmp_path / "out")
    assert everything(tmp_path / "out") == before
    assert len(server.asked) == 10 + 3


def test_a_changed_check_asks_nothing_anew(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    config = endpoint_config(server, tmp_path)
    run(config, data, tmp_path / "out")
    short = endpoint_config(server, tmp_path, checks={"max_chars": 8})
    run(short, data, tmp_path / "short")
    assert fields(tmp_path / "short") == {}
    assert len(server.asked) == 10
    run(endpoint_config(server, tmp_path, prompt="What?"), data, tmp_path / "prompt")
    assert len(server.asked) == 20


def test_the_inputs_tell_changes(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    config = endpoint_config(server, tmp_path)
    before = caption_inputs(config, data, seed=0)
    assert caption_inputs(config, data, seed=0) == before
    assert caption_inputs(endpoint_config(server, tmp_path, prompt="What?"), data, seed=0) != before
    (tmp_path / "red.png").write_bytes(draw("red", (65, 48)))
    assert caption_inputs(config, data, seed=0) != before


def test_a_stage_that_is_done_needs_no_key(server: Any, tmp_path: Path, draw: Any, write_data: Any) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))
    endpoint = {"base_url": f"{server.url}/v1", "model": "tiny", "api_key_env": "NO_SUCH_KEY"}
    config = endpoint_config(server, tmp_path, endpoint=endpoint)
    keyless = endpoint_config(server, tmp_path)
    assert caption_inputs(config, data, seed=0) == caption_inputs(keyless, data, seed=0)
    with pytest.raises(ConfigError, match="environment variable NO_SUCH_KEY is not set"):
        caption_items(config, data, tmp_path / "out", seed=0)


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"images": {"column": "imag"}}, ConfigError, r"captions.images.column: .*items.parquet has no column 'imag'; nearest present column: 'image'"),
        ({"images": {"table": "nowhere.parquet"}}, DataError, "nowhere.parquet: no such file"),
        ({"model": "nobody/nothing"}, ModelError, "model: no folder named nobody/nothing"),
        ({"images": {"column": "title"}}, None, ""),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(
    tree: dict[str, Any], error: type[Exception] | None, message: str, server: Any, tmp_path: Path, write_data: Any
) -> None:
    data = write_data(tmp_path / "data", {"a": None})
    endpoint = {} if "model" in tree else {"endpoint": {"base_url": server.url, "model": "m"}}
    config = parse_config(CaptionsConfig, {**endpoint, "cache": str(tmp_path / "cache"), **tree}, "x")
    if error is None:
        run(config, data, tmp_path / "out")
        assert quarantine(tmp_path / "out") == {
            1: "image must be an http or https URL, for images.folder is not set, got 'item a'"
        }
        return
    with pytest.raises(error, match=message):
        run(config, data, tmp_path / "out")


def test_no_image_at_all(server: Any, tmp_path: Path, write_data: Any) -> None:
    data = write_data(tmp_path / "data", {"a": None, "b": None})
    with pytest.raises(DataError, match=r"items.parquet: expected images in column 'image', found none"):
        run(endpoint_config(server, tmp_path), data, tmp_path / "out")


def test_without_pillow_the_extra_is_named(
    server: Any, tmp_path: Path, write_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data", {"a": None})
    monkeypatch.setattr("pertinent.captions.images.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"caption: expected Pillow, found none: pip install 'pertinent\[caption\]'"):
        run(endpoint_config(server, tmp_path), data, tmp_path / "out")


def test_configs_that_do_not_fit() -> None:
    endpoint = {"base_url": "http://localhost:8000/v1", "model": "m"}
    for tree, message in (
        ({"endpoint": endpoint, "model": "x/y"}, "model: expected either a local model or an endpoint, found both"),
        ({"prompt": " "}, "prompt: expected a text or null, found an empty one"),
        ({"endpoint": {**endpoint, "api_key": "secret"}}, "unknown key endpoint.api_key; did you mean api_key_env?"),
        ({"endpoint": {**endpoint, "base_url": "localhost"}}, "endpoint.base_url: "),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config(CaptionsConfig, tree, "x")
        assert message in str(error.value)
    whole = parse_config(CaptionsConfig, {"endpoint": endpoint}, "x")
    assert parse_config(CaptionsConfig, whole.model_dump(mode="json"), "x") == whole


# Kills


def start(config: Path, data: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pertinent", "caption", str(config), str(data), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(config: Path, data: Path, out: Path) -> None:
    run_fields("captions", load_fields_config("captions", CaptionsConfig, config), data, out)


def result_of(out: Path) -> dict[str, bytes]:
    """All but the manifest, which tells times."""
    return {name: content for name, content in everything(out).items() if name != "manifest.json"}


def killed_runs(server: Any, tmp_path: Path, draw: Any, write_data: Any, n_kills: int, seed: int) -> None:
    """Kill the stage ``n_kills`` times, each after a random number of requests and a random while, then let it end."""
    urls = {f"i{k:02d}": server.put(f"{k}.png", draw(colour)) for k, colour in enumerate(COLOURS * 2)}
    urls["lost"] = f"{server.url}/lost.png"
    data = write_data(tmp_path / "data", urls)
    for name in ("whole", "killed"):
        tree = endpoint_tree(server, tmp_path, cache=str(tmp_path / f"cache-{name}"), unit_images=2)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    finish(tmp_path / "whole.yaml", data, tmp_path / "whole")
    n_asked = len(server.asked)
    assert n_asked == 10  # each picture twice: the second time from the cache

    draws = random.Random(seed)
    deaths: list[str] = []
    for _ in range(n_kills):
        due = threading.Event()
        left = [draws.randint(1, 3)]

        def count(left: list[int] = left, due: threading.Event = due) -> None:
            left[0] -= 1
            if left[0] <= 0:
                due.set()

        server.on_request = count
        process = start(tmp_path / "killed.yaml", data, tmp_path / "killed")
        while process.poll() is None and not due.wait(0.01):
            pass
        time.sleep(draws.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        deaths.append(f"{process.returncode}: {error.decode()[-200:]}")
    server.on_request = lambda: None
    assert any(death.startswith(f"-{int(signal.SIGKILL)}") for death in deaths), deaths
    finish(tmp_path / "killed.yaml", data, tmp_path / "killed")
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "whole")
    # A kill costs no more than its unit, of two pictures.
    assert len(server.asked) - n_asked <= 10 + 2 * n_kills
    assert not list((tmp_path).glob(".killed*"))


def test_killed_at_two_random_points_the_stage_ends_in_the_same_bytes(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    killed_runs(server, tmp_path, draw, write_data, n_kills=2, seed=int.from_bytes(os.urandom(4), "big"))


@pytest.mark.slow
def test_killed_at_ten_random_points_the_stage_ends_in_the_same_bytes(
    server: Any, tmp_path: Path, draw: Any, write_data: Any
) -> None:
    killed_runs(server, tmp_path, draw, write_data, n_kills=10, seed=int.from_bytes(os.urandom(4), "big"))


@pytest.mark.slow
def test_a_local_model_killed_at_random_points_ends_in_the_same_bytes(
    tmp_path: Path, tiny_blip: Path, draw: Any, write_data: Any
) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path / "images", draw))
    draws = random.Random(os.urandom(4))
    for name in ("whole", "killed"):
        tree = {
            "model": str(tiny_blip),
            "max_new_tokens": 6,
            "unit_images": 1,
            "cache": str(tmp_path / f"cache-{name}"),
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**tree, "images": {"folder": str(tmp_path / "images")}}))
    started = time.monotonic()
    whole = start(tmp_path / "whole.yaml", data, tmp_path / "whole")
    _, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error.decode()
    seconds = time.monotonic() - started
    for _ in range(3):
        process = start(tmp_path / "killed.yaml", data, tmp_path / "killed")
        time.sleep(seconds * (0.5 + 0.5 * draws.random()))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    finish(tmp_path / "killed.yaml", data, tmp_path / "killed")
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "whole")


def test_a_stage_that_was_interrupted_gives_up_its_threads(
    server: Any, tmp_path: Path, draw: Any, write_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data", write_images(tmp_path, draw))

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "_caption_unit", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(endpoint_config(server, tmp_path), data, tmp_path / "out")
    assert time.monotonic() - started < 10
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
