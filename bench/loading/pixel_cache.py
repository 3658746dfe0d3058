"""Network inputs as uint8, decoded once and kept on disk.

One file an image, named by the SHA-256 of the source file's bytes under a folder named by the transform, so that a
changed file or another size is another entry and nothing can be stale. Files are moved into place whole, so that any
number of processes may fill the same cache. Each carries a checksum; a damaged one is decoded again. What the pixels do
not show of an image (`Traits`, of few images any) is kept behind them, so that a run that decodes nothing knows it too.

Small images that lie many to a file are not kept: their dataset holds them in memory, and enlarging one again costs
little, while keeping Fashion-MNIST's 70,000 at 392 pixels would take 32 GB.
"""

from __future__ import annotations

import hashlib
import platform
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from bench import regular
from bench.cache import cache_dir
from bench.errors import StoreError
from bench.files import atomic
from bench.loading.hashes import check_unchanged
from bench.loading.images import PLAIN, Traits, to_pixels, traits
from bench.machine.libraries import decoders
from bench.machine.threads import cores
from bench.sample import Sample

if TYPE_CHECKING:
    from bench.dataset import Dataset

Pixels = npt.NDArray[np.uint8]
_READING = 3
"""Raised when files are read otherwise than before, or with more care, so that older entries are not used."""
_MOST_TRAITS = 256
"""Bytes that an image's traits may take behind its pixels."""

_TRAITS = TypeAdapter(Traits)


class PixelCache:
    """The pixels of a dataset's images at one resize and crop.

    Args:
        dataset: reads the images.
        hashes: SHA-256 of every image file that will be asked for.
        resize: side after resizing, in pixels.
        crop: side of the centre crop, in pixels; the side of what comes out.
        folder: where to keep pixels; None for the user's cache folder.
        say: told of entries that are damaged, and when pixels cannot be kept; from any thread.
        seen: told of the traits of each image that has any, when it is decoded or found; from one thread.
    """

    def __init__(
        self,
        dataset: Dataset,
        hashes: Mapping[Path, str],
        resize: int,
        crop: int,
        folder: Path | None = None,
        say: Callable[[str], None] = lambda text: None,
        seen: Callable[[Sample, Traits], None] = lambda sample, traits: None,
    ) -> None:
        self._dataset = dataset
        self._hashes = hashes
        self._resize = resize
        self.crop = crop
        # decoders and resizing differ in the last bit between versions and processors, and machines may share a folder
        transform = "-".join(
            [
                f"rgb{_READING}-bilinear-r{resize}-c{crop}-pillow{PIL.__version__}",
                *decoders().values(),
                platform.machine(),
            ]
        )
        reader = type(dataset)
        if dataset.reads_images_itself:
            # a dataset with its own way of reading must not share pixels with one that reads the same files plainly
            transform += f"-{reader.__module__}.{reader.__qualname__}"
        self._folder = (folder or cache_dir()) / "pixels" / transform
        self._say = say
        self._seen = seen
        self._writable = True
        self._given_up = threading.Lock()
        self._unchanged: set[Path] = set()
        self._threads = ThreadPoolExecutor(max_workers=cores())

    def decode(self, samples: Sequence[Sample], advance: Callable[[int], None] = lambda done: None) -> None:
        """Decode every image that is not cached yet, in threads.

        Raises:
            DatasetError: an image is unreadable, or its file changed after it was hashed.
        """
        with ThreadPoolExecutor(max_workers=cores()) as pool:
            pending = pool.map(self._ensure, samples)
            try:
                for sample, found in zip(samples, pending, strict=True):
                    if found != PLAIN:
                        self._seen(sample, found)
                    advance(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def batch(self, samples: Sequence[Sample], out: Pixels | None = None) -> Pixels:
        """Return uint8 [B, crop, crop, 3] in the order of `samples`, in `out` where given; raises as `decode`."""
        found = np.empty((len(samples), self.crop, self.crop, 3), np.uint8) if out is None else out

        def fill(place: int) -> None:
            found[place] = self.read(samples[place])

        for _ in self._threads.map(fill, range(len(samples))):
            pass  # drawn to the end, since that is where errors are raised
        return found

    def read(self, sample: Sample) -> Pixels:
        """Return uint8 [crop, crop, 3] of one image, from the cache where possible; raises as `decode`."""
        path = self._path(sample)
        cached = self._load(path)
        if cached is not None:
            return cached[0]
        image = self._decoded(sample)
        pixels = to_pixels(image, self._resize, self.crop)
        if self._is_kept(sample, image):
            self._save(path, pixels, traits(image))
        return pixels

    def _ensure(self, sample: Sample) -> Traits:
        path = self._path(sample)
        # a whole read of every cached file would cost as much as using it; a wrong length is caught here, a wrong
        # byte when the pixels are used
        with suppress(OSError):
            size = path.stat().st_size
            if size == self._length():
                return PLAIN
            if self._length() < size <= self._length() + _MOST_TRAITS and (found := self._load(path)) is not None:
                return found[1]
            self._say_damaged(path)
        image = self._decoded(sample)
        if self._is_kept(sample, image):
            self._save(path, to_pixels(image, self._resize, self.crop), traits(image))
        return traits(image)

    def _decoded(self, sample: Sample) -> Image.Image:
        image = self._dataset.read_image(sample)
        self._check_unchanged(sample.image)
        return image

    def _is_kept(self, sample: Sample, image: Image.Image) -> bool:
        return not sample.member or image.width * image.height >= self.crop * self.crop

    def _check_unchanged(self, file: Path) -> None:
        """Refuse a file that is not the one that was hashed: its pixels would be kept, and scored, as another's."""
        if file in self._unchanged:
            return
        check_unchanged(file, self._hashes[file])
        self._unchanged.add(file)

    def _length(self) -> int:
        """Return the bytes of an entry of an image without traits: pixels and checksum."""
        return 3 * self.crop * self.crop + 4

    def _path(self, sample: Sample) -> Path:
        digest = self._hashes[sample.image]
        if sample.member:
            digest = hashlib.sha256(f"{digest}/{sample.member}".encode()).hexdigest()
        return self._folder / digest[:2] / digest

    def _load(self, path: Path) -> tuple[Pixels, Traits] | None:
        try:
            with regular.opened(path) as file:
                # one byte more than there should be shows a longer file without reading it
                data = file.read(self._length() + _MOST_TRAITS + 1)
        except OSError:
            return None
        pixels = self._length() - 4
        if len(data) < self._length() or zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
            self._say_damaged(path)
            return None
        try:
            kept = _TRAITS.validate_json(data[pixels:-4]) if len(data) > self._length() else PLAIN
        except ValidationError:
            self._say_damaged(path)
            return None
        return np.frombuffer(data, np.uint8, pixels).reshape(self.crop, self.crop, 3), kept

    def _save(self, path: Path, pixels: Pixels, kept: Traits) -> None:
        if not self._writable:
            return
        body = pixels.tobytes() + (b"" if kept == PLAIN else _TRAITS.dump_json(kept))
        try:
            with atomic(path, durable=False) as file:
                file.write(body)
                file.write(zlib.crc32(body).to_bytes(4, "little"))
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                # its folder was removed at this moment by bench cache clear; the next one makes it again
                return
            # the cache only saves time: without room or permission the run goes on decoding
            with self._given_up:
                # several threads fail at once, and it is said once
                first, self._writable = self._writable, False
            if first:
                self._say(f"decoded images are not kept (the folder is BENCH_CACHE); going on without: {error}")

    def _say_damaged(self, path: Path) -> None:
        self._say(f"{path} is damaged: its image is decoded again")
