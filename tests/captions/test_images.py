from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pertinent.captions.config import FetchConfig, ImagesConfig
from pertinent.captions.images import FORMATS, ImageError, decode, fetch_limits, file_of, load_bytes, sha256_of
from pertinent.web.request import WebError

CONFIG = ImagesConfig()


def packed(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(data: bytes, **changes: Any) -> Image.Image:
    return decode(data, sha256_of(data), CONFIG.model_copy(update=changes)).image


def reason(data: bytes, **changes: Any) -> str:
    with pytest.raises(ImageError) as error:
        decoded(data, **changes)
    return str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read(kind: str) -> None:
    image = decoded(packed(Image.new("RGB", (40, 30), (200, 30, 40)), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(image, dtype=int) - (200, 30, 40)).max() <= 12  # JPEG and AVIF lose a little


def test_a_large_image_is_scaled_down_and_a_small_one_left() -> None:
    assert decoded(packed(Image.new("RGB", (1536, 512)), "PNG")).size == (768, 256)
    assert decoded(packed(Image.new("RGB", (3, 1)), "PNG")).size == (3, 1)


def test_transparency_is_put_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    image = decoded(packed(clear, "PNG"))
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert image.getpixel((3, 3)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert decoded(packed(palette, "GIF", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_an_image_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert decoded(packed(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


def test_sixteen_bit_greys_are_scaled() -> None:
    grey = Image.fromarray(np.full((4, 4), 32_768, dtype=np.uint16))
    assert decoded(packed(grey, "PNG")).getpixel((0, 0)) == (128, 128, 128)


def test_of_an_animated_image_the_first_frame_counts_or_it_is_refused() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data).getpixel((4, 4)) == (255, 0, 0)
    assert reason(data, animated="refuse") == "image must not be animated, got several frames"
    assert decoded(packed(frames[0], "GIF"), animated="refuse").getpixel((4, 4)) == (255, 0, 0)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose head tells a size and whose body, a few bytes, would give no more than zeros."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8_000, 8_000), (12_000, 12_000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_head(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Pillow itself would only warn (over 89 million pixels), or refuse (over twice as many)."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert reason(png_of_size(*size)).startswith("image must have at most 50,000,000 pixels, got ")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert reason(png_of_size(*size)).startswith("image must have at most 50,000,000 pixels, got ")


def test_a_truncated_jpeg() -> None:
    whole = packed(Image.effect_noise((200, 200), 90).convert("RGB"), "JPEG")
    assert decoded(whole).size == (200, 200)
    assert "got image file is truncated" in reason(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b"%!PS-Adobe EPSF", b"\x89PNG\r\n\x1a\n"],
)
def test_what_is_no_image(data: bytes) -> None:
    assert reason(data).startswith("image must be a whole JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file, got ")


def test_any_cut_of_any_format_is_an_image_error_or_a_picture() -> None:
    for kind in FORMATS:
        data = packed(Image.effect_noise((32, 32), 50).convert("RGB"), kind)
        for n_bytes in range(1, len(data), max(len(data) // 25, 1)):
            try:
                decoded(data[:n_bytes])
            except ImageError as error:
                assert str(error).startswith("image must ")  # noqa: PT017


def test_a_file_lies_inside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link.png").symlink_to(folder / "a.png")
    config = ImagesConfig(folder=folder, max_bytes=3)
    limits = fetch_limits(FetchConfig(), config)
    assert load_bytes("a.png", config, limits) == b"abc"
    assert load_bytes("./x/../link.png", config, limits) == b"abc"
    assert file_of(str(folder / "a.png"), config) == folder / "a.png"
    for outside in ("../secret", str(tmp_path / "secret"), "/etc/passwd", "a\0b", "../images2/a.png"):
        with pytest.raises(ImageError, match=r"image must be a file inside images.folder, got "):
            load_bytes(outside, config, limits)
    for other in ("file:///etc/passwd", "s3://bucket/a.png", "data:image/png;base64,AAAA"):
        with pytest.raises(ImageError, match="image must be an http or https URL or a file, got "):
            load_bytes(other, config, limits)
    with pytest.raises(ImageError, match="image must be a readable file, got No such file or directory"):
        load_bytes("none.png", config, limits)
    (folder / "b.png").write_bytes(b"abcd")
    with pytest.raises(ImageError, match="image must have at most 3 bytes, got more"):
        load_bytes("b.png", config, limits)
    with pytest.raises(ImageError, match="image must have at most 3 bytes, got 4"):
        load_bytes(b"abcd", config, limits)
    with pytest.raises(
        ImageError, match=r"image must be an http or https URL, for images.folder is not set, got 'a.png'"
    ):
        load_bytes("a.png", ImagesConfig(), limits)


def test_urls_are_fetched_under_the_limits_of_the_config(server: Any) -> None:
    url = server.put("x.png", b"x" * 10)
    allowed = FetchConfig(allow_hosts=("127.0.0.1",))
    assert load_bytes(url, CONFIG, fetch_limits(allowed, CONFIG)) == b"x" * 10
    small = ImagesConfig(max_bytes=9)
    with pytest.raises(WebError, match="image must have at most 9 bytes"):
        load_bytes(url, small, fetch_limits(allowed, small))
    with pytest.raises(WebError, match="loopback"):
        load_bytes(url.upper().replace("HTTP", "Http"), CONFIG, fetch_limits(FetchConfig(), CONFIG))
