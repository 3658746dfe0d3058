"""Network input from an image file: RGB, and the papers' resize and centre crop.

How other modes become RGB stands in `bench.loading.modes`. What of a file is not in these pixels, such as an
orientation that viewers apply, are its `Traits`: they never change what is read, but whoever looks at it should know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import DatasetError
from bench.loading import modes
from bench.loading.decoding import MAX_PIXELS, DecodedPicture, decode, peek_size

__all__ = ["MAX_PIXELS", "PLAIN", "Traits", "peek_size", "read_rgb", "to_pixels", "traits"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What of an image file is not in the pixels that are read."""

    orientation: int = 1
    """EXIF orientation that viewers apply and bench does not."""
    frames: int = 1
    """Pictures in the file, of which the first is read; 2 stands for any more."""
    transparent: float = 0.0
    """Share of the pixels that are not opaque, whose colours are read as if they were."""
    peak: int | None = None
    """Greatest value of an image of more than 8 bits, of which the high byte of 16 is read; None for others."""


PLAIN = Traits()
"""Of nearly all images: what is read is what is seen."""

_KEY = "bench.traits"
"""Entry of PIL's dictionary of facts about an image, which goes along when the image is turned, cut or resized."""


def read_rgb(path: Path, sums: bool = False) -> Image.Image:
    """Return the image in mode RGB at its native size, fully decoded; `traits` says what its pixels do not show.

    Args:
        path: the file.
        sums: check a PNG's checksums as well.

    Raises:
        DatasetError: the file is missing, no regular file, empty, truncated, corrupt, no image, of a mode without an
            agreed range, or larger than `MAX_PIXELS`.
    """
    picture = decode(path, sums)
    try:
        image = modes.to_rgb(picture.image)
    except ValueError as error:
        raise DatasetError(
            f"{path}: {error}. Expected 8-bit images, or 16-bit grey ones; convert the files to 8 bit first."
        ) from error
    image.info[_KEY] = _traits(picture, image)
    return image


def traits(image: Image.Image) -> Traits:
    """Return what the pixels of an image from `read_rgb`, or made of one, do not show; `PLAIN` for any other image."""
    found = image.info.get(_KEY)
    return found if isinstance(found, Traits) else PLAIN


def _traits(picture: DecodedPicture, rgb: Image.Image) -> Traits:
    alpha = modes.alpha(picture.image)
    return Traits(
        orientation=picture.orientation,
        frames=picture.frames,
        transparent=round(float((alpha < 255).mean()), 4) if alpha is not None else 0.0,
        peak=_peak(picture, rgb) if picture.deep else None,
    )


def _peak(picture: DecodedPicture, rgb: Image.Image) -> int:
    if modes.is_wide(picture.image):
        return int(np.asarray(picture.image).max())
    # of 16-bit colour PIL gives the high bytes alone
    return max(int(most) for _, most in rgb.getextrema()) << 8 | 255  # type: ignore[misc]


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
