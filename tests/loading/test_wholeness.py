"""Pictures whose data ends early although the decoder is content."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_tiffs import tiff
from PIL import Image

from bench.errors import DatasetError
from bench.loading.decoding import decode
from bench.loading.masks import read_mask_file

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(values: np.ndarray, colour: int, depth: int = 8, interlace: bool = False, share: float = 1.0) -> bytes:
    """A PNG with intact checksums of which only the first `share` of the bytes are there; values uint8 [H, W, C]."""
    height, width, _ = values.shape
    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    raw = b""
    for left, top, across, down in passes:
        part = values[top::down, left::across]
        if part.size:
            for row in part:
                bits = np.unpackbits(row[..., None], axis=-1)[..., 8 - min(depth, 8) :]
                wide = np.repeat(bits, depth // 8, axis=-1) if depth == 16 else bits
                raw += b"\0" + np.packbits(wide.ravel()).tobytes()
    data = zlib.compress(raw[: round(len(raw) * share)])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(48))) if colour == 3 else b""
    pieces = b"".join(chunk(b"IDAT", data[at : at + 100]) for at in range(0, len(data), 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + pieces + chunk(b"IEND", b"")


FORMS = [
    *((colour, depth) for colour in (0, 2, 4, 6) for depth in (8, 16)),
    *((3, depth) for depth in (1, 2, 4, 8)),
    *((0, depth) for depth in (1, 2, 4)),
]


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(("colour", "depth"), FORMS)
def test_a_png_that_ends_early_is_refused_and_a_whole_one_is_not(
    tmp_path: Path, colour: int, depth: int, interlace: bool
) -> None:
    values = np.random.default_rng(0).integers(1, 2 ** min(depth, 8), (13, 11, CHANNELS[colour]), dtype=np.uint8)
    for rows in (13, 9, 1):
        # black below, as masks and dark pictures are
        values[rows:] = 0
        (tmp_path / "x.png").write_bytes(png(values, colour, depth, interlace))
        assert decode(tmp_path / "x.png").image.size == (11, 13)
        for share in (0.34, 0.9):
            (tmp_path / "x.png").write_bytes(png(values, colour, depth, interlace, share))
            with pytest.raises(DatasetError, match=r"x\.png: cannot be read \((it ends early: \d+ %|.*truncated)"):
                decode(tmp_path / "x.png")
            with pytest.raises(DatasetError, match=r"x\.png: cannot be read"):
                read_mask_file(tmp_path / "x.png")


def test_a_png_that_ends_after_a_third_of_its_rows_is_not_read_with_the_rest_black(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 11, 3), dtype=np.uint8)
    (tmp_path / "x.png").write_bytes(png(values, 2, share=1 / 3))
    with Image.open(tmp_path / "x.png") as image:
        assert not np.asarray(image)[4:].any(), "its decoder does not mind"
    with pytest.raises(DatasetError, match=r"it ends early: 33 % of its pixels are there"):
        decode(tmp_path / "x.png")


def jpeg(mode: str, side: int, **options: object) -> bytes:
    values = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    values[side // 2 :] = 255
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"optimize": True}, {"restart_marker_blocks": 2}], ids=str)
def test_a_jpeg_whose_end_comes_too_early_is_refused(tmp_path: Path, mode: str, options: dict[str, object]) -> None:
    for side in (17, 40, 64):
        whole = jpeg(mode, side, **options)
        (tmp_path / "x.jpg").write_bytes(whole)
        decode(tmp_path / "x.jpg")
        start = whole.index(b"\xff\xda") + 14
        (tmp_path / "x.jpg").write_bytes(whole[: start + (len(whole) - start) // 3] + b"\xff\xd9")
        with pytest.raises(DatasetError, match=r"x\.jpg: cannot be read \(it ends early"):
            decode(tmp_path / "x.jpg")


def test_a_progressive_jpeg_and_one_with_words_behind_its_end_are_read(tmp_path: Path) -> None:
    for content in (jpeg("RGB", 40, progressive=True), jpeg("RGB", 40) + b"\xff\xd9 words \xff\xd9"):
        (tmp_path / "x.jpg").write_bytes(content)
        decode(tmp_path / "x.jpg")


@pytest.mark.parametrize("at", [20, 50, -20, -14, -6])
def test_a_flipped_bit_in_any_chunk_is_found_where_sums_are_asked_for(tmp_path: Path, at: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (13, 11, 3), dtype=np.uint8)
    raw = bytearray(png(values, 2))
    decoded = tmp_path / "x.png"
    decoded.write_bytes(raw)
    decode(decoded, sums=True)
    raw[at] ^= 1
    decoded.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"x\.png"):
        decode(decoded, sums=True)


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_that_lists_some_of_its_strips_is_refused_and_a_whole_one_is_not(tmp_path: Path, order: str) -> None:
    values = np.random.default_rng(0).integers(1, 255, (13, 11), dtype=np.uint8)
    (tmp_path / "whole.tif").write_bytes(tiff(values, order, rows=4))
    assert np.array_equal(np.asarray(decode(tmp_path / "whole.tif").image), values)
    (tmp_path / "part.tif").write_bytes(tiff(values, order, rows=4, t273=[8, 52], t279=[44, 44]))
    with pytest.raises(DatasetError, match="it ends early: 2 of 4 of its pieces are there"):
        decode(tmp_path / "part.tif")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "F", "I;16"])
def test_tiffs_as_pil_writes_them_are_whole(tmp_path: Path, mode: str, compression: str) -> None:
    if compression == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        pytest.skip("JPEG holds 8 bits a channel")
    for orientation in (1, 6):
        Image.new(mode, (700, 300)).save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
        assert decode(tmp_path / "a.tif").image.width == (700 if orientation == 1 else 300)
