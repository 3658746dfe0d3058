from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from torchvision import transforms

from bench.errors import DatasetError
from bench.loading.images import MAX_PIXELS, PLAIN, peek_size, read_rgb, to_pixels, traits


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png16(path: Path, values: np.ndarray) -> None:
    """Write a PNG of 16 bits a channel, which PIL does not write in colour."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(png_of(width, height, zlib.compress(rows), depth=16))


def png_of(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_rgb_is_read_as_stored(tmp_path: Path) -> None:
    pixels = noise(7, 11)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_rgb(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)
    assert peek_size(tmp_path / "a.png") == (11, 7)


def test_grey_fills_three_channels(tmp_path: Path) -> None:
    grey = noise(5, 6)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), np.stack([grey] * 3, axis=2))


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([1, 0])
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "transparent.png", transparency=bytes([0, 128]))
    for name in ("a.png", "transparent.png"):
        assert np.asarray(read_rgb(tmp_path / name)).tolist() == [[[200, 100, 50], [10, 20, 30]]]


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    pixels = np.dstack([noise(4, 4), np.zeros((4, 4), np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), pixels[..., :3])


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("CMYK", "tif"), ("YCbCr", "tif"), ("LAB", "tif"), ("RGBA", "png"), ("P", "png"), ("PA", "tif")],
)
def test_colours_are_the_same_in_every_mode(tmp_path: Path, mode: str, suffix: str) -> None:
    flat = Image.new("RGB", (4, 3), (200, 100, 50))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    if mode == "LAB":
        made = ImageCms.profileToProfile(flat, *profiles, outputMode="LAB") or flat
    else:
        made = flat.quantize(2).convert(mode) if mode in ("P", "PA") else flat.convert(mode)
    made.save(tmp_path / f"a.{suffix}")
    found = np.asarray(read_rgb(tmp_path / f"a.{suffix}")).astype(int)
    assert np.abs(found - (200, 100, 50)).max() <= 2
    assert traits(read_rgb(tmp_path / f"a.{suffix}")) == PLAIN


def test_traits_say_what_the_pixels_do_not_show(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(6, 4))
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("turned.jpg", "turned.png", "turned.webp", "turned.tif"):
        picture.save(tmp_path / name, exif=turned)
    picture.save(tmp_path / "frames.tif", save_all=True, append_images=[picture, picture])
    picture.save(tmp_path / "frames.png", save_all=True, append_images=[Image.fromarray(noise(6, 4, 1))])
    holed = picture.convert("RGBA")
    holed.putpixel((1, 1), (9, 9, 9, 0))
    holed.save(tmp_path / "holed.png")
    picture.convert("RGBA").save(tmp_path / "opaque.png")
    Image.fromarray(np.array([[0, 2700]], np.uint16)).save(tmp_path / "twelve.png")
    Image.fromarray(np.array([[0, 200]], np.int32)).save(tmp_path / "eight.tif")
    png16(tmp_path / "colour.png", np.full((2, 2, 3), 3000, np.uint16))
    found = {path.name: traits(read_rgb(path)) for path in tmp_path.iterdir()}
    # a TIFF is turned by its decoder
    assert {name for name, own in found.items() if own.orientation == 6} == {"turned.jpg", "turned.png", "turned.webp"}
    assert read_rgb(tmp_path / "turned.tif").size == (6, 4) and read_rgb(tmp_path / "turned.png").size == (4, 6)
    assert {name for name, own in found.items() if own.frames > 1} == {"frames.tif", "frames.png"}
    assert {name: own.transparent for name, own in found.items() if own.transparent} == {"holed.png": round(1 / 24, 4)}
    peaks = {name: own.peak for name, own in found.items() if own.peak is not None}
    assert peaks == {"twelve.png": 2700, "eight.tif": 200, "colour.png": (3000 >> 8 << 8) + 255}
    assert found["opaque.png"] == PLAIN
    assert traits(read_rgb(tmp_path / "holed.png").crop((0, 0, 2, 2))) == found["holed.png"], "they go along"


def test_a_files_own_words_are_no_traits(tmp_path: Path) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("bench.traits", "orientation")
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png", pnginfo=words)
    assert traits(read_rgb(tmp_path / "a.png")) == PLAIN == traits(Image.new("RGB", (2, 2)))
    with Image.open(tmp_path / "a.png") as image:
        assert traits(image) == PLAIN


def test_sixteen_bit_grey_keeps_the_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tiff")
    for name in ("a.png", "a.tiff"):
        assert np.asarray(read_rgb(tmp_path / name))[0, :, 1].tolist() == [0, 0, 1, 156, 255]


@pytest.mark.parametrize("values", [np.array([[0.5, 0.25]], np.float32), np.array([[0, 70000]], np.int32)])
def test_values_without_an_agreed_range_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(DatasetError, match=r"a\.tiff.*no agreed brightness range.*8 bit"):
        read_rgb(tmp_path / "a.tiff")


def test_only_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(4, 4, seed)) for seed in (1, 2)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.tiff")), noise(4, 4, 1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
def test_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DatasetError, match=rf"cut\.{suffix}.*Expected a complete image file.*bench data verify"):
        read_rgb(path)


def test_flipped_byte_in_a_png_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    Image.fromarray(noise(64, 64)).save(path)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"IDAT") + 6  # inside the first deflate block's header
    raw[at] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(DatasetError, match=r"bad\.png.*cannot be read.*bench data verify"):
        read_rgb(path)


@pytest.mark.parametrize(
    ("content", "told"), [(b"", r"empty file \(0 bytes\)"), (b"<html>not found</html>", "not an image")]
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    for read in (read_rgb, peek_size):
        with pytest.raises(DatasetError, match=rf"odd\.png: .*{told}.*bench data verify"):
            read(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.png: no such file.*bench data verify"):
        read_rgb(tmp_path / "gone.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(DatasetError, match=rf"bomb\.png.*refused before decoding.*{MAX_PIXELS:,}"):
        read_rgb(tmp_path / "bomb.png")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    resize=st.integers(1, 64),
    cut=st.integers(0, 63),
    seed=st.integers(0, 9),
)
def test_pixels_equal_torchvisions_composition(height: int, width: int, resize: int, cut: int, seed: int) -> None:
    crop = max(1, resize - cut)
    image = Image.fromarray(noise(height, width, seed))
    papers = transforms.Compose(
        [transforms.Resize((resize, resize)), transforms.CenterCrop(crop), transforms.ToTensor()]
    )
    ours = to_pixels(image, resize, crop)
    assert ours.shape == (crop, crop, 3)
    assert ours.dtype == np.uint8
    assert torch.equal(torch.from_numpy(ours).permute(2, 0, 1).float().div(255), papers(image))


def test_pixels_can_be_written_to() -> None:
    assert to_pixels(Image.fromarray(noise(8, 8)), 8, 8).flags.writeable


def test_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="crop 9 is larger"):
        to_pixels(Image.fromarray(noise(8, 8)), 8, 9)
