from __future__ import annotations

import multiprocessing
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from bench.api import Card, Dataset, Sample
from bench.errors import DatasetError, StoreError
from bench.loading import pixel_cache
from bench.loading.hashes import content_hashes, sha256
from bench.loading.images import read_rgb, to_pixels
from bench.loading.pixel_cache import PixelCache
from bench.store import provenance

RESIZE, CROP = 20, 16


def fill(pictures: Path, folder: Path, start: Barrier, answers: Queue[int]) -> None:
    samples = samples_of(pictures)
    cache = cache_of(Pictures(pictures), samples, folder)
    start.wait(60)
    cache.decode(samples)
    answers.put(sum(int(cache.read(one).sum()) for one in samples))


class Pictures(Dataset):
    card = Card(
        name="pictures",
        title="",
        kind="industrial",
        classes=(),
        counts={},
        masks="none",
        licence="",
        citation="",
        source="",
    )

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        assert data_root is not None
        return data_root

    def samples(self) -> tuple[Sample, ...]:
        return tuple(samples_of(self.root))


class Mirrored(Pictures):
    def read_image(self, sample: Sample) -> Image.Image:
        return super().read_image(sample).transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class Sheets(Pictures):
    """Each file holds two pictures side by side."""

    def read_image(self, sample: Sample) -> Image.Image:
        sheet = super().read_image(sample)
        half = sheet.width // 2
        left = int(sample.member) * half
        return sheet.crop((left, 0, left + half, sheet.height))


def sample(path: Path, member: str = "") -> Sample:
    name = f"{path.stem}/{member}" if member else path.stem
    return Sample(id=name, cls="c", split="train", label=0, defect="good", image=path, member=member)


def samples_of(folder: Path) -> list[Sample]:
    return [sample(path) for path in sorted(folder.glob("*.png"))]


def cache_of(dataset: Dataset, samples: list[Sample], folder: Path | None, size: int = RESIZE) -> PixelCache:
    return PixelCache(dataset, {one.image: sha256(one.image) for one in samples}, size, CROP, folder)


def draw(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def expected(one: Sample, size: int = RESIZE) -> np.ndarray:
    return to_pixels(read_rgb(one.image), size, CROP)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "pixels").rglob("*") if path.is_file())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        draw(folder / f"{number}.png", number)
    return folder


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = Pictures.read_image

    def counted(self: Pictures, one: Sample) -> Image.Image:
        seen.append(one.id)
        return real(self, one)

    # on the base class: an override of Pictures' own would count as another way of reading
    monkeypatch.setattr(Dataset, "read_image", counted)
    return seen


def test_pixels_are_those_of_the_transform_and_decoded_once(pictures: Path, tmp_path: Path, decodes: list[str]) -> None:
    samples = samples_of(pictures)
    want = np.stack([expected(one) for one in samples])
    told: list[int] = []
    cache = cache_of(Pictures(pictures), samples, tmp_path)
    cache.decode(samples, told.append)
    assert sorted(decodes) == ["0", "1", "2", "3", "4"] and sum(told) == 5
    for again in (cache, cache_of(Pictures(pictures), samples, tmp_path)):
        again.decode(samples)
        got = again.batch(samples)
        assert got.dtype == np.uint8 and np.array_equal(got, want)
        assert np.array_equal(again.batch(samples[::-1]), want[::-1])
    assert len(decodes) == 5


def test_the_users_cache_folder_is_the_default(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "mine"))
    samples = samples_of(pictures)
    cache_of(Pictures(pictures), samples, None).decode(samples)
    assert len(entries(tmp_path / "mine")) == 5


