"""From an entry of the image column to a picture: URL, file or bytes; hashed, checked against the limits, decoded."""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pertinent.captions.config import FetchConfig, ImagesConfig
from pertinent.errors import ConfigError
from pertinent.files import reason_of
from pertinent.web.request import Limits, request

if TYPE_CHECKING:
    from PIL.Image import Image

# What is handed to decoders: common on the web, and decoded without outside programs (as EPS would be).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


class ImageError(Exception):
    """An image cannot be had or used. Its text is a quarantine reason: "image must be EXPECTED, got FOUND"."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, RGB, at most ``max_side`` pixels a side. sha256: hex, of the encoded bytes."""

    sha256: str
    image: Image


def fetch_limits(fetch: FetchConfig, images: ImagesConfig) -> Limits:
    """The limits of a fetch of an image."""
    return Limits(
        what="image",
        timeout_s=fetch.timeout_s,
        max_bytes=images.max_bytes,
        max_redirects=fetch.max_redirects,
        content_types=tuple(kind.lower() for kind in fetch.content_types),
        allow_hosts=frozenset(host.lower() for host in fetch.allow_hosts),
    )


def is_url(value: str) -> bool:
    """Whether a text of the image column is to be fetched; else it is the name of a file."""
    return value.lower().startswith(("http://", "https://"))


def load_bytes(value: str | bytes, config: ImagesConfig, limits: Limits) -> bytes:
    """The encoded image. Raises ImageError or WebError."""
    if isinstance(value, str):
        if is_url(value):
            return request("GET", value, limits, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
        return _read_file(file_of(value, config), config.max_bytes)
    if len(value) > config.max_bytes:
        raise ImageError(f"image must have at most {config.max_bytes:,} bytes, got {len(value):,}")
    return value


def file_of(value: str, config: ImagesConfig) -> Path:
    """The file that a text names, inside the folder of images. Raises ImageError."""
    if re.match(r"[a-z][a-z0-9+.-]+:(//|image/)", value, re.IGNORECASE):
        raise ImageError(f"image must be an http or https URL or a file, got {value[:100]!r}")
    if config.folder is None:
        raise ImageError(f"image must be an http or https URL, for images.folder is not set, got {value[:100]!r}")
    folder = config.folder.absolute()
    if "\0" not in value:
        # By its name alone, not through links: a data set may be laid out as links to a store.
        file = Path(os.path.normpath(folder / value))
        if file.is_relative_to(os.path.normpath(folder)):
            return file
    raise ImageError(f"image must be a file inside images.folder, got {value[:100]!r}")


def decode(data: bytes, sha256: str, config: ImagesConfig) -> Picture:
    """The picture in encoded bytes: its first frame, upright, on white, scaled down to ``max_side``.

    The size that the file's head tells is checked before any pixel is decoded. Raises ImageError.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > config.max_pixels:
                raise ImageError(f"image must have at most {config.max_pixels:,} pixels, got {width} x {height}")
            if config.animated == "refuse" and getattr(image, "is_animated", False):
                raise ImageError("image must not be animated, got several frames")
            image.load()
            upright = _in_rgb(ImageOps.exif_transpose(image))
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"image must have at most {config.max_pixels:,} pixels, got far more") from None
    except Exception as error:  # decoders raise many kinds on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        found = "no image format that is read" if "cannot identify" in reason else reason[:100]
        raise ImageError(
            f"image must be a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file, got {found}"
        ) from None
    upright.thumbnail((config.max_side, config.max_side), Image.Resampling.BICUBIC)
    return Picture(sha256, upright)


def sha256_of(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def require_pillow() -> None:
    """Raise ConfigError where Pillow is not installed."""
    if find_spec("PIL") is None:
        raise ConfigError("caption: expected Pillow, found none: pip install 'pertinent[caption]'")


def _read_file(file: Path, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(f"image must be a readable file, got {reason_of(error)}") from None
    if len(data) > max_bytes:
        raise ImageError(f"image must have at most {max_bytes:,} bytes, got more")
    return data


def _formats() -> list[str]:
    from PIL import features

    return [name for name in FORMATS if name != "AVIF" or features.check("avif")]


def _in_rgb(image: Image) -> Image:
    """The image in RGB: 16-bit greys scaled, transparency on white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = image.point(lambda level: level / 256).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
