"""Images of no dataset: files and folders as a user names them, decoded when their turn comes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import DatasetError, UsageError
from bench.loading.images import read_rgb, to_pixels
from bench.machine.threads import cores

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of images in folders, in lower case; a file that is named itself may be called anything."""


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """The images of one argument, in the order of their names."""

    root: Path
    """The folder, or that of the file."""
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image at the network's input size, or why there is none."""

    path: Path
    pixels: npt.NDArray[np.uint8] | None = None
    """uint8 [crop, crop, 3]."""
    picture: Image.Image | None = None
    """The whole image, made smaller; where it was asked for."""
    trouble: str = ""


def gather(given: Sequence[Path]) -> list[ImageGroup]:
    """Return the images that are named or lie in the folders named, subfolders included.

    Raises:
        UsageError: a path does not exist, or a folder holds no image.
    """
    groups = []
    for place in given:
        if place.is_dir():
            found = sorted(_below(place), key=lambda path: path.with_suffix("").parts)
            if not found:
                raise UsageError(f"{place}: no image in it. Expected files such as *{', *'.join(sorted(SUFFIXES))}")
            groups.append(ImageGroup(place, tuple(found)))
        elif place.exists():
            # photo.jpg other.jpg ... as a shell makes of *.jpg
            before = groups.pop() if groups and groups[-1] == ImageGroup(place.parent, groups[-1].files) else None
            groups.append(ImageGroup(place.parent, (*(before.files if before else ()), place)))
        else:
            raise UsageError(f"{place}: no such file or folder. Expected images, or folders of them")
    return groups


def decoded(files: Sequence[Path], resize: int, crop: int, side: int = 0) -> Iterator[DecodedImage]:
    """Yield images in order, decoded in threads a little ahead of whoever takes them.

    Args:
        files: image files.
        resize: side after resizing, in pixels.
        crop: side of the centre crop.
        side: longest side of the picture that comes along; 0 for none.
    """
    pending: deque[Future[DecodedImage]] = deque()
    left = iter(files)
    pool = ThreadPoolExecutor(max_workers=cores())
    try:
        while True:
            while len(pending) < 2 * cores() and (path := next(left, None)) is not None:
                pending.append(pool.submit(_decode, path, resize, crop, side))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _decode(path: Path, resize: int, crop: int, side: int) -> DecodedImage:
    try:
        image = read_rgb(path)
    except DatasetError as error:
        return DecodedImage(path, trouble=str(error))
    pixels = to_pixels(image, resize, crop)
    if side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return DecodedImage(path, pixels, image if side else None)


def _below(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder):
        # hidden folders are caches and leftovers
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (
            Path(place, name) for name in names if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