def test_equal_files_share_an_entry_and_other_transforms_do_not(pictures: Path, tmp_path: Path) -> None:
    (pictures / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    samples = samples_of(pictures)
    cache_of(Pictures(pictures), samples, tmp_path).decode(samples)
    assert len(entries(tmp_path)) == 5
    other = cache_of(Pictures(pictures), samples, tmp_path, size=28)
    assert np.array_equal(other.read(samples[0]), expected(samples[0], 28))


@pytest.mark.parametrize("name", ["libjpeg-turbo", "libtiff", "libwebp", "processor"])
def test_another_machine_with_another_decoder_shares_no_pixels(
    name: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodes: list[str]
) -> None:
    samples = samples_of(pictures)
    cache_of(Pictures(pictures), samples, tmp_path).decode(samples)
    assert provenance.decoders().keys() == {"libjpeg-turbo", "libtiff", "libwebp"}
    if name == "processor":
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    else:
        monkeypatch.setattr(pixel_cache, "decoders", lambda: {**provenance.decoders(), name: "0.0.1"})
    before = len(decodes)
    cache_of(Pictures(pictures), samples, tmp_path).decode(samples)
    assert len(decodes) == 2 * before


def test_a_changed_file_gives_its_new_pixels(pictures: Path, tmp_path: Path) -> None:
    samples = samples_of(pictures)
    before = cache_of(Pictures(pictures), samples, tmp_path).batch(samples)
    draw(samples[0].image, 99)
    after = cache_of(Pictures(pictures), samples, tmp_path).batch(samples)
    assert np.array_equal(after[0], expected(samples[0])) and not np.array_equal(after[0], before[0])
    assert np.array_equal(after[1:], before[1:])


def test_a_file_changed_after_hashing_is_refused_and_not_kept(pictures: Path, tmp_path: Path) -> None:
    samples = samples_of(pictures)
    cache = cache_of(Pictures(pictures), samples, tmp_path)
    old = samples[0].image.read_bytes()
    draw(samples[0].image, 99)
    with pytest.raises(DatasetError, match=r"0\.png changed after the run was planned"):
        cache.decode(samples)
    samples[0].image.write_bytes(old)
    assert np.array_equal(cache_of(Pictures(pictures), samples, tmp_path).read(samples[0]), expected(samples[0]))


def _truncate(data: bytes) -> bytes:
    return data[:-7]


def _flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def _flip_checksum(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_truncate, _flip, _flip_checksum, _empty])
def test_a_damaged_entry_is_decoded_again(
    pictures: Path, tmp_path: Path, damage: Callable[[bytes], bytes], decodes: list[str]
) -> None:
    samples = samples_of(pictures)[:1]
    cache_of(Pictures(pictures), samples, tmp_path).decode(samples)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    cache = cache_of(Pictures(pictures), samples, tmp_path)
    cache.decode(samples)
    assert np.array_equal(cache.read(samples[0]), expected(samples[0]))
    assert len(decodes) == 2 and entry.read_bytes() == whole


def test_two_processes_fill_one_cache(pictures: Path, tmp_path: Path) -> None:
    for number in range(60):
        draw(pictures / f"{number}.png", number)
    samples = samples_of(pictures)
    # forked, since a fresh interpreter spends most of its time importing torchvision
    forks = multiprocessing.get_context("fork")
    start, answers = forks.Barrier(2), forks.Queue()
    expected(samples[0])
    fillers = [forks.Process(target=fill, args=(pictures, tmp_path, start, answers)) for _ in range(2)]
    for filler in fillers:
        filler.start()
    found = [answers.get(timeout=60) for _ in fillers]
    for filler in fillers:
        filler.join(60)
        assert filler.exitcode == 0
    assert found == [sum(int(expected(one).sum()) for one in samples)] * 2
    assert len(entries(tmp_path)) == 60, "no temporary file stays behind"


def test_a_cache_that_cannot_be_written_still_gives_pixels(pictures: Path, tmp_path: Path, decodes: list[str]) -> None:
    (tmp_path / "file").write_text("")
    samples = samples_of(pictures)
    cache = cache_of(Pictures(pictures), samples, tmp_path / "file")
    cache.decode(samples)
    assert np.array_equal(cache.batch(samples), np.stack([expected(one) for one in samples]))
    assert len(decodes) == 10


