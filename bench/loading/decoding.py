"""Image decoding: which formats, up to which size, and only whole files.

EXIF orientation is not applied (nor is it in the papers' code), so that masks keep lying on the stored pixels; of a
TIFF file it is a tag of the picture itself and its decoder applies it. Of a file with several frames the first is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench import regular
from bench.errors import DatasetError
from bench.loading.wholeness import check_sums, check_whole

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded; PIL's own warning limit (256 MiB as RGB)."""

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded, whatever a file is called. PIL knows forty more, among them EPS, which an interpreter executes."""

_NAMED = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_CHECK = "List every such file with: bench data verify NAME --root DIR"
_ORIENTATION = 0x0112
_PHOTOMETRIC = 0x0106


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A decoded picture, and what its file says besides."""

    image: Image.Image
    """In the file's own mode, at its native size."""
    deep: bool
    """Whether a channel has more than 8 bits in the file."""
    lossy: bool
    """Whether the format changes values when it is written: JPEG, also inside TIFF, and WebP unless it is lossless."""
    orientation: int
    """EXIF orientation that a viewer applies and bench does not; 1 where there is none."""
    frames: int
    """Pictures in the file, of which this is the first; 2 stands for any more."""


def decode(path: Path, sums: bool = False) -> DecodedPicture:
    """Decode a picture file.

    Args:
        path: the file.
        sums: check a PNG's chunk checksums, which decoding skips, so that a flipped bit shows. Other formats have none.

    Raises:
        DatasetError: the file is missing, no regular file, empty, truncated, corrupt, no picture, or larger than
            `MAX_PIXELS`.
    """
    with _opened(path) as (file, image):
        deep = any("16" in str(tile[3]) or "32" in str(tile[3]) for tile in getattr(image, "tile", ()))
        image.load()
        check_whole(image, file)
        if sums and image.format == "PNG":
            check_sums(file)
        return DecodedPicture(_black_low(image), deep, _is_lossy(image, file), _orientation(image), _frames(image))


def peek_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels from the file's header; no pixel is decoded.

    Raises:
        DatasetError: the file is missing, no regular file, empty, no picture, or larger than `MAX_PIXELS`.
    """
    return peek(path)[0]


def peek(path: Path) -> tuple[tuple[int, int], str]:
    """Return (width, height) in pixels and PIL's mode from the file's header; raises as `peek_size`."""
    with _opened(path) as (_, image):
        return image.size, image.mode


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, Image.Image]]:
    """Open a picture file, turning whatever goes wrong inside the block into a DatasetError that names the file."""
    try:
        with regular.opened(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(_too_large(path, f"{image.width}x{image.height}"))
            yield file, image
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file. Expected an image. {_CHECK}") from None
    except regular.IrregularError as error:
        raise DatasetError(f"{path}: {error.strerror}. Expected a complete {_NAMED} file. {_CHECK}") from None
    except Image.DecompressionBombError:
        raise DatasetError(_too_large(path, "too many")) from None
    except UnidentifiedImageError:
        what = "not an image that bench reads" if path.stat().st_size else "an empty file (0 bytes)"
        raise DatasetError(f"{path}: {what}. Expected a complete {_NAMED} file. {_CHECK}") from None
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on bad bytes
        why = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        raise DatasetError(f"{path}: cannot be read ({why}). Expected a complete image file. {_CHECK}") from error


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path}: {size} pixels, refused before decoding. Expected at most {MAX_PIXELS:,} pixels an image; "
        "shrink it or leave it out."
    )


def _is_lossy(image: Image.Image, file: BufferedReader) -> bool:
    if image.format == "WEBP":
        file.seek(0)
        # the chunk of a lossless picture, by itself or behind those of the extended format
        return b"VP8L" not in file.read(1 << 16)
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def _black_low(image: Image.Image) -> Image.Image:
    """Return the picture with 0 for black: of a TIFF whose 0 is white, PIL turns 8 bits round but not 16."""
    photometric = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    if photometric != 0 or not image.mode.startswith("I;16"):
        return image
    turned = Image.fromarray(65535 - np.asarray(image).astype(np.uint16))
    turned.info = dict(image.info)
    return turned


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that cannot be parsed orients nothing, in viewers neither
        return 1
    return found if found in range(2, 9) else 1


def _frames(image: Image.Image) -> int:
    # the further pictures of an MPO are previews and depths, which no viewer shows; others are not counted, since that
    # reads on through the whole file
    return 2 if image.format != "MPO" and getattr(image, "is_animated", False) else 1
