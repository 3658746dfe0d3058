"""The check of a submission before it is sent: a server with a small budget of tries refuses what is found here."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from bench import regular
from bench.api import Sample
from bench.curate.archives import unpack
from bench.errors import UsageError
from bench.external.tiffs import read_layout, read_strips
from bench.loading.decoding import peek_size
from bench.machine.progress import Progress
from bench.submission.layout import BINARY, MAPS, path_in

MOST_BYTES = 1 << 38
"""That an archive may unpack to: the maps of MVTec AD 2 take some 40 GB."""


def check(place: Path, images: Mapping[str, Sequence[Sample]], progress: Progress) -> list[str]:
    """Return what is wrong with a submission, a sentence each; nothing where the server can have no complaint.

    Args:
        place: the folder, or its tar.gz.
        images: as `layout.wanted` gives them.
        progress: told of each image.

    Raises:
        UsageError: there is no such folder or archive.
        DatasetError: the archive is damaged or hostile, or an image of the dataset cannot be read.
    """
    samples = [sample for own in images.values() for sample in own]
    with _opened(place) as folder:
        expected = {path_in(kind, sample): sample for kind in (MAPS, BINARY) for sample in samples}
        there = set(_files(folder))
        found = [f"{path}: missing" for path in sorted(expected) if path not in there]
        found += [
            f"{path}: superfluous; nothing but two files an image may be there"
            for path in sorted(there)
            if path not in expected
        ]
        with progress.phase("check", len(samples)) as advance:
            for sample in samples:
                size = peek_size(sample.image)
                for kind, look in ((MAPS, _why_no_map), (BINARY, _why_not_binary)):
                    path = path_in(kind, sample)
                    if path in there and (why := look(folder / path, size)):
                        found.append(f"{path}: {why}")
                advance(1, sample.id)
    return found


@contextmanager
def _opened(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield place
        return
    if not place.is_file():
        why = regular.why_not(place, "no such folder or archive")
        raise UsageError(f"{place}: {why}. Expected a folder of bench submit, or its tar.gz")
    if not tarfile.is_tarfile(place):
        raise UsageError(f"{place}: no tar archive. Expected a folder of bench submit, or its tar.gz")
    with tempfile.TemporaryDirectory(prefix="submission-", dir=place.absolute().parent) as draft:
        unpack(place, Path(draft), "tar", MOST_BYTES)
        yield Path(draft)


def _files(folder: Path) -> Iterable[PurePosixPath]:
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir()):
            yield PurePosixPath(path.relative_to(folder).as_posix())


def _why_no_map(path: Path, size: tuple[int, int]) -> str:
    try:
        with regular.opened(path) as file:
            layout = read_layout(file)
            if layout.dtype.newbyteorder("=") != np.float16:
                return f"{layout.dtype.name}. Expected float16"
            if (layout.width, layout.height) != size:
                return _other_size((layout.width, layout.height), size)
            values = read_strips(file, layout)
    except Exception as error:
        return f"no map ({error}). Expected a TIFF of one channel of float16"
    if not np.isfinite(values).all():
        return f"{int((~np.isfinite(values)).sum()):,} pixels are no finite number. Expected a score for each"
    return ""


def _why_not_binary(path: Path, size: tuple[int, int]) -> str:
    try:
        with regular.opened(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.size != size:
                return _other_size(image.size, size)
            if image.mode != "L":
                return f"mode {image.mode}. Expected one channel of 8 bits"
            values = np.asarray(image)
    except Exception as error:
        return f"no picture ({error}). Expected a PNG of one channel of 8 bits"
    if other := sorted({*np.unique(values).tolist()} - {0, 255}):
        return f"holds {', '.join(map(str, other[:3]))}. Expected 0 and 255 alone"
    return ""


def _other_size(found: tuple[int, int], size: tuple[int, int]) -> str:
    return f"{found[0]}x{found[1]} pixels. Expected the image's own {size[0]}x{size[1]}"