def test_a_cache_that_is_cleared_meanwhile_loses_one_image_and_keeps_the_next(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_of(pictures)
    cache = cache_of(Pictures(pictures), samples, tmp_path)
    real = Path.open

    def cleared(path: Path, *given: str) -> object:
        if given == ("xb",):
            monkeypatch.setattr(Path, "open", real)
            path.parent.rmdir()
        return real(path, *given)

    monkeypatch.setattr(Path, "open", cleared)
    for one in samples:
        assert np.array_equal(cache.read(one), expected(one))
    assert len(entries(tmp_path)) == 4


def test_a_dataset_with_its_own_reading_shares_with_no_other(pictures: Path, tmp_path: Path) -> None:
    samples = samples_of(pictures)
    plain = cache_of(Pictures(pictures), samples, tmp_path)
    mirrored = cache_of(Mirrored(pictures), samples, tmp_path)
    for _ in range(2):
        assert np.array_equal(plain.read(samples[0]), expected(samples[0]))
        assert np.array_equal(mirrored.read(samples[0]), to_pixels(Mirrored(pictures).read_image(samples[0]), 20, 16))


def test_members_of_one_file_have_their_own_entries(pictures: Path, tmp_path: Path) -> None:
    path = pictures / "0.png"
    samples = [sample(path, "0"), sample(path, "1")]
    cache = cache_of(Sheets(pictures), samples, tmp_path)
    for _ in range(2):
        for one, half in zip(samples, cast("list[np.ndarray]", list(cache.batch(samples))), strict=True):
            assert np.array_equal(half, to_pixels(Sheets(pictures).read_image(one), RESIZE, CROP))
    assert len(entries(tmp_path)) == 2


def test_members_smaller_than_what_is_asked_for_are_not_kept(pictures: Path, tmp_path: Path) -> None:
    path = pictures / "0.png"
    samples = [sample(path, "0"), sample(path, "1")]
    dataset = Sheets(pictures)
    cache = PixelCache(dataset, {path: sha256(path)}, 40, 32, tmp_path)
    cache.decode(samples)
    assert entries(tmp_path) == []
    want = np.stack([to_pixels(dataset.read_image(one), 40, 32) for one in samples])
    assert np.array_equal(cache.batch(samples), want)
    assert entries(tmp_path) == []
    draw(path, 99)
    with pytest.raises(DatasetError, match=r"0\.png changed after the run was planned"):
        PixelCache(dataset, {path: "0" * 64}, 40, 32, tmp_path).decode(samples)


def test_the_file_of_many_members_is_hashed_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures / "0.png"
    samples = [sample(path, str(number % 2)) for number in range(50)]
    cache = PixelCache(Sheets(pictures), content_hashes([one.image for one in samples]), 40, 32, tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(pixel_cache, "check_unchanged", lambda file, digest: read.append(file))
    cache.read(samples[0])
    cache.decode(samples)
    assert read == [path]


def test_an_unreadable_image_is_named_and_stops_the_decoding(pictures: Path, tmp_path: Path) -> None:
    (pictures / "3.png").write_bytes(b"no image")
    samples = samples_of(pictures)
    with pytest.raises(DatasetError, match=r"3\.png"):
        cache_of(Pictures(pictures), samples, tmp_path).decode(samples)


def test_threads_that_fail_at_once_say_so_once(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)

    @contextmanager
    def full(path: Path, durable: bool) -> Iterator[None]:
        together.wait(60)
        raise StoreError("no room")
        yield

    monkeypatch.setattr(pixel_cache, "atomic", full)
    monkeypatch.setattr(pixel_cache, "cores", lambda: 2)
    said: list[str] = []
    samples = samples_of(pictures)[:2]
    hashes = {one.image: sha256(one.image) for one in samples}
    PixelCache(Pictures(pictures), hashes, RESIZE, CROP, tmp_path / "cache", said.append).decode(samples)
    assert len(said) == 1 and "no room" in said[0]
