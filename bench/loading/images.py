"""From an image file to pixels: decoding, and the papers' resize and centre crop.

How modes become RGB (the rule is fixed per mode, never per image, so that two images stay comparable):

- `L`, `1`: the grey value in all three channels. `P`: the palette's colours.
- `RGBA`, `LA`, transparent palettes: alpha is dropped, colours are kept, as `convert("RGB")` in the papers' code.
- 16-bit grey (`I;16`, and `I` within 0..65535): the high byte, `value >> 8`; 16-bit colour PNGs are decoded so by PIL.
- `F` and 32-bit values beyond 65535 have no agreed range and are refused.

EXIF orientation is not applied (nor is it in the papers' code), so that masks keep lying on the stored pixels.
Of a file with several frames the first is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bench import regular
from bench.errors import DatasetError

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded; PIL's own warning limit (256 MiB as RGB)."""

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded, whatever a file is called. PIL knows forty more, among them EPS, which an interpreter executes."""

_NAMED = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_CHECK = "List every such file with: bench data verify NAME --root DIR"


def read_rgb(path: Path) -> Image.Image:
    """Return the image in mode RGB at its native size, fully decoded (modes: see the module's docstring).

    Raises:
        DatasetError: the file is missing, empty, truncated, corrupt, no image, of a mode without an agreed range, or
            larger than `MAX_PIXELS`.
    """
    with opened(path) as image:
        image.load()
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return Image.merge("RGB", [_high_byte(image, path)] * 3)
        if image.mode == "P" and "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def peek_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels from the file's header; no pixel is decoded.

    Raises:
        DatasetError: the file is missing, empty, no image, or larger than `MAX_PIXELS`.
    """
    with opened(path) as image:
        return image.size


def to_pixels(image: Image.Image, resize: int, crop: int) -> npt.NDArray[np.uint8]:
    """Resize to `resize` x `resize` (aspect ratio not kept) and cut the centre; what every network input starts from.

    It is torchvision's `Resize((resize, resize))` (bilinear, antialiased, on the PIL image) followed by
    `CenterCrop(crop)`; a resize of the tensor without antialiasing gives other values and other scores.

    Args:
        image: mode RGB, any size.
        resize: side after resizing, in pixels.
        crop: side of the centre crop, at most `resize`.

    Returns:
        uint8 [crop, crop, 3], 0..255.

    Raises:
        ValueError: `crop` is larger than `resize` (torchvision would pad with black).
    """
    # here, since torchvision takes seconds to import and reading alone does not need it
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    if crop > resize:
        raise ValueError(f"crop {crop} is larger than the resized image of {resize} pixels")
    resized = functional.resize(image, [resize, resize], interpolation=InterpolationMode.BILINEAR, antialias=True)
    return np.array(functional.center_crop(resized, [crop, crop]), dtype=np.uint8)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file, turning whatever goes wrong inside the block into a DatasetError that names the file."""
    try:
        with regular.opened(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(_too_large(path, f"{image.width}x{image.height}"))
            yield image
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file. Expected an image. {_CHECK}") from None
    except Image.DecompressionBombError:
        raise DatasetError(_too_large(path, "too many")) from None
    except UnidentifiedImageError:
        what = "not an image that bench reads" if path.stat().st_size else "an empty file (0 bytes)"
        raise DatasetError(f"{path}: {what}. Expected a complete {_NAMED} file. {_CHECK}") from None
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on bad bytes
        message = f"{path}: cannot be read ({error or type(error).__name__}). Expected a complete image file. {_CHECK}"
        raise DatasetError(message) from error


def _high_byte(image: Image.Image, path: Path) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        span = f"{values.min():g}..{values.max():g}"
        raise DatasetError(
            f"{path}: mode {image.mode} with values {span} has no agreed brightness range. Expected 8-bit images, or "
            "16-bit grey ones; convert the files to 8 bit first."
        )
    return Image.fromarray((values >> 8).astype(np.uint8), "L")


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path}: {size} pixels, refused before decoding. Expected at most {MAX_PIXELS:,} pixels an image; "
        "shrink it or leave it out."
    )
